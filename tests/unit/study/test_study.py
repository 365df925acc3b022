"""The record in a real SQLite file: what is committed, what Optuna is told, who is handed out
next.
"""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest

from text_recognizer.errors import RunError, StorageError
from tuning.run.options import Options
from tuning.run.resources import Slots
from tuning.space.reader import read_space
from tuning.space.schema import Parameter
from tuning.space.search_space import SearchSpace
from tuning.study.optuna_record import create_record, epoch_to_plain, load_record
from tuning.study.samplers import suggest
from tuning.study.search import Search
from tuning.study.study import Study
from tuning.trials.trial import Epoch, Outcome, Trial


@pytest.fixture
def url(database: Path) -> str:
    return f"sqlite:///{database}"


@pytest.fixture
def study(url: str, space: SearchSpace) -> Study:
    return Study(create_record(url, space, "s"), space, trials=4)


def reopened(url: str, space: SearchSpace, trials: int = 4) -> Study:
    return Study(load_record(url, "s"), space, trials=trials)


def epoch(number: int, value: float) -> Epoch:
    return Epoch(
        number,
        {"val_acc": value, "val_loss": 1 - value},
        f"epoch-{number}.ckpt",
        "0" * 64,
        float(number),
    )


def handed_out(study: Study) -> Trial:
    trial = study.next_trial()
    assert trial is not None
    return trial


def frozen(url: str, number: int = 0) -> optuna.trial.FrozenTrial:
    return load_record(url, "s").get_trials()[number]


def test_an_epoch_is_on_disk_when_recording_returns(
    study: Study, url: str, space: SearchSpace
) -> None:
    trial = handed_out(study)
    study.record_epoch(trial.number, epoch(1, 0.5))
    study.record_epoch(trial.number, epoch(2, math.nan))
    seen = reopened(url, space).trial(0)
    assert seen.params == trial.params
    assert replace(seen.epochs[0], worked=0.0) == epoch(1, 0.5)
    assert 0 < seen.epochs[0].worked < seen.epochs[1].worked
    assert math.isnan(seen.epochs[1].metrics["val_acc"])


def test_an_epoch_recorded_twice_keeps_its_first_value(
    study: Study, url: str, space: SearchSpace
) -> None:
    number = handed_out(study).number
    study.record_epoch(number, epoch(1, 0.5))
    study.record_epoch(number, epoch(1, 0.7))
    assert [e.metrics["val_acc"] for e in reopened(url, space).trial(number).epochs] == [0.5]


@pytest.mark.parametrize(
    ("outcome", "state", "value", "constraint"),
    [
        (Outcome.COMPLETE, optuna.trial.TrialState.COMPLETE, 0.9, None),
        (Outcome.STOPPED_EARLY, optuna.trial.TrialState.PRUNED, 0.4, None),
        (Outcome.DIVERGED, optuna.trial.TrialState.PRUNED, 0.4, "diverged"),
        (Outcome.OUT_OF_MEMORY, optuna.trial.TrialState.PRUNED, 0.4, "memory"),
        (Outcome.STALLED, optuna.trial.TrialState.FAIL, None, None),
    ],
)
def test_optuna_hears_the_truth(
    study: Study,
    url: str,
    outcome: Outcome,
    state: optuna.trial.TrialState,
    value: float | None,
    constraint: str | None,
) -> None:
    number = handed_out(study).number
    for step, measured in enumerate((0.5, 0.9, 0.4), 1):
        study.record_epoch(number, epoch(step, measured))
    study.close(number, outcome, "why")
    told = frozen(url)
    assert told.state == state
    assert told.value == value
    assert told.user_attrs["outcome"] == outcome
    assert told.user_attrs["cause"] == "why"
    assert list(told.constraints) == ([constraint] if constraint else [])


def test_a_trial_that_ends_on_nan_is_no_longer_running(study: Study, url: str) -> None:
    number = handed_out(study).number
    study.record_epoch(number, epoch(1, math.nan))
    study.close(number, Outcome.DIVERGED)
    assert frozen(url).state == optuna.trial.TrialState.PRUNED


