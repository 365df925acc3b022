"""`report.html` as it is seen: every shape of a search, light and dark, narrow and wide, on
paper, and while it is rewritten.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests import shapes
from tests.browser.conftest import Open
from tuning.analysis import html

PHONE = 390


def written(name: str, folder: Path) -> str:
    """The report of a shape, as an address."""
    return html.write_report(shapes.run_data(name, folder)).as_uri()


def drawn(page: Page) -> int:
    """Waits until every plot is drawn; how many there are."""
    page.wait_for_selector("body[data-drawn]")
    return int(page.get_attribute("body", "data-drawn") or 0)


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_every_shape_is_drawn_whole_wide_and_narrow_light_and_dark(
    name: str, window: Open, tmp_path: Path, pictures: Path | None
) -> None:
    run = shapes.run_data(name, tmp_path)
    page = window()
    page.goto(html.write_report(run).as_uri())
    places = page.eval_on_selector("#figures", "data => Object.keys(JSON.parse(data.textContent))")
    assert drawn(page) == len(places)
    assert ("curves" in places) == any(trial.epochs for trial in run.trials)
    assert page.locator("h1").inner_text() == f"{name} {shapes.NASTY}"
    assert page.locator("#leaderboard tbody tr").count() == len(run.trials)
    fits(page, places)
    if pictures:
        page.screenshot(path=pictures / f"{name.replace(' ', '-')}.png", full_page=True)
    page.set_viewport_size({"width": PHONE, "height": 800})
    page.emulate_media(color_scheme="dark")
    fits(page, places)
    if pictures:
        page.screenshot(path=pictures / f"{name.replace(' ', '-')}-phone.png", full_page=True)


def fits(page: Page, places: list[str]) -> None:
    """Something is drawn in every plot, and nothing sticks out at the side."""
    for place in places:
        plot = page.locator(f"#{place} svg.main-svg").first
        plot.wait_for()
        box = plot.bounding_box()
        assert box is not None
        assert box["width"] > 150
        assert box["height"] > 80
        assert page.locator(f"#{place} .trace").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_it_opens_on_a_phone(window: Open, tmp_path: Path) -> None:
    page = window(PHONE, "dark")
    page.goto(written("everything", tmp_path))
    assert drawn(page) > 5
    widths = page.evaluate(
        "[...document.querySelectorAll('.plot:not(.wide)')].map((plot) => plot.getBoundingClientRect().width)"
    )
    assert max(widths) < PHONE
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def brightness(page: Page, style: str) -> float:
    """Of a colour of the body, from 0 to 1."""
    colour = page.evaluate(
        f"getComputedStyle(document.body).{style}.match(/[0-9.]+/g).slice(0, 3).map(Number)"
    )
    return float(sum(colour)) / (3 * 255)


def test_dark_is_dark_and_paper_is_white(window: Open, tmp_path: Path) -> None:
    page = window(scheme="dark")
    page.goto(written("everything", tmp_path))
    drawn(page)
    assert brightness(page, "backgroundColor") < 0.2 < 0.8 < brightness(page, "color")
    ink = page.evaluate(
        "getComputedStyle(document.querySelector('#curves .xtick text')).fill.match(/[0-9.]+/g).map(Number)"
    )
    assert min(ink[:3]) > 200, "the plots' text can be read, too"
    page.emulate_media(media="print")
    assert brightness(page, "color") < 0.2 < 0.8 < brightness(page, "backgroundColor")


def column(page: Page, name: str) -> list[str]:
    """The cells of one column of the leaderboard, as they stand."""
    heads = [head.strip(" ▲▼") for head in page.locator("#leaderboard thead th").all_inner_texts()]
    return page.locator(
        f"#leaderboard tbody td:nth-child({heads.index(name) + 1})"
    ).all_inner_texts()


def test_the_leaderboard_is_sorted_by_a_click_and_stays_so_over_a_reload(
    window: Open, tmp_path: Path
) -> None:
    page = window()
    page.goto(written("in full swing", tmp_path))
    drawn(page)
    board = page.locator("#leaderboard thead")
    values = [value for value in column(page, "val_acc") if value]
    assert [text for text in column(page, "rank") if text] == [str(n + 1) for n in range(27)], (
        "the best comes first"
    )
    for clicks in (1, 2):
        board.get_by_role("button", name="val_acc").click()
        found = column(page, "val_acc")
        assert [value for value in found if value] == sorted(values, key=float, reverse=clicks == 2)
        assert found[-1] == "", "what has no value is last either way"
    board.get_by_role("button", name="fc1").click()
    by_width = column(page, "fc1")
    assert by_width == sorted(by_width, key=int), "as numbers, not as text"
    page.reload()
    drawn(page)
    assert column(page, "fc1") == by_width
    assert page.locator("#leaderboard th[aria-sort=ascending]").inner_text().startswith("fc1")


def test_it_prints_on_paper_with_nothing_cut_off(
    window: Open, tmp_path: Path, pictures: Path | None
) -> None:
    page = window(scheme="dark")
    page.goto(written("everything", tmp_path))
    drawn(page)
    printed = page.pdf(path=pictures / "report.pdf" if pictures else None, format="A4")
    assert printed.startswith(b"%PDF")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 less its margins
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(
        "[...document.querySelectorAll('.main-svg')].every((plot) => plot.getBoundingClientRect().right <= window.innerWidth)"
    )


def test_the_page_of_a_running_search_reloads_itself_until_the_search_has_ended(
    window: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "LIVE_EVERY_S", 0.5)
    page = window()
    page.goto(written("none finished", tmp_path))
    page.get_by_text("No trial has produced a result yet").wait_for()
    written("in full swing", tmp_path)
    page.get_by_text("So far, of 32 trials on Digits").wait_for()
    written("everything", tmp_path)
    page.get_by_text("Of 30 trials on Digits").wait_for()
    assert page.get_attribute("body", "data-reload") is None


def test_a_reader_never_sees_half_a_page_while_it_is_rewritten(
    window: Open, tmp_path: Path
) -> None:
    page = window()
    address = written("in full swing", tmp_path)
    done = threading.Event()

    def rewrite() -> None:
        while not done.is_set():
            written("in full swing", tmp_path)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for _ in range(5):
            page.goto(address)
            assert drawn(page) > 5
            assert page.locator("details").count() == 1, "the end of the page is there"
    finally:
        done.set()
        writer.join()
