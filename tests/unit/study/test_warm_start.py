"""A new search that learns from an older run: which trials it takes, and that they are none of
its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from text_recognizer.errors import InputError, RunError
from training.settings import RUN_DEFAULTS
from tuning.run.folder import RunFolder, create_run
from tuning.run.reading import write_text
from tuning.space.reader import read_space
from tuning.study.optuna_record import create_record, load_record
from tuning.study.storage import sqlite_url
from tuning.study.study import Study
from tuning.study.warm_start import read_warm_start
from tuning.trials.trial import Epoch, Outcome

OLD = """
experiment: {data_class: Digits}
space:
  optimizer: {type: categorical, choices: [Adam, SGD]}
  momentum: {type: float, low: 0, high: 0.9, when: {optimizer: SGD}}
  fc1: {type: int, low: 8, high: 64}
search: {trials: 6, max_epochs: 3, sampler: random}
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> RunFolder:
    """Six trials: one failed, one out of memory, the others complete; good where fc1 is large."""
    folder = create_run(tmp_path_factory.mktemp("ended") / "runs", "old", "old")
    write_text(folder.space, OLD)
    space = read_space(folder.space)
    write_text(folder.space, space.as_yaml())
    shutil.copy(empty_database, folder.study)
    study = Study(create_record(sqlite_url(folder.study), space, "old"), space, trials=6)
    while trial := study.next_trial():
        study.record_epoch(trial.number, Epoch(1, {"val_acc": trial.params["fc1"] / 64}, time=1.0))
        outcome = {0: Outcome.STALLED, 1: Outcome.OUT_OF_MEMORY}.get(trial.number, Outcome.COMPLETE)
        study.close(trial.number, outcome, "why")
    return folder


@pytest.fixture
def old(ended: RunFolder, tmp_path: Path) -> RunFolder:
    """The test's own copy of that run."""
    return RunFolder(Path(shutil.copytree(ended.path, tmp_path / "runs/old")))


def test_the_sampler_sees_the_older_trials_and_the_search_does_not(
    old: RunFolder, database: Path, space_file: Callable[[str], Path]
) -> None:
    url = f"sqlite:///{database}"
    space = read_space(
        space_file(OLD.replace("trials: 6", "trials: 2, start_with: [{optimizer: Adam, fc1: 9}]"))
    )
    earlier = read_warm_start(old.path, space, RUN_DEFAULTS)
    study = Study(create_record(url, space, "new", earlier.trials), space, trials=2)
    assert study.trials == []
    numbers = [trial.number for trial in (study.next_trial(), study.next_trial()) if trial]
    assert numbers == [5, 6], "numbered on from the five that ended without failing"
    assert study.trial(5).params == {"optimizer": "Adam", "fc1": 9}
    assert study.next_trial() is None
    record = load_record(url, "new").get_trials()
    assert [trial.state.name for trial in record[:5]] == [
        "PRUNED",
        "COMPLETE",
        "COMPLETE",
        "COMPLETE",
        "COMPLETE",
    ]
    assert record[0].constraints == {"memory": 1.0}
    assert [trial.user_attrs["earlier_run"] for trial in record[:5]] == ["old"] * 5
    again = Study(load_record(url, "new"), space, trials=3)
    assert [trial.number for trial in again.trials] == [5, 6]
    assert [again.next_trial().number for _ in range(3)] == [5, 6, 7]  # type: ignore[union-attr]


def test_only_trials_inside_of_the_new_space_are_taken(
    old: RunFolder, space_file: Callable[[str], Path]
) -> None:
    every = read_warm_start(old.path, read_space(space_file(OLD)), RUN_DEFAULTS)
    narrow = read_warm_start(
        old.path,
        read_space(space_file(OLD.replace("low: 8, high: 64", "low: 30, high: 64"))),
        RUN_DEFAULTS,
    )
    assert (len(every.trials), every.ended) == (5, 5)
    assert 0 < len(narrow.trials) < 5
    assert all(trial.params["fc1"] >= 30 for trial in narrow.trials)
    assert f"learns from {len(narrow.trials)} of the 5 ended trials of old" in str(narrow)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (("search: {", "search: {metric: val_loss, "), "search.metric"),
        (("data_class: Digits", "data_class: MNIST"), "data_class"),
        (
            ("fc1: {type: int, low: 8, high: 64}", "fc2: {type: int, low: 8, high: 64}"),
            "inside of this space",
        ),
    ],
)
def test_a_run_that_cannot_be_compared_is_refused(
    change: tuple[str, str], rule: str, old: RunFolder, space_file: Callable[[str], Path]
) -> None:
    with pytest.raises(InputError, match=rule):
        read_warm_start(old.path, read_space(space_file(OLD.replace(*change))), RUN_DEFAULTS)


def test_a_run_that_is_none_or_damaged_is_refused(
    old: RunFolder, space_file: Callable[[str], Path], tmp_path: Path
) -> None:
    space = read_space(space_file(OLD))
    with pytest.raises(InputError, match="a run folder"):
        read_warm_start(tmp_path / "nothing", space, RUN_DEFAULTS)
    old.study.unlink()
    with pytest.raises(RunError, match=r"no such file\. The run is damaged"):
        read_warm_start(old.path, space, RUN_DEFAULTS)
