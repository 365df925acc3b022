"""The numbers behind the plots."""

from __future__ import annotations

import math
from typing import Any

import pytest

from text_recognizer.metrics import Objective
from tuning.analysis import progress
from tuning.analysis.importance import importances
from tuning.space.schema import PARAMETER, Parameter
from tuning.trials import stopping
from tuning.trials.trial import Epoch, Outcome, Trial


def trial(
    number: int, *epochs: tuple[float, float], outcome: Outcome | None = Outcome.COMPLETE
) -> Trial:
    """Epochs as (time, value)."""
    return Trial(
        number,
        {},
        tuple(Epoch(k, {"val_acc": v}, worked=t) for k, (t, v) in enumerate(epochs, 1)),
        outcome,
    )


TWO = [trial(0, (1, 0.5), (3, 0.7)), trial(1, (2, 0.6), (4, 0.65), outcome=Outcome.STOPPED_EARLY)]


def test_the_best_value_rises_over_all_trials_epochs_in_the_order_they_were_recorded() -> None:
    steps = progress.best_over_epochs(TWO, Objective("val_acc", "max"))
    assert [(step.spent, step.value, step.trial, step.epoch) for step in steps] == [
        (1, 0.5, 0, 1),
        (2, 0.6, 1, 1),
        (3, 0.7, 0, 2),
        (4, 0.7, 0, 2),
    ]
    assert [step.value for step in progress.best_over_epochs(TWO, Objective("val_acc", "min"))] == [
        0.5,
        0.5,
    ]
    assert progress.best_over_epochs([], Objective("val_acc", "max")) == []


def test_a_trial_that_cannot_be_best_costs_epochs_and_sets_no_record() -> None:
    broken = trial(2, (0.5, 0.99), outcome=Outcome.DIVERGED)
    still = trial(3, (0.6, 0.98), outcome=None)
    assert progress.best_over_epochs([still], Objective("val_acc", "max")) == [], (
        "nor does one that has not ended"
    )
    first = progress.best_over_epochs([*TWO, broken], Objective("val_acc", "max"))[0]
    assert (first.spent, first.value) == (2, 0.5)


def test_a_pause_between_two_sessions_is_no_work() -> None:
    times = [110.0, 120.0, 1010.0, 1030.0]
    assert stopping.seconds_worked(times, [100.0, 1000.0]) == [10.0, 20.0, 30.0, 50.0]
    assert stopping.seconds_worked(times[:2], []) == [0.0, 10.0]
    assert stopping.seconds_worked([], []) == []
    assert stopping.seconds_worked([130.0, 1010.0], [100.0, 1000.0, 2000.0])[-1] == 30 + 10, (
        "a session without an epoch"
    )


def test_rungs_and_budget_add_up() -> None:
    assert progress.rung_counts(TWO, [1, 2]) == [
        {"epoch": 1, "reached": 2, "went_on": 2},
        {"epoch": 2, "reached": 2, "went_on": 0},
    ]
    found = progress.budget(TWO, 5)
    assert found.trained == {"complete": 2, "stopped_early": 2}
    assert found.saved == 3


def test_the_axis_shows_the_good_values_and_never_loses_the_best() -> None:
    values = [0.1, 0.1, 0.5, 0.9, 0.91, 0.92, 0.93, 0.94]
    low, high = progress.visible_range(values, Objective("val", "max"))
    assert 0.1 < low < 0.5 < 0.94 < high
    low, high = progress.visible_range(values, Objective("val", "min"))
    assert low < 0.1 < 0.93 < high
    assert progress.visible_range([math.nan], Objective("val", "max")) == (0, 1)
    low, high = progress.visible_range([0.5, 0.5], Objective("val", "max"))
    assert low < 0.5 < high


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        ({"type": "float", "low": 0.01, "high": 1.0, "log": True}, 0.1, 0.5),
        ({"type": "int", "low": 10, "high": 20}, 15, 0.5),
        ({"type": "int", "low": 10, "high": 20}, 30, 1.0),
        ({"type": "categorical", "choices": ["a", "b", "c"]}, "b", 0.5),
    ],
)
def test_a_values_position_is_on_its_parameters_own_scale(
    parameter: dict[str, Any], value: Any, expected: float
) -> None:
    found = progress.position(value, PARAMETER.validate_python(parameter))
    assert found == pytest.approx(expected)


def fc1() -> Parameter:
    return PARAMETER.validate_python({"type": "int", "low": 8, "high": 64, "log": True})


def test_importance_compares_all_trials_after_one_epoch_not_the_few_that_asha_let_through() -> None:
    other = PARAMETER.validate_python({"type": "float", "low": 0.0, "high": 1.0})
    trials = []
    for n in range(24):
        value = 0.1 + 0.03 * n  # after one epoch fc1 alone decides
        params = {"fc1": 8 + 2 * n, "noise": (n * 7 % 24) / 24, **({"some": 0.5} if n % 2 else {})}
        # Of those that went on, the noise decides.
        metrics = [value, 0.9, 9 * params["noise"]] if n % 3 == 0 else [value]
        trials.append(
            Trial(
                n,
                params,
                tuple(Epoch(k, {"val_acc": v}) for k, v in enumerate(metrics, 1)),
                Outcome.COMPLETE,
            )
        )
    found = importances(
        trials, {"noise": other, "fc1": fc1(), "some": other}, Objective("val_acc", "max")
    )
    assert found is not None
    assert list(found.shares) == ["fc1", "noise"]
    assert found.shares["fc1"] > 0.8
    assert sum(found.shares.values()) == pytest.approx(1)
    assert (found.epoch, found.trials, found.left_out) == (1, 24, ["some"])
    assert importances(trials[:5], {"fc1": fc1()}, Objective("val_acc", "max")) is None, (
        "too few to say"
    )
