"""The pictures of README.md and docs, taken of a real search: `make pictures` writes docs/images/."""

from __future__ import annotations

import html
import io
import re
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import FLAGS, NAMES
from tests.browser.terminal import ROOT, Terminal

TARGET = ROOT / "docs" / "images"
COLUMNS = 112
WIDTH = 1100
NAME = "mlp-digits"
COLOURS = {
    "1": "font-weight:bold",
    "2": "opacity:0.65",
    "31": "color:#ff7b72",
    "32": "color:#7ee787",
    "33": "color:#e3b341",
    "36": "color:#79c0ff",
}


def main() -> None:
    """Search on Digits in a terminal, take its picture in the middle, then the report's."""
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        path = next(found for name in NAMES if (found := shutil.which(name)))
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        search = [
            str(ROOT / "tuning/search.py"),
            "--space",
            str(ROOT / "search_spaces/mlp.yaml"),
            "--data-class",
            "Digits",
        ]
        terminal = Terminal(
            [*search, "--gpus-per-trial", "0.5", "--name", NAME],
            Path(place),
            columns=COLUMNS,
            rows=28,
        )
        try:
            terminal.wait_for(r"[89]\d of 120 epochs trained")
            console(browser, terminal.screen(colours=True))
            terminal.wait_for(r"retrain: python")
        finally:
            terminal.close()
        page = Path(place) / "runs" / NAME / "report.html"
        for scheme in ("light", "dark"):
            report(browser, page, scheme)
        curves(browser, page)
        browser.close()


def console(browser: Browser, screen: str) -> None:
    """The terminal's screen as it was, colours and all."""
    page = browser.new_page(viewport={"width": 940, "height": 300}, device_scale_factor=1.5)
    style = "margin:0;padding:14px;background:#0d1117;color:#e6edf3;font:13px/1.35 monospace;width:max-content"
    page.set_content(f"<pre id=screen style='{style}'>{as_html(screen.rstrip())}</pre>")
    save(page.locator("#screen").screenshot(), "console.png")


def as_html(screen: str) -> str:
    """Text with a terminal's colours as a page."""
    parts = re.split(r"\x1b\[([\d;]*)m", screen)
    found = [html.escape(parts[0])]
    style: dict[str, str] = {}  # a code adds to those before it
    for codes, text in zip(parts[1::2], parts[2::2], strict=True):
        for code in codes.split(";"):
            if code in ("", "0"):
                style.clear()
            elif code == "39":
                style.pop("color", None)
            elif code in COLOURS:
                name, value = COLOURS[code].split(":")
                style[name] = value
        rules = ";".join(f"{name}:{value}" for name, value in style.items())
        found.append(f"<span style='{rules}'>{html.escape(text)}</span>")
    return "".join(found)


def report(browser: Browser, path: Path, scheme: str) -> None:
    """The upper part of the report."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 1500}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-drawn]")
    save(
        page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": 1500}),
        f"report-{scheme}.png",
    )


def curves(browser: Browser, path: Path) -> None:
    """The learning curves with the rungs, for docs/search.md."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 900})
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-drawn]")
    save(page.locator("#curves").screenshot(), "search.png")


def save(picture: bytes, name: str) -> None:
    """A small PNG: so few colours need no more than a palette."""
    TARGET.mkdir(parents=True, exist_ok=True)
    Image.open(io.BytesIO(picture)).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(
        TARGET / name, optimize=True
    )


if __name__ == "__main__":
    main()
