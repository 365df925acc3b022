"""Trials that wait, in a real SQLite file: handed out again, dropped, closed, and carried over when
a search is extended. A process may die at any commit.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from tests.formula import value
from tuning.ray_backend.scheduler import RecordingScheduler
from tuning.space.reader import read_space
from tuning.space.schema import Stop
from tuning.space.search_space import SearchSpace
from tuning.study.optuna_record import create_record, load_record, own_trials
from tuning.study.study import Study
from tuning.trials.trial import Epoch, Outcome, Trial

SPACE = """
space:
  x: {type: float, low: 0, high: 1}
  y: {type: int, low: 1, high: 64, log: true}
search:
  trials: 1000
  max_epochs: 9
  asha: {reduction_factor: 3, quota: 1}
  stop: {epochs: 40}
"""


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    return read_space(path)


@pytest.fixture
def url(database: Path, space: SearchSpace) -> str:
    found = f"sqlite:///{database}"
    create_record(found, space, "s")
    return found


class Driver:
    """Runs a search with one slot as Tune does, without Ray."""

    def __init__(self, url: str, space: SearchSpace, **limits: Any) -> None:
        stop = Stop(epochs=limits.pop("epochs", 40))
        self.study = Study(load_record(url, "s"), space, trials=1000, stop=stop, **limits)
        self.scheduler = RecordingScheduler(self.study)
        self.handed: list[int] = []

    def run(self) -> list[Trial]:
        """To the end of the search."""
        while trial := self.study.next_trial():
            self.handed.append(trial.number)
            for epoch in range(len(trial.epochs) + 1, 10):
                if not self.scheduler._take(trial.number, made(trial, epoch)):
                    break
        self.study.close_all()
        return self.study.trials


def made(trial: Trial, epoch: int) -> Epoch:
    accuracy = value(trial.params["x"], epoch) - trial.params["y"] / 1000
    return Epoch(epoch, {"val_acc": accuracy, "val_loss": 1 - accuracy})


def seen(trials: list[Trial]) -> list[Any]:
    """What a seed decides."""
    return [
        (one.number, one.params, one.outcome, one.waits_after, [e.metrics for e in one.epochs])
        for one in trials
    ]


def test_a_trial_waits_open_in_the_study_and_goes_on_under_its_number(
    url: str, space: SearchSpace
) -> None:
    driver = Driver(url, space)
    study, take = driver.study, driver.scheduler._take
    # 0 and 3 explore, and compete with each other alone
    _, first, second, _, third = filter(None, (study.next_trial() for _ in range(5)))
    accuracies = {first.number: 0.5, second.number: 0.9, third.number: 0.1}
    assert not any(
        take(number, Epoch(1, {"val_acc": accuracy})) for number, accuracy in accuracies.items()
    )
    record = load_record(url, "s")
    status = {one.number: one.status for one in own_trials(record, study.objective)}
    assert status == {n: "running" if n in (0, 3) else "waiting" for n in range(5)}
    assert {one.state for one in record.trials} == {TrialState.RUNNING}, "never Optuna's WAITING"
    assert study.ranked[0].trial.number == second.number, "a trial that waits can be best"
    again = study.next_trial()
    assert again is not None
    assert (again.number, again.params, again.status) == (second.number, second.params, "running")
    assert len(again.epochs) == 1


def test_when_the_search_ends_what_waits_is_stopped_early(url: str, space: SearchSpace) -> None:
    trials = Driver(url, space).run()
    record = load_record(url, "s")
    assert sum(len(one.epochs) for one in trials) == 40
    assert {one.state for one in record.trials} <= {TrialState.PRUNED, TrialState.COMPLETE}
    held = [one for one in trials if one.is_held]
    assert len(held) > 5
    assert {(one.outcome, one.cause) for one in held} == {(Outcome.STOPPED_EARLY, "")}


def test_with_few_trials_the_best_is_still_trained_to_its_end(url: str, space: SearchSpace) -> None:
    driver = Driver(url, space)
    driver.study.wanted = 2
    outcomes = [one.outcome for one in driver.run()]
    assert sorted(map(str, outcomes)) == ["complete", "stopped_early"]


def test_only_the_best_that_wait_are_kept(
    url: str, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(url, space)
    driver.scheduler.waiting = 2
    driver.run()
    rungs = Counter(
        (trial.waits_after, trial.number % 3 == 0) for trial in driver.study.trials if trial.is_held
    )
    assert rungs
    assert max(rungs.values()) <= 2
    again = Driver(url, space).study.open.promotion
    assert all(len(again.rivals(number, 1)) <= 2 for number in (0, 1)), "nor after a resume"


def test_an_extended_search_goes_on_with_the_best_of_those_that_waited(
    url: str, space: SearchSpace
) -> None:
    before = {one.number: one for one in Driver(url, space).run()}
    assert not Driver(url, space).study.has_work()
    extended = Driver(url, space, epochs=80)
    extended.study.carry_over()
    after = extended.run()
    first = extended.handed[0]
    assert before[first].is_held
    rung = before[first].waits_after
    waited = [one for one in before.values() if one.is_held and one.waits_after == rung]
    best = max(waited, key=lambda one: one.epochs[-1].metrics["val_acc"])
    assert first == best.number, "the best of its rung, before anything new"
    by_number = {one.number: one for one in after}
    assert len(by_number) == len(after), "each number once"
    assert by_number[first].epochs[:rung] == before[first].epochs
    assert len(by_number[first].epochs) > rung
    held = {one.waits_after for one in before.values() if one.is_held}
    rungs = [before[number].waits_after for number in extended.handed[: len(held)]]
    assert rungs == sorted(held, reverse=True), "one of each rung, the highest first"
    assert sum(len(one.epochs) for one in after) == 80, "no epoch counts twice"
    # The same from the file, as a report reads it.
    assert seen(own_trials(load_record(url, "s"), extended.study.objective)) == seen(after)


class KilledError(Exception):
    """In place of a kill: what was committed stays."""


WRITES = (
    *("create_new_trial", "set_trial_param", "set_trial_user_attr"),
    *("set_trial_intermediate_value", "set_trial_state_values"),
)


def dies_after(storage: Any, writes: int) -> None:
    """Have the process die when it writes once more."""
    left = [None] * writes
    for name in WRITES:
        method = getattr(storage, name)

        def write(*args: Any, real: Any = method, **kwargs: Any) -> Any:
            if not left:
                raise KilledError
            left.pop()
            return real(*args, **kwargs)

        setattr(storage, name, write)


@pytest.mark.parametrize("first", [1, 4, 11])
def test_one_slot_repeats_exactly_wherever_it_is_killed(
    first: int, empty_database: Path, space: SearchSpace, tmp_path: Path
) -> None:
    """Each process dies one write later than the one before it: between any two commits."""

    def searched(name: str, writes: int | None) -> list[Any]:
        url = f"sqlite:///{shutil.copy(empty_database, tmp_path / name)}"
        create_record(url, space, "s")
        while True:
            try:
                driver = Driver(url, space, epochs=24)
                if writes is not None:
                    dies_after(driver.study.record._storage, writes)
                    writes += 1
                return seen(driver.run())
            except KilledError:
                continue

    assert searched("killed", first) == searched("whole", None)
