"""The samplers: Optuna's own tests of a sampler, and what this project promises beyond them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.testing import pytest_samplers
from optuna.trial import TrialState

from tuning.study.epoch_sampler import STARTUP, EpochSampler
from tuning.study.optuna_record import continued
from tuning.study.samplers import StatelessSampler
from tuning.study.unit_cube import UnitCube

X = {"x": FloatDistribution(0, 1)}
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "gp": lambda seed: EpochSampler(max_epochs=1, seed=seed),
    "tpe": lambda seed: StatelessSampler(TPESampler, seed),
    "random": lambda seed: StatelessSampler(RandomSampler, seed),
}


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


class TestEpochSampler(
    pytest_samplers.BasicSamplerTestCase,
    pytest_samplers.RelativeSamplerTestCase,
    pytest_samplers.SingleOnlySamplerTestCase,
):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return EpochSampler


def study_of(
    sampler: BaseSampler, direction: str = "maximize", trials: Sequence[tuple[Any, ...]] = ()
) -> optuna.Study:
    """A study with trials of (params, values by epoch, state)."""
    study = optuna.create_study(sampler=sampler, direction=direction)
    for params, values, state in trials:
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                params=params,
                distributions=X,
                intermediate_values=dict(enumerate(values, 1)),
                value=max(values) if state == TrialState.COMPLETE else None,
            )
        )
    return study


def proposals(study: optuna.Study, space: dict[str, BaseDistribution], n: int) -> list[Any]:
    return [study.ask(space).params for _ in range(n)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_proposal_is_a_function_of_seed_number_and_record(name: str) -> None:
    def run(seed: int, *, forgetful: bool) -> list[float]:
        study, found = optuna.create_study(sampler=SAMPLERS[name](seed)), []
        for _ in range(14):
            if forgetful:
                study.sampler = SAMPLERS[name](seed)
            trial = study.ask()
            found.append(trial.suggest_float("x", 0, 1))
            study.tell(trial, math.sin(5 * found[-1]))
        return found

    assert run(0, forgetful=True) == run(0, forgetful=False) != run(1, forgetful=False)


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING])
def test_every_epoch_is_evidence_however_its_trial_stands(state: TrialState) -> None:
    """Trials at the right end are better after their first epoch: the next is there."""
    trials = [({"x": x}, [x], state) for x in np.linspace(0, 0.7, 8)]
    study = study_of(EpochSampler(X, max_epochs=9), trials=trials)
    (found,) = proposals(study, X, 1)
    assert found["x"] > 0.7


def test_low_losses_are_looked_for_where_they_are_minimised() -> None:
    trials = [({"x": x}, [x], TrialState.PRUNED) for x in np.linspace(0.3, 1, 8)]
    (found,) = proposals(study_of(EpochSampler(X), "minimize", trials), X, 1)
    assert found["x"] < 0.3


def test_a_short_trial_is_not_taken_for_a_bad_one() -> None:
    """Those of one epoch have less than half of what the others have after nine, and are better."""
    grown = [0.5, 0.7, 0.8, 0.85, 0.88, 0.9, 0.91, 0.92, 0.92]
    long = [
        ({"x": x}, [value * (1 - x / 10) for value in grown], TrialState.COMPLETE)
        for x in (0.6, 0.8, 1.0)
    ]
    short = [({"x": x}, [0.52 - x / 20], TrialState.PRUNED) for x in (0.1, 0.2, 0.3, 0.4)]
    (found,) = proposals(study_of(EpochSampler(X, max_epochs=9), trials=long + short), X, 1)
    assert found["x"] < 0.3


def test_slots_do_not_crowd_together() -> None:
    trials = [({"x": x}, [-abs(x - 0.4)], TrialState.PRUNED) for x in np.linspace(0, 1, 7)]
    study = study_of(EpochSampler(X), trials=trials)
    found = sorted(one["x"] for one in proposals(study, X, 6))
    assert found[-1] - found[0] > 0.03, "0.001 if nothing is believed of those that run"


def test_where_trials_diverged_nothing_is_proposed_soon_again() -> None:
    study = optuna.create_study(sampler=EpochSampler(X), direction="maximize")
    refused = 0
    for number in range(30):
        trial = study.ask(X)
        x = trial.params["x"]
        if x > 0.6:  # the better half, were it possible
            trial.set_constraint("memory", 1)
            study.tell(trial, state=TrialState.PRUNED)
            refused += number >= 15
        else:
            trial.report(x, 1)
            study.tell(trial, x)
    assert refused <= 7, "of 15"


def test_a_trial_that_was_continued_counts_once() -> None:
    trials = [({"x": x}, [x], TrialState.PRUNED) for x in np.linspace(0, 0.7, 8)]
    study = study_of(EpochSampler(X), trials=trials)
    study.add_trial(continued(study.trials[3], 3))
    found = EpochSampler(X)._known(study, 99, UnitCube(X))
    assert len(found) == 8


WORST: list[tuple[str, list[float]]] = [
    ("all the same", [0.5] * 8),
    ("not a number", [0.1, math.nan, 0.2, 0.3, 0.4, 0.5, 0.6, math.nan]),
    ("infinite", [0.1, math.inf, -math.inf, 0.3, 0.4, 0.5, 0.6, 0.7]),
    ("huge", [1e300, -1e300, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
    ("ties", [0.1, 0.1, 0.9, 0.9, 0.9, 0.1, 0.9, 0.1]),
]


@pytest.mark.parametrize(("name", "values"), WORST, ids=[name for name, _ in WORST])
@pytest.mark.parametrize("many", [1, 60])
@pytest.mark.filterwarnings("error")
def test_whatever_was_measured_something_sensible_is_proposed(
    name: str, values: list[float], many: int
) -> None:
    space: dict[str, BaseDistribution] = {
        f"p{i}": [
            FloatDistribution(1e-5, 1, log=True),
            IntDistribution(1, 9, step=2),
            CategoricalDistribution(["a", "b", "c"]),
        ][i % 3]
        for i in range(many)
    }
    study = optuna.create_study(sampler=EpochSampler(space, max_epochs=3))
    for value in values:
        trial = study.ask(space)
        trial.report(value, 1)
        study.tell(trial, state=TrialState.PRUNED)
    first, second = proposals(study, space, 2)
    assert first.keys() == space.keys()
    assert all(space[key]._contains(space[key].to_internal_repr(first[key])) for key in space)
    assert many == 1 or first != second


def test_what_the_model_believes_is_in_the_metrics_unit() -> None:
    trials = [({"x": x}, [-x], TrialState.PRUNED) for x in np.linspace(0.3, 1, 9)]
    study = study_of(EpochSampler(X), trials=trials)
    proposals(study, X, 1)
    belief = study.sampler.belief  # type: ignore[attr-defined]
    assert belief.low <= belief.expected <= belief.high
    assert -0.35 < belief.expected < 0.3
    assert belief.improvement > 0
    assert 0 < belief.distance <= 1
    plain = belief.as_plain(-1)
    assert plain["low"] <= plain["expected"] == -belief.expected <= plain["high"]


def test_the_first_points_fill_the_space_evenly() -> None:
    study = optuna.create_study(sampler=EpochSampler(X))
    found = sorted(int(8 * one["x"]) for one in proposals(study, X, 8))
    assert found == list(range(8)), "one in each eighth"
    assert STARTUP <= 8
