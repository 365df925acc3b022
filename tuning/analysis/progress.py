"""The numbers behind the report's plots: best value as the search went, rungs, where the epochs
went. Pure functions.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from text_recognizer.metrics import Objective
from tuning.trials.stopping import seconds_worked
from tuning.trials.trial import RANKED, Epoch, Trial, counts, epochs_saved


@dataclass(frozen=True)
class Step:
    """The best value from here on: `spent` is in epochs of the whole search, or in seconds of
    work on it.
    """

    spent: float
    value: float
    trial: int
    epoch: int


@dataclass(frozen=True)
class RungCount:
    """How many trials came to a rung, and how many of them trained on beyond it; running ones
    may yet.
    """

    epoch: int
    reached: int
    went_on: int


@dataclass(frozen=True)
class Budget:
    """Epochs: what each outcome's trials used up, what ASHA did not have to train."""

    trained: dict[str, int]
    saved: int


def in_time(trials: Iterable[Trial]) -> list[tuple[Trial, Epoch]]:
    """Every recorded epoch of the search in the order in which it was recorded."""
    return sorted(
        ((trial, epoch) for trial in trials for epoch in trial.epochs),
        key=lambda pair: pair[1].time,
    )


def best_over_epochs(trials: Sequence[Trial], objective: Objective) -> list[Step]:
    """The best value against the epochs trained so far, as steps."""
    pairs = in_time(trials)
    return steps(pairs, [float(n) for n in range(1, len(pairs) + 1)], objective)


def best_over_time(
    trials: Sequence[Trial], objective: Objective, sessions: Sequence[float]
) -> list[Step]:
    """The best value against the seconds worked so far, as steps.

    Args:
        sessions: when a process began to work on the search, seconds since 1970.
    """
    pairs = in_time(trials)
    return steps(pairs, seconds_worked([epoch.time for _, epoch in pairs], sessions), objective)


def steps(
    pairs: Sequence[tuple[Trial, Epoch]], spent: Sequence[float], objective: Objective
) -> list[Step]:
    """One step for each epoch that is better than all before it, and one at the end.

    Trials that have not ended, or cannot be best, have none.
    """
    found: list[Step] = []
    for (trial, epoch), so_far in zip(pairs, spent, strict=True):
        if trial.outcome not in RANKED:
            continue
        if objective.is_better(epoch.metrics[objective.metric], found[-1].value if found else None):
            found.append(Step(so_far, epoch.metrics[objective.metric], trial.number, epoch.epoch))
    if found and spent[-1] > found[-1].spent:
        last = found[-1]
        found.append(Step(spent[-1], last.value, last.trial, last.epoch))
    return found


def rung_counts(trials: Sequence[Trial], rungs: Sequence[int]) -> list[RungCount]:
    """What ASHA did at each of its rungs."""
    lengths = [len(trial.epochs) for trial in trials]
    return [
        RungCount(rung, sum(n >= rung for n in lengths), sum(n > rung for n in lengths))
        for rung in rungs
    ]


def budget(trials: Sequence[Trial], max_epochs: int) -> Budget:
    """Where the epochs went."""
    trained = dict.fromkeys(counts(trials), 0)
    for trial in trials:
        trained[trial.status] += len(trial.epochs)
    return Budget(
        {status: n for status, n in trained.items() if n}, epochs_saved(trials, max_epochs)
    )


def visible_range(
    values: Iterable[float], objective: Objective, margin: float = 0.06
) -> tuple[float, float] | None:
    """Ends of an axis on which the good values can be told apart: the worst quarter may lie
    outside. None without a value.

    Args:
        margin: room beyond the ends, as a share of the range.
    """
    found = sorted(value for value in values if math.isfinite(value))
    if not found:
        return None
    cut = len(found) // 4 if len(found) >= 8 else 0
    low, high = (found[cut], found[-1]) if objective.mode == "max" else (found[0], found[-1 - cut])
    room = margin * (high - low or max(abs(high), 1e-3))
    return low - room, high + room


def quantile_of(value: float, ascending: Sequence[float], objective: Objective) -> float:
    """The share of the `ascending` values that are better than `value`, in [0, 1): 0 is the
    best.
    """
    better = (
        len(ascending) - bisect_right(ascending, value)
        if objective.mode == "max"
        else bisect_left(ascending, value)
    )
    return better / max(1, len(ascending))
