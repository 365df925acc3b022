"""Commit first, NaN next, ASHA last: the scheduler as Tune calls it, on a real study."""

from __future__ import annotations

import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from tuning.ray_backend.scheduler import RecordingScheduler
from tuning.space.reader import read_space
from tuning.space.schema import Stop
from tuning.space.search_space import SearchSpace
from tuning.study.optuna_record import create_record, load_record
from tuning.study.study import Study
from tuning.trials.trial import Outcome

SPACE = "space:\n  a: {type: float, low: 0, high: 1}\nsearch: {trials: 9, max_epochs: 9, asha: {type: stopping}}\n"


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    return read_space(path)


@pytest.fixture
def study(database: Path, space: SearchSpace) -> Study:
    return Study(create_record(f"sqlite:///{database}", space, "s"), space, trials=9)


def tune_trial(study: Study) -> Any:
    trial = study.next_trial()
    assert trial is not None
    return SimpleNamespace(config={"number": trial.number}, trial_id=f"tune-{trial.number}")


def report(scheduler: RecordingScheduler, trial: Any, epoch: int, value: float) -> str:
    return scheduler.on_trial_result(None, trial, {"epoch": epoch, "val_acc": value})


def test_asha_stops_the_worse_and_the_study_knows_before(study: Study) -> None:
    scheduler = RecordingScheduler(study)
    good, bad = tune_trial(study), tune_trial(study)
    for trial in (good, bad):
        scheduler.on_trial_add(None, trial)
    assert report(scheduler, good, 1, 0.9) == TrialScheduler.CONTINUE
    assert report(scheduler, bad, 1, 0.1) == TrialScheduler.STOP
    assert study.trial(1).outcome == Outcome.STOPPED_EARLY
    assert study.trial(1).epochs[0].metrics == {"val_acc": 0.1}


@pytest.mark.parametrize("grace", [1, 2])
def test_asha_lets_the_low_losses_go_on_after_the_grace_epochs(
    grace: int, database: Path, tmp_path: Path
) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        SPACE.replace("stopping", f"stopping, grace_epochs: {grace}").replace(
            "search: {", "search: {metric: val_loss, "
        )
    )
    space = read_space(path)
    study = Study(create_record(f"sqlite:///{database}", space, "s"), space, trials=9)
    scheduler = RecordingScheduler(study)
    good, bad = tune_trial(study), tune_trial(study)
    for trial in (good, bad):
        scheduler.on_trial_add(None, trial)
    ends = dict.fromkeys((0, 1), 0)  # after how many epochs each trial was stopped
    for epoch in range(1, 10):
        for trial, loss in ((good, 0.1), (bad, 0.9)):
            number = trial.config["number"]
            if not ends[number]:
                result = {"epoch": epoch, "val_loss": loss / epoch}
                stopped = scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP
                ends[number] = epoch * stopped
    assert ends == {0: 9, 1: grace}
    assert [trial.outcome for trial in study.trials] == [Outcome.COMPLETE, Outcome.STOPPED_EARLY]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_ends_the_trial_and_enters_no_rung(study: Study, value: float) -> None:
    scheduler = RecordingScheduler(study)
    broken, fine = tune_trial(study), tune_trial(study)
    for trial in (broken, fine):
        scheduler.on_trial_add(None, trial)
    assert report(scheduler, broken, 1, value) == TrialScheduler.STOP
    assert study.trial(0).outcome == Outcome.DIVERGED
    assert "val_acc" in study.trial(0).cause
    assert report(scheduler, fine, 1, -1e9) == TrialScheduler.CONTINUE, (
        "the first in its rung is never stopped"
    )


def test_outputs_that_are_nan_end_the_trial_though_its_accuracy_is_a_number(study: Study) -> None:
    """Of ten NaN the first is the largest: all images are taken for a 0."""
    scheduler, trial = RecordingScheduler(study), tune_trial(study)
    scheduler.on_trial_add(None, trial)
    result = {"epoch": 1, "val_acc": 0.1, "val_loss": math.nan}
    assert scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP
    assert study.trial(0).outcome == Outcome.DIVERGED
    assert study.trial(0).cause == "val_loss=nan at epoch 1"