def test_a_failed_trial_is_handed_out_again_once_then_fails(study: Study) -> None:
    first = handed_out(study)
    study.record_epoch(first.number, epoch(1, 0.5))
    study.close(first.number, Outcome.FAILED, "boom")
    again = handed_out(study)
    assert (again.number, again.params, len(again.epochs)) == (first.number, first.params, 1)
    study.close(first.number, Outcome.FAILED, "boom again")
    assert study.trial(first.number).outcome == Outcome.FAILED
    assert study.trial(first.number).failures == ("boom",)
    assert handed_out(study).number == 1


def test_out_of_memory_is_not_tried_again(study: Study) -> None:
    study.close(handed_out(study).number, Outcome.OUT_OF_MEMORY, "too wide")
    assert handed_out(study).number == 1


def test_the_same_failure_in_the_first_three_trials_stops_the_search(study: Study) -> None:
    numbers = [handed_out(study).number for _ in range(3)]
    for number in numbers:
        study.close(number, Outcome.FAILED, "no module")
    assert study.next_trial() is None
    assert "no module" in (study.stop_reason or "")
    study.close_all()
    assert all(trial.outcome == Outcome.FAILED for trial in study.trials)


def test_different_failures_do_not_stop_the_search(study: Study) -> None:
    for number in [handed_out(study).number for _ in range(3)]:
        study.close(number, Outcome.FAILED, f"cause {number % 2}")
    assert study.stop_reason is None


def test_the_same_failure_after_an_epoch_does_not_stop_the_search(study: Study) -> None:
    numbers = [handed_out(study).number for _ in range(3)]
    study.record_epoch(numbers[2], epoch(1, 0.5))
    for number in numbers:
        study.close(number, Outcome.FAILED, "no module")
    assert study.stop_reason is None


def test_no_more_trials_than_asked_for_and_unfinished_ones_come_first(
    study: Study, url: str, space: SearchSpace
) -> None:
    numbers = [handed_out(study).number for _ in range(4)]
    assert study.next_trial() is None
    study.record_epoch(2, epoch(1, 0.5))
    study.close(0, Outcome.COMPLETE)  # without an epoch: nothing to be best with
    again = reopened(url, space, trials=5)
    assert [handed_out(again).number for _ in range(4)] == [*numbers[1:], 4]
    again.record_epoch(2, epoch(2, 0.6))
    again.close(2, Outcome.COMPLETE)
    assert frozen(url, 2).value == 0.6


def test_points_to_start_with_come_first(url: str, space_file: object, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "space:\n  a: {type: int, low: 1, high: 9}\nsearch: {start_with: [{a: 7}, {a: 2}]}\n"
    )
    space = read_space(path)
    study = Study(create_record(url, space, "s"), space, trials=3)
    assert [handed_out(study).params for _ in range(2)] == [{"a": 7}, {"a": 2}]


def test_a_parameter_that_the_space_does_not_have_is_damage(
    study: Study, url: str, space: SearchSpace
) -> None:
    handed_out(study)
    fewer = replace(space, parameters={"lr": space.parameters["lr"]})
    with pytest.raises(RunError, match=r"unknown parameters \['fc1'\]"):
        reopened(url, fewer)


def test_optunas_dashboard_names_the_metric_and_optuna_is_quiet(study: Study, url: str) -> None:
    for opened in (lambda: load_record(url, "s"), lambda: create_record(url, study.space, "t")):
        optuna.logging.set_verbosity(optuna.logging.INFO)
        assert opened().metric_names == ["val_acc"]
        assert optuna.logging.get_verbosity() == optuna.logging.WARNING


@pytest.mark.parametrize(("given", "seed"), [({}, 7), ({"seed": 3}, 3)])
def test_what_all_trials_share(given: dict[str, int], seed: int, study: Study) -> None:
    space = replace(
        study.space,
        experiment=study.space.experiment | given,
        search=study.space.search.model_copy(update={"seed": 7}),
    )
    search: Any = partial(Search, "s", space, Options(), None, study)
    settings = search(Slots(2, 3, 0.5), None).trial_settings
    assert settings == {
        "model_class": "MLP",
        "data_class": "Digits",
        "max_epochs": 3,
        "seed": seed,
        "monitor": "val_acc",
        "patience": 0,
        "threads": 3,
        "gpus": 1,
    }
    assert search(Slots(2, 3, 0), None).trial_settings == settings | {"gpus": 0}


