"""The report as text: what is said, what is escaped, what is refused. How it looks is tested in
`tests/browser`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests import shapes
from text_recognizer.errors import RunError
from tuning.analysis import html
from tuning.analysis.run_data import RunData, facts_of
from tuning.run.environment import environment
from tuning.run.folder import RunFolder, create_run
from tuning.run.lock import locked
from tuning.run.reading import write_json, write_text
from tuning.space.reader import read_space
from tuning.study.database import sqlite_url
from tuning.study.optuna_record import create_record
from tuning.study.study import Study
from tuning.trials.trial import Epoch, Outcome, counts

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


def page_of(name: str, folder: Path) -> Page:
    return Page(
        html.write(RunFolder(folder), shapes.facts(name, folder)).read_text(encoding="utf-8")
    )


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_every_shape_of_a_search_has_a_report_in_which_nothing_is_taken_for_markup(
    name: str, tmp_path: Path
) -> None:
    page = page_of(name, tmp_path)
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert [attributes.get("id") for attributes in scripts] == ["figures", None, None], (
        "ours, and no other"
    )
    assert shapes.NASTY in page.text, "shown as it is"
    places = {attributes.get("id") for _, attributes in page.tags}
    assert set(page.figures) <= places, "every figure has its place"
    assert "NaN" not in json.dumps(page.figures)


def test_the_policy_lets_only_the_pages_own_scripts_run_and_nothing_be_fetched(
    tmp_path: Path,
) -> None:
    page = page_of("everything", tmp_path)
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


def test_what_was_found_is_said_in_one_sentence(tmp_path: Path) -> None:
    facts = shapes.facts("everything", tmp_path)
    best = facts.ranked[0]
    said = " ".join(page_of("everything", tmp_path).text.split())
    assert (
        f"Of 30 trials on Digits, trial {best.trial.number} is best: val_acc {best.value:.4f} at epoch"
        in said
    )
    assert "none can be called best" in " ".join(page_of("all diverged", tmp_path).text.split())
    running = " ".join(page_of("none finished", tmp_path).text.split())
    assert "No trial has ended yet with a value that counts." in running
    assert re.search(r"Trial 0, which has not ended yet, is at 0\.\d{4} already", running)
    assert "Of 1 trial on Digits" in " ".join(page_of("one trial", tmp_path).text.split())
    assert "Trials 1, 2, 3, 4, 5 and others came to the same value" in " ".join(
        page_of("ties", tmp_path).text.split()
    )


def test_only_the_page_of_a_running_search_reloads_itself(tmp_path: Path) -> None:
    for name in QUICK:
        body = next(attributes for tag, attributes in page_of(name, tmp_path).tags if tag == "body")
        assert ("data-reload" in body) == (shapes.shape(name)[0] == "running")


def test_the_seeds_spread_is_set_against_the_winners_lead(tmp_path: Path) -> None:
    facts = shapes.facts("everything", tmp_path)
    assert facts.final is not None
    alone = replace(facts, final=facts.final.model_copy(update={"candidates": []}))
    said = Page(html.write(RunFolder(tmp_path), alone).read_text(encoding="utf-8")).text
    assert "is smaller than what the seed alone changes" in said
    assert "read 2 times for this run: a choice among these results would fool you" in said


def test_the_numbers_are_plain_json(tmp_path: Path) -> None:
    for name in QUICK:
        found = json.loads(json.dumps(html.numbers(shapes.facts(name, tmp_path)), allow_nan=False))
        assert len(found["trials"]) == len(shapes.shape(name)[1])


def test_a_checkpoint_that_was_lost_does_not_lead_the_board(tmp_path: Path) -> None:
    facts = shapes.facts("everything", tmp_path)
    second = facts.ranked[1]
    facts.summary["best"] = second.as_plain()
    assert facts.ranked[0].trial.number == second.trial.number, (
        "the one that was handed over comes first"
    )


@pytest.fixture
def run(tmp_path: Path, empty_database: Path) -> tuple[RunFolder, Study]:
    """Six trials, one for each outcome, and the summary as it was before the last of them."""
    (tmp_path / "space.yaml").write_text(SPACE)
    space = read_space(tmp_path / "space.yaml")
    folder = create_run(tmp_path / "runs", "r", "r")
    write_text(folder.space, space.as_yaml())
    shutil.copy(empty_database, folder.study)
    study = Study(create_record(sqlite_url(folder.study), space, "r"), space, trials=6, retries=0)
    for outcome in Outcome:
        trial = study.next_trial()
        assert trial is not None
        study.record_epoch(trial.number, Epoch(1, {"val_acc": 0.5}, time=1.0))
        study.close(trial.number, outcome, f"<b>cause of {outcome}</b>")
    summary = {
        "status": "running",
        "stop_reason": None,
        "best": None,
        "counts": {},
        "epochs_trained": 0,
        "warnings": [],
    }
    rest = {
        "name": "r",
        "data_class": "Digits",
        "metric": "val_acc",
        "wall_time_s": 1.0,
        "seed": 0,
        "resources": {},
    }
    write_json(folder.summary, summary | rest | {"mode": "max", "sha256": {}})
    write_json(folder.environment, environment())
    return folder, study


def test_t4_the_report_names_the_widths_that_did_not_fit(run: tuple[RunFolder, Study]) -> None:
    folder, study = run
    text = html.write(folder).read_text()
    trial = next(trial for trial in study.trials if trial.outcome == Outcome.OUT_OF_MEMORY)
    row = next(row for row in text.split("<tr") if "out of memory" in row and "cause of" in row)
    assert f">{trial.params['fc1']}<" in row
    assert "&lt;b&gt;cause of out_of_memory&lt;/b&gt;" in row, "escaped"


def test_its_counts_are_those_of_the_study_whatever_the_summary_missed(
    run: tuple[RunFolder, Study],
) -> None:
    folder, study = run
    found = html.content(facts_of(folder))["summary"]
    assert found["counts"] == counts(study.trials) == {**dict.fromkeys(Outcome, 1), "running": 0}
    assert found["epochs_trained"] == 6


@pytest.mark.parametrize("file", ["search.yaml", "summary.json", "environment.json"])
@pytest.mark.parametrize(
    "text", ["space: [", "{}", "[]", '{"warnings": 1, "status": 2, "classes": "<script>"}']
)
def test_a_damaged_run_has_no_report_and_no_traceback(
    file: str, text: str, run: tuple[RunFolder, Study]
) -> None:
    folder, _ = run
    folder.final.mkdir()
    (folder.path / file).write_text(text)
    with pytest.raises(RunError, match=r"damaged|must hold"):
        html.write(folder)


@pytest.mark.parametrize("file", ["best_validation.json", "final/metrics.json"])
@pytest.mark.parametrize("text", ["{}", "[", '{"classes": "<script>"}'])
def test_what_a_report_can_do_without_is_left_out_where_it_is_damaged_and_that_is_said(
    file: str, text: str, run: tuple[RunFolder, Study]
) -> None:
    folder, _ = run
    folder.final.mkdir()
    (folder.path / file).write_text(text)
    assert f"left out: {folder.path / file}" in Page(html.write(folder).read_text()).text


def test_a_killed_search_is_not_called_running_unless_somebody_holds_it(
    run: tuple[RunFolder, Study],
) -> None:
    folder, _ = run
    assert facts_of(folder).summary["status"] == "killed"
    page = Page(html.write(folder).read_text())
    assert "reloads itself" not in page.text
    with locked(folder):
        assert facts_of(folder).live


def test_it_is_made_without_torch_ray_and_data(run: tuple[RunFolder, Study]) -> None:
    code = "import sys\nfrom tuning.report import main\nmain()\nprint({'torch', 'ray'} & set(sys.modules))"
    made = subprocess.run(
        [sys.executable, "-c", code, str(run[0].path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert made.stdout.splitlines()[-1] == "set()"
    assert run[0].report.exists()


def test_a_live_report_is_written_only_as_often_as_its_cost_allows(tmp_path: Path) -> None:
    live = html.LiveReport(RunFolder(tmp_path))
    asked: list[int] = []

    def facts() -> RunData:
        asked.append(1)
        return shapes.facts("in full swing", tmp_path)

    live.write(facts)
    live.write(facts)
    assert len(asked) == 1
