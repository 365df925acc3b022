"""Whole searches on a real local Ray with a formula in place of training: many trials in seconds, and real faults."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuning import engine
from tuning.reporting import Report, newest_valid, stall_log, to_its_end
from tuning.resources import Slots
from tuning.results import Outcome, Trial, ranking
from tuning.space import read_space
from tuning.study import Study, create_record, load_record

pytestmark = pytest.mark.usefixtures("cluster")

SPACE = """
space:
  x: {type: float, low: 0, high: 1}
search: {trials: TRIALS, max_epochs: 9, asha: {reduction_factor: 3}}
"""


def value(x: float, epoch: int) -> float:
    """A learning curve: better near x = 0.7, and with every epoch."""
    return (1 - abs(x - 0.7)) * (1 - 0.5**epoch)


def formula(config: dict[str, Any], *, folder: Path, fault: str = "") -> None:
    """A trial that keeps checkpoints and acknowledges each epoch after its report has returned."""
    log = stall_log(folder / "logs", config["number"])
    to_its_end(lambda report: curve(config, folder, fault, report), stall_limit=2 if fault.startswith("hangs") else 600, log=log)


def curve(config: dict[str, Any], folder: Path, fault: str, report: Report) -> None:
    number, x = config["number"], config["params"]["x"]
    checkpoint = newest_valid(config["history"])
    first = json.loads(checkpoint.read_text())["epoch"] + 1 if checkpoint else 1
    for epoch in range(first, 10):
        break_down(fault, folder, number, epoch)
        path = folder / f"{number}-{epoch}.json"
        path.write_text(json.dumps({"epoch": epoch}))
        score = math.nan if fault == "nan" and number == 1 else value(x, epoch)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        report({"epoch": epoch, "val_acc": score, "checkpoint": str(path), "sha256": digest})
        with (folder / f"acknowledged-{number}").open("a") as file:
            file.write(f"{epoch} {score} {os.getpid()}\n")


def break_down(fault: str, folder: Path, number: int, epoch: int) -> None:
    """Fail in trial 0 (the first in its rungs, so that ASHA never stops it first) before epoch 4 is over."""
    marker = folder / "broke"
    once = number == 0 and epoch == 4 and not marker.exists()
    if fault == "raises once" and once:
        marker.touch()
        raise ValueError("a bad\nday")
    if fault == "raises always" and number == 0 and epoch == 4:
        raise ValueError(f"a bad day in process {os.getpid()}")
    if fault == "killed once" and once:
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hangs" and once:
        marker.touch()
        threading.Event().wait()
    if fault == "all alike":
        raise ImportError("no module named torch")


Search = Callable[..., Study]


@pytest.fixture
def search(tmp_path: Path, space_file: Callable[[str], Path], database: Path) -> Search:
    """Run a search with a fault; then the checks that hold after any search."""

    def run(fault: str = "", *, trials: int = 8, slots: int = 2, name: str = "formula") -> Study:
        space = read_space(space_file(SPACE.replace("TRIALS", str(trials))))
        url = f"sqlite:///{database}"
        study = Study(create_record(url, space, name), space, trials=trials)
        folder = tmp_path / name
        folder.mkdir()
        shared = {"folder": folder, "fault": fault}
        engine.run_study(
            study,
            formula,
            Slots(slots, 1, 0),
            tmp_path / "ray",
            logs=folder / "logs",
            name=name,
            interrupt=engine.Interrupt(),
            daemons=engine.Daemons(),
            shared=shared,
        )
        recorded = Study(load_record(url, name), space, trials=trials)
        assert str(recorded.trials) == str(study.trials), "what is in memory is what is on disk"
        check(recorded, folder)
        return recorded

    return run


def check(study: Study, folder: Path) -> None:
    """Nothing acknowledged is lost, nothing is recorded twice, every trial has one outcome."""
    for trial in study.trials:
        assert trial.outcome is not None
        epochs = [epoch.epoch for epoch in trial.epochs]
        assert epochs == list(range(1, len(epochs) + 1))
        path = folder / f"acknowledged-{trial.number}"
        acknowledged = [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []
        assert set(acknowledged) <= set(epochs)
        assert len(acknowledged) == len(set(acknowledged))


def outcomes(study: Study) -> dict[str, int]:
    return {outcome: n for outcome in Outcome if (n := sum(trial.outcome == outcome for trial in study.trials))}


def test_a_search_ends_with_as_many_trials_as_asked_and_the_best_is_the_best(search: Search) -> None:
    study = search(trials=24)
    assert len(study.trials) == 24
    assert set(outcomes(study)) == {"complete", "stopped_early"}
    assert all((trial.outcome == Outcome.COMPLETE) == (len(trial.epochs) == 9) for trial in study.trials)
    assert all(len(trial.epochs) in (1, 3, 9) for trial in study.trials), "trials end at rungs"
    best = ranking(study.trials, "val_acc", "max")[0]
    assert best.epoch.epoch == 9
    assert best.value == value(best.trial.params["x"], 9)
    assert abs(best.trial.params["x"] - 0.7) < 0.1


def test_workers_are_reused(search: Search, tmp_path: Path) -> None:
    search(trials=8)
    files = (tmp_path / "formula").glob("acknowledged-*")
    processes = {line.split()[2] for file in files for line in file.read_text().splitlines()}
    assert len(processes) <= 2, "never a new process for each trial; a quick worker may do all eight"


def test_one_slot_and_one_seed_give_the_same_search(search: Search) -> None:
    first, second = (search(trials=12, slots=1, name=name) for name in ("first", "second"))
    assert [curve_of(trial) for trial in first.trials] == [curve_of(trial) for trial in second.trials]


def curve_of(trial: Trial) -> tuple[Any, ...]:
    return trial.params, trial.outcome, [epoch.metrics for epoch in trial.epochs]


def test_a_trial_that_raises_once_goes_on_from_its_last_checkpoint(search: Search) -> None:
    study = search("raises once")
    assert study.trial(0).outcome == Outcome.COMPLETE
    assert study.trial(0).failures == ("ValueError: a bad",)
    assert len(study.trials) == 8


def test_a_trial_that_always_raises_fails_with_its_cause_and_the_search_goes_on(search: Search) -> None:
    study = search("raises always")
    failed = study.trial(0)
    assert failed.outcome == Outcome.FAILED
    assert [epoch.epoch for epoch in failed.epochs] == [1, 2, 3]
    assert failed.cause.startswith("ValueError: a bad day")
    assert outcomes(study)["failed"] == 1
    assert len(study.trials) == 8


def test_a_killed_process_is_retried_from_the_last_checkpoint(search: Search) -> None:
    study = search("killed once")
    assert study.trial(0).outcome == Outcome.COMPLETE
    assert len(study.trial(0).failures) == 1
    assert "died" in study.trial(0).failures[0]


def test_nan_ends_a_trial_as_diverged_and_it_is_never_best(search: Search) -> None:
    study = search("nan", trials=3, slots=1)
    diverged = study.trial(1)
    assert diverged.outcome == Outcome.DIVERGED
    assert diverged.cause == "val_acc=nan at epoch 1"
    assert [best.trial.number for best in ranking(study.trials, "val_acc", "max")] in ([0, 2], [2, 0])


def test_the_same_failure_in_the_first_three_trials_ends_the_search(search: Search) -> None:
    study = search("all alike")
    assert study.stop_reason is None  # that is said by the process that searched; the record has the causes
    assert len(study.trials) < 8
    assert set(outcomes(study)) == {"failed"}
    assert "no module named torch" in study.trial(0).cause


def test_a_trial_that_hangs_is_ended_as_stalled_with_its_stack_and_the_search_goes_on(search: Search, tmp_path: Path) -> None:
    study = search("hangs")
    stalled = study.trial(0)
    assert (stalled.outcome, len(stalled.epochs), stalled.failures) == (Outcome.STALLED, 3, ())
    assert stalled.cause.startswith("hung in break_down (test_formula.py:")
    stacks = stall_log(tmp_path / "formula" / "logs", 0).read_text()
    assert "in break_down" in stacks
    assert len(study.trials) == 8