def test_names_are_taken_once_and_missing_studies_are_said(
    url: str, study: Study, space: SearchSpace
) -> None:
    with pytest.raises(RunError, match="--name"):
        create_record(url, space, "s")
    with pytest.raises(RunError, match="no study of that name"):
        load_record(url, "t")


def test_a_database_that_cannot_be_opened_is_a_storage_error(
    space: SearchSpace, tmp_path: Path
) -> None:
    with pytest.raises(StorageError):
        create_record(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}", space, "s")


def test_a_resume_counts_failures_alike_anew(study: Study, url: str, space: SearchSpace) -> None:
    for number in [handed_out(study).number for _ in range(3)]:
        study.close(number, Outcome.FAILED, "no module")
    again = reopened(url, space, trials=9)
    assert again.stop_reason is None, "its cause may be mended"
    for number in [handed_out(again).number for _ in range(2)]:
        again.close(number, Outcome.FAILED, "no module")
    assert again.stop_reason is None
    again.close(handed_out(again).number, Outcome.FAILED, "no module")
    assert "failed alike" in (again.stop_reason or "")


def limited(url: str, text: str, tmp_path: Path) -> tuple[SearchSpace, Study]:
    (tmp_path / "limited.yaml").write_text(
        f"space:\n  a: {{type: int, low: 1, high: 9}}\nsearch: {{trials: 9, stop: {text}}}\n"
    )
    space = read_space(tmp_path / "limited.yaml")
    return space, Study(create_record(url, space, "limited"), space, trials=9)


def test_a_limit_ends_the_search_and_no_trial_stays_open(url: str, tmp_path: Path) -> None:
    space, study = limited(url, "{epochs: 2}", tmp_path)
    first, second, third = (handed_out(study).number for _ in range(3))
    study.close(third, Outcome.FAILED, "boom")  # waits to be tried again
    study.record_epoch(first, epoch(1, 0.5))
    assert study.stop_reason is None
    study.record_epoch(second, epoch(1, 0.6))
    assert study.stop_reason == "the budget of 2 epochs is used up"
    assert study.next_trial() is None
    assert study.has_work(), "three trials are open yet"
    study.close(second, Outcome.FAILED, "boom")  # too late to be tried again
    study.close_all()
    assert [trial.outcome for trial in study.trials] == [
        Outcome.STOPPED_EARLY,
        Outcome.FAILED,
        Outcome.FAILED,
    ]
    assert study.trial(first).cause == study.stop_reason
    again = Study(load_record(url, "limited"), space, trials=9)
    assert again.stop_reason == study.stop_reason
    assert not again.has_work()


def test_gpu_time_is_recorded_with_each_epoch(study: Study, url: str, space: SearchSpace) -> None:
    study.gpu_share = 0.5
    number = handed_out(study).number
    study._reported[number] -= 10
    study.record_epoch(number, epoch(1, 0.5))
    study.record_epoch(number, epoch(2, 0.5))
    first, second = reopened(url, space).trial(number).epochs
    assert 5 <= first.gpu_seconds < 6
    assert second.gpu_seconds < 1


def test_the_sampler_avoids_the_region_that_does_not_fit_in_memory(
    url: str, tmp_path: Path
) -> None:
    """The wider the better, up to where it no longer fits: the tempting side is the infeasible
    one.
    """
    (tmp_path / "s.yaml").write_text(
        "space:\n  width: {type: float, low: 0, high: 1}\nsearch: {trials: 28}\n"
    )
    space = read_space(tmp_path / "s.yaml")
    study = Study(create_record(url, space, "s"), space, trials=28, retries=0)
    while trial := study.next_trial():
        width = trial.params["width"]
        if width > 0.6:
            study.close(trial.number, Outcome.OUT_OF_MEMORY, f"at trial {trial.number}")
        else:
            study.record_epoch(trial.number, epoch(1, width))
            study.close(trial.number, Outcome.COMPLETE)
    too_wide = sum(trial.params["width"] > 0.6 for trial in study.trials[16:])
    assert too_wide <= 7, "of 12; mere failures teach it nothing, and 11 are too wide"