def test_a_restarted_scheduler_has_the_same_rungs_also_after_a_clock_stepped_back(
    study: Study, space: SearchSpace, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = RecordingScheduler(study)
    trials = [tune_trial(study) for _ in range(4)]
    for hour, (trial, value) in enumerate(zip(trials, (0.5, 0.9, 0.8), strict=False)):
        monkeypatch.setattr(time, "time", lambda hour=hour: 1e9 - 3600 * hour)
        scheduler.on_trial_add(None, trial)
        report(scheduler, trial, 1, value)
    restarted = Study(load_record(f"sqlite:///{database}", "s"), space, trials=9)
    again = RecordingScheduler(restarted)
    assert restarted.trial(0).outcome is None, "the first in its rung went on, and still does"
    assert again.asha.debug_string() == scheduler.asha.debug_string()
    again.on_trial_add(None, trials[3])
    assert report(again, trials[3], 1, 0.7) == TrialScheduler.STOP


def test_a_trial_that_died_between_verdict_and_end_is_ended_at_the_restart(
    study: Study, space: SearchSpace, database: Path
) -> None:
    scheduler = RecordingScheduler(study)
    good, bad = tune_trial(study), tune_trial(study)
    for trial in (good, bad):
        scheduler.on_trial_add(None, trial)
    report(scheduler, good, 1, 0.9)
    study.close = lambda *_: None  # type: ignore[method-assign]  # the process dies after the commit
    report(scheduler, bad, 1, 0.1)
    again = Study(load_record(f"sqlite:///{database}", "s"), space, trials=9)
    assert again.trial(1).outcome is None
    RecordingScheduler(again)
    assert again.trial(1).outcome == Outcome.STOPPED_EARLY
    handed = again.next_trial()
    assert handed is not None
    assert handed.number == 0, "the one that was stopped is not handed out again"


def test_a_killed_process_worked_at_least_until_its_last_epoch(
    study: Study, space: SearchSpace, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.begin_session()
    scheduler, trial = RecordingScheduler(study), tune_trial(study)
    scheduler.on_trial_add(None, trial)
    for clock in ("time", "monotonic"):
        real = getattr(time, clock)
        monkeypatch.setattr(time, clock, lambda real=real: real() + 100)
    report(scheduler, trial, 1, 0.5)
    again = Study(load_record(f"sqlite:///{database}", "s"), space, trials=9)
    assert 100 <= again.seconds < 110


def test_a_disk_that_fails_stops_all_trials_and_charges_none(study: Study) -> None:
    scheduler = RecordingScheduler(study)
    one, other = tune_trial(study), tune_trial(study)
    for trial in (one, other):
        scheduler.on_trial_add(None, trial)
    assert scheduler.on_trial_result(None, one, {"disk": "full"}) == TrialScheduler.STOP
    assert report(scheduler, other, 1, 0.5) == TrialScheduler.STOP
    assert study.suspended == "full"
    assert [(trial.outcome, len(trial.epochs)) for trial in study.trials] == [(None, 0), (None, 1)]


def test_an_epoch_that_is_run_again_ends_its_trial_only_if_the_search_ends(study: Study) -> None:
    scheduler, trial = RecordingScheduler(study), tune_trial(study)
    scheduler.on_trial_add(None, trial)
    assert [report(scheduler, trial, 1, value) for value in (0.5, 0.6)] == [
        TrialScheduler.CONTINUE
    ] * 2
    study.stop = Stop(epochs=1)
    assert report(scheduler, trial, 1, 0.7) == TrialScheduler.STOP
    (ended,) = study.trials
    assert (ended.outcome, ended.cause) == (
        Outcome.STOPPED_EARLY,
        "the budget of 1 epochs is used up",
    )
    assert [epoch.metrics["val_acc"] for epoch in ended.epochs] == [0.5]


def test_an_outcome_that_the_worker_reports_is_recorded(study: Study) -> None:
    scheduler, trial = RecordingScheduler(study), tune_trial(study)
    scheduler.on_trial_add(None, trial)
    result = {"outcome": "out_of_memory", "cause": "too wide"}
    assert scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP
    assert study.trial(0).outcome == Outcome.OUT_OF_MEMORY
