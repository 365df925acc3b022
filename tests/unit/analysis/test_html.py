"""The report as text: what it says, escapes and refuses. `tests/browser` tests how it looks."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests import shapes
from text_recognizer.errors import RunError
from tuning.analysis import html
from tuning.analysis.run_data import RunData, read_run_data
from tuning.run.files import BestTrial
from tuning.run.folder import RunFolder, create_run
from tuning.run.lock import locked
from tuning.run.reading import write_model, write_text
from tuning.space.reader import read_space
from tuning.study.optuna_record import create_record
from tuning.study.storage import sqlite_url
from tuning.study.study import Study
from tuning.trials.trial import Epoch, Outcome

# the browser tests draw 500 trials: too slow here
QUICK = [name for name in shapes.SHAPES if name != "500 trials"]
ROOT = Path(__file__).resolve().parents[3]
SPACE = """
experiment: {data_class: Digits}
space:
  fc1: {type: int, low: 8, high: 4096}
search: {trials: 6, max_epochs: 3, sampler: random}
"""


class Page(HTMLParser):
    """Tags, visible text, and the figures of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.figures: dict[str, Any] = {}
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(dict(attrs).get("id") or tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text += data
        elif self._inside[-1] == "figures":
            self.figures = json.loads(data)


def read_page(run: RunData) -> Page:
    return Page(html.write_report(run).read_text(encoding="utf-8"))


PageOf = Callable[[str], Page]


@pytest.fixture(scope="module")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> PageOf:
    """The page of a shape, written once for all tests."""
    return cache(lambda name: read_page(shapes.run_data(name, tmp_path_factory.mktemp("page"))))


def said(page: Page) -> str:
    """The page's text, with single blanks."""
    return " ".join(page.text.split())


@pytest.mark.parametrize("name", QUICK)
def test_every_shape_of_a_search_has_a_report_in_which_nothing_is_taken_for_markup(
    name: str, page_of: PageOf
) -> None:
    page = page_of(name)
    scripts = [attributes.get("id") for tag, attributes in page.tags if tag == "script"]
    assert scripts == ["figures", None, None], "ours, and no other"
    assert shapes.NASTY in page.text, "shown as it is"
    assert set(page.figures) <= {attributes.get("id") for _, attributes in page.tags}, (
        "every figure has its place"
    )
    body = next(attributes for tag, attributes in page.tags if tag == "body")
    assert ("data-reload" in body) == (shapes.shape(name)[0] == "running")


def test_the_policy_lets_only_the_pages_own_scripts_run_and_nothing_be_fetched(
    page_of: PageOf,
) -> None:
    page = page_of("everything")
    policy = next(
        a["content"] or ""
        for tag, a in page.tags
        if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")
    script = policy.split("script-src ")[1].split(";")[0]
    assert script.count("'sha256-") == 2
    assert "unsafe" not in script
    references = [
        value
        for tag, a in page.tags
        for key, value in a.items()
        if key in ("src", "href") and tag != "a"
    ]
    assert all(value and value.startswith("data:") for value in references)


def test_the_result_is_said_in_one_sentence(page_of: PageOf, tmp_path: Path) -> None:
    best = shapes.run_data("everything", tmp_path).ranked[0]
    assert (
        f"Of 30 trials on Digits, trial {best.trial.number} is best: val_acc {best.value:.4f} at "
        "epoch"
    ) in said(page_of("everything"))
    assert "none produced a usable result" in said(page_of("all diverged"))
    assert "Of 1 trial on Digits" in said(page_of("one trial"))
    assert "Trials 1, 2, 3, 4, 5 and others reached the same value" in said(page_of("ties"))
    running = said(page_of("none finished"))
    assert "No trial has produced a result yet." in running
    assert re.search(r"Trial 0 has not ended yet and is already at 0\.\d{4}\.", running)


def test_it_warns_of_choosing_between_test_results(page_of: PageOf) -> None:
    assert "read 2 times for this run. Do not choose between" in said(page_of("everything"))


@pytest.mark.parametrize("name", ["nothing begun", "all diverged", "everything"])
def test_the_numbers_are_plain_json(name: str, tmp_path: Path) -> None:
    run = shapes.run_data(name, tmp_path)
    found = json.loads(html.as_json(run), parse_constant=pytest.fail)
    assert len(found["trials"]) == len(run.trials)


def test_the_exported_trial_leads_the_board_even_if_a_better_one_lost_its_checkpoint(
    tmp_path: Path,
) -> None:
    run = shapes.run_data("everything", tmp_path)
    second = run.ranked[1]
    best = BestTrial.of(second)
    again = replace(run, summary=run.summary.model_copy(update={"best": best}))
    assert html.leaderboard(again)[0]["number"] == second.trial.number


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> tuple[RunFolder, Study]:
    """A run of six trials, one for each outcome, killed before the last summary was written."""
    folder = create_run(tmp_path_factory.mktemp("runs"), "r", "r")
    write_text(folder.space, SPACE)
    space = read_space(folder.space)
    write_text(folder.space, space.as_yaml())
    shutil.copy(empty_database, folder.study)
    study = Study(create_record(sqlite_url(folder.study), space, "r"), space, trials=6, retries=0)
    for outcome in Outcome:
        trial = study.next_trial()
        assert trial is not None
        study.record_epoch(trial.number, Epoch(1, {"val_acc": 0.5}, time=1.0))
        study.close(trial.number, outcome, f"<b>cause of {outcome}</b>")
    empty = shapes.run_data("nothing begun", folder.path)
    write_model(folder.summary, empty.summary)
    write_model(folder.environment, empty.environment)
    return folder, study


@pytest.fixture
def run(finished: tuple[RunFolder, Study], tmp_path: Path) -> tuple[RunFolder, Study]:
    """The test's own copy of that run, and its study."""
    folder, study = finished
    return RunFolder(Path(shutil.copytree(folder.path, tmp_path / "r"))), study


def test_t4_the_report_names_the_widths_that_did_not_fit(run: tuple[RunFolder, Study]) -> None:
    folder, study = run
    text = html.write_report(read_run_data(folder)).read_text()
    trial = next(trial for trial in study.trials if trial.outcome == Outcome.OUT_OF_MEMORY)
    row = next(row for row in text.split("<tr") if "out of memory" in row and "cause of" in row)
    assert f">{trial.params['fc1']}<" in row
    assert "&lt;b&gt;cause of out_of_memory&lt;/b&gt;" in row, "escaped"


def test_a_killed_search_is_shown_as_its_study_has_it(run: tuple[RunFolder, Study]) -> None:
    folder, _ = run
    found = read_run_data(folder)
    assert found.summary.status == "killed"
    assert found.summary.counts == {**dict.fromkeys(Outcome, 1), "running": 0, "waiting": 0}
    assert found.summary.epochs_trained == 6
    assert "reloads itself" not in read_page(found).text
    with locked(folder):
        assert read_run_data(folder).live


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("search.yaml", "space: ["),
        ("search.yaml", "{}"),
        ("summary.json", "["),
        ("summary.json", "{}"),
        ("environment.json", "[]"),
    ],
)
def test_a_damaged_run_has_no_report_and_no_traceback(
    file: str, text: str, run: tuple[RunFolder, Study]
) -> None:
    folder, _ = run
    (folder.path / file).write_text(text)
    with pytest.raises(RunError, match=r"damaged|must hold"):
        html.write_report(read_run_data(folder))


def test_damaged_files_that_a_report_can_do_without_are_left_out_and_named(
    run: tuple[RunFolder, Study],
) -> None:
    folder, _ = run
    folder.final.mkdir()
    for path in (folder.validation, folder.final / "metrics.json"):
        for text in ("{}", "[", '{"classes": "<script>"}'):
            path.write_text(text)
            assert f"left out: {path}" in read_run_data(folder).damaged[-1]
    page = read_page(read_run_data(folder))
    assert page.text.count("left out: ") == 2


def test_a_live_report_is_written_only_as_often_as_its_cost_allows(tmp_path: Path) -> None:
    live = html.LiveReport()
    asked: list[int] = []

    def read() -> RunData:
        asked.append(1)
        return shapes.run_data("none finished", tmp_path)

    live.write(read)
    live.write(read)
    assert len(asked) == 1