@pytest.mark.parametrize(("sampler", "trials"), [("random", 5), ("tpe", 13)])
def test_the_same_seed_proposes_the_same_trials_also_after_a_kill_and_a_restart(
    sampler: str, trials: int, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kill comes between two proposals of one trial, the restart when TPE no longer proposes at
    random.
    """
    (tmp_path / "s.yaml").write_text(
        "space:\n  a: {type: float, low: 0, high: 1}\n  b: {type: int, low: 1, high: 99}\n  c: {type: float, low: 0, high: 1}\n"
        f"search: {{trials: {trials}, sampler: {sampler}}}\n"
    )
    space = read_space(tmp_path / "s.yaml")

    def dies(live: optuna.Trial, name: str, parameter: Parameter) -> Any:
        if name == "b":
            raise KeyboardInterrupt
        return suggest(live, name, parameter)

    def proposals(name: str, killed: bool) -> list[dict[str, object]]:
        url = f"sqlite:///{shutil.copy(empty_database, tmp_path / name)}"
        study = Study(create_record(url, space, name), space, trials=trials)
        while trial := study.next_trial():
            study.record_epoch(trial.number, epoch(1, trial.params["a"] * trial.params["b"] / 99))
            study.close(trial.number, Outcome.COMPLETE)
            if killed and trial.number == 2:
                with monkeypatch.context() as patched:
                    patched.setattr("tuning.study.study.suggest", dies)
                    with pytest.raises(KeyboardInterrupt):
                        study.next_trial()
            if killed and trial.number in (2, 11):
                study = Study(load_record(url, name), space, trials=trials)
        return [trial.params for trial in study.trials]

    assert proposals("killed", True) == proposals("whole", False)


def test_two_seeds_search_other_points(
    space: SearchSpace, empty_database: Path, tmp_path: Path
) -> None:
    def params(seed: int) -> dict[str, Any]:
        url = f"sqlite:///{shutil.copy(empty_database, tmp_path / str(seed))}"
        settings = space.search.model_copy(update={"seed": seed})
        other = replace(space, search=settings)
        return handed_out(Study(create_record(url, other, "s"), other, trials=1)).params

    first, second = params(1), params(2)
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)


def test_time_without_an_epoch_is_counted_too(study: Study, url: str, space: SearchSpace) -> None:
    study.begin_session()
    study._started -= 100
    study.close(handed_out(study).number, Outcome.STALLED, "hung")
    assert 100 <= reopened(url, space).seconds <= study.seconds, "once, and not twice"


def test_a_clock_that_steps_back_changes_no_duration_and_no_order(
    study: Study, url: str, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = handed_out(study).number, handed_out(study).number
    study.record_epoch(first, epoch(1, 0.5))
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() - 3600)
    assert study.seconds > 0
    study.record_epoch(second, replace(epoch(1, 0.5), time=-3600.0))
    killed = reopened(url, space)
    order = sorted(killed.trials, key=lambda trial: trial.epochs[0].worked)
    assert [trial.number for trial in order] == [first, second]
    assert killed.seconds >= killed.trial(second).epochs[0].worked > 0, "worked before the kill"
    killed.record_epoch(first, epoch(2, 0.5))
    assert killed.trial(first).epochs[1].worked > killed.trial(second).epochs[0].worked


def test_a_record_of_an_older_version_has_the_time_worked_by_its_clock(
    study: Study, url: str, space: SearchSpace
) -> None:
    live = study.record
    for number, at in ((handed_out(study).number, 110.0), (handed_out(study).number, 1010.0)):
        old = epoch_to_plain(replace(epoch(1, 0.5), time=at))
        del old["worked"]
        study._live_trial(number).set_user_attr("epoch:1", old)
        study._live_trial(number).report(0.5, step=1)
    live.set_user_attr("sessions", [100.0, 1000.0])
    found = reopened(url, space)
    assert [trial.epochs[0].worked for trial in found.trials] == [10.0, 20.0]
    assert found.seconds >= 20
