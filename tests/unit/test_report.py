"""The report of a run in which trials ended in every way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from text_recognizer.errors import RunError
from tuning import report
from tuning.environment import environment
from tuning.record import create_record, sqlite_url
from tuning.results import Epoch, Outcome, counts
from tuning.run_folder import RunFolder, create_run, write_json, write_text
from tuning.space import read_space
from tuning.study import Study

SPACE = """
experiment: {data_class: Digits}
space:
  fc1: {type: int, low: 8, high: 4096}
search: {trials: 6, max_epochs: 3, sampler: random}
"""


@pytest.fixture
def run(tmp_path: Path, space_file: Callable[[str], Path]) -> tuple[RunFolder, Study]:
    """Six trials, one for each outcome, and the summary as it was before the last of them."""
    space = read_space(space_file(SPACE))
    folder = create_run(tmp_path / "runs", "r", "r")
    write_text(folder.space, space.as_yaml())
    study = Study(create_record(sqlite_url(folder.study), space, "r"), space, trials=6, retries=0)
    for outcome in Outcome:
        trial = study.next_trial()
        assert trial is not None
        study.record_epoch(trial.number, Epoch(1, {"val_acc": 0.5}, time=1.0))
        study.close(trial.number, outcome, f"<b>cause of {outcome}</b>")
    summary = {"status": "running", "stop_reason": None, "best": None, "counts": {}, "epochs_trained": 0, "warnings": []}
    rest = {"name": "r", "data_class": "Digits", "metric": "val_acc", "wall_time_s": 1.0, "seed": 0, "resources": {}}
    write_json(folder.summary, summary | rest | {"mode": "max"})
    write_json(folder.environment, environment())
    return folder, study


def test_t4_the_report_names_the_widths_that_did_not_fit(run: tuple[RunFolder, Study]) -> None:
    folder, study = run
    text = report.write(folder).read_text()
    trial = next(trial for trial in study.trials if trial.outcome == Outcome.OUT_OF_MEMORY)
    row = next(row for row in text.split("<tr") if "out of memory" in row and "cause of" in row)
    assert f">{trial.params['fc1']}<" in row
    assert "&lt;b&gt;cause of out_of_memory&lt;/b&gt;" in row, "escaped"


def test_its_counts_are_those_of_the_study_whatever_the_summary_missed(run: tuple[RunFolder, Study]) -> None:
    folder, study = run
    found = report.content(folder)["summary"]
    assert found["counts"] == counts(study.trials) == {**dict.fromkeys(Outcome, 1), "running": 0}
    assert found["epochs_trained"] == 6


def test_a_damaged_run_has_no_report(run: tuple[RunFolder, Study]) -> None:
    folder, _ = run
    folder.space.write_text("space: [")
    with pytest.raises(RunError, match="changed or is damaged"):
        report.write(folder)
