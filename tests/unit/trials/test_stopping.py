"""The limits of a search, on plain records."""

from __future__ import annotations

from typing import Any

import pytest

from text_recognizer.metrics import Objective
from tuning.space.durations import seconds_of, shown_duration
from tuning.space.schema import Stop
from tuning.trials.stopping import gpu_hours, limit_reached
from tuning.trials.trial import Epoch, Outcome, Trial


def trial(
    number: int, *values: float, outcome: Outcome | None = Outcome.COMPLETE, at: float = 0.0
) -> Trial:
    epochs = tuple(
        Epoch(i, {"val_acc": value, "val_loss": 1 - value}, time=at + i, gpu_seconds=900)
        for i, value in enumerate(values, 1)
    )
    return Trial(number, {}, epochs, outcome)


TRIALS = [
    trial(0, 0.5, 0.8, at=10),
    trial(1, 0.9, at=20),
    trial(2, 0.7, at=30),
    trial(3, 0.6, at=40),
]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"epochs": 5}, "the budget of 5 epochs"),
        ({"epochs": 6}, None),
        ({"time": "1m"}, "the time budget of 1m"),
        ({"time": "2m"}, None),
        ({"gpu_hours": 1.25}, "1.25 GPU-hours"),
        ({"gpu_hours": 1.26}, None),
        ({"target": 0.9}, "val_acc 0.9000 of trial 1 reaches the target 0.9"),
        ({"target": 0.91}, None),
        ({"plateau": 2}, "no better trial among the last 2"),
        ({"plateau": 3}, None),
        ({"plateau": 3, "target": 0.99, "epochs": 5}, "the budget of 5 epochs"),
        ({}, None),
    ],
)
def test_the_first_limit_that_is_reached_is_said(limits: dict[str, Any], words: str | None) -> None:
    said = limit_reached(Stop(**limits), TRIALS, Objective("val_acc", "max"), seconds=60)
    assert words in said if words and said else said is words


def test_a_target_of_a_loss_is_reached_from_above() -> None:
    assert limit_reached(Stop(target=0.15), TRIALS, Objective("val_loss", "min"), 0)
    assert not limit_reached(Stop(target=0.05), TRIALS, Objective("val_loss", "min"), 0)


def test_a_trial_that_cannot_be_best_reaches_no_target_and_ends_no_plateau() -> None:
    diverged = trial(4, 0.95, float("nan"), outcome=Outcome.DIVERGED, at=50)
    assert (
        limit_reached(Stop(target=0.95), [*TRIALS, diverged], Objective("val_acc", "max"), 0)
        is None
    )
    assert limit_reached(Stop(plateau=3), [*TRIALS, diverged], Objective("val_acc", "max"), 0)


def test_a_running_trial_reaches_the_target_too() -> None:
    assert limit_reached(
        Stop(target=0.95), [*TRIALS, trial(4, 0.95, outcome=None)], Objective("val_acc", "max"), 0
    )


def test_gpu_hours_are_those_of_all_epochs() -> None:
    assert gpu_hours(TRIALS) == 5 * 900 / 3600


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1d", 86400), ("0.5h", 1800)],
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "m", "0s", "-5m", "30 minutes", "5m1h", "nan", "infs", "1e3s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="30m"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(5400, "1h30m"), (45, "45s"), (0, "0s"), (90061, "1d1h")]
)
def test_durations_are_shown_in_two_units(seconds: float, text: str) -> None:
    assert shown_duration(seconds) == text
