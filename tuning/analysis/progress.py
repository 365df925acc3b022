"""The numbers behind the report's plots, from plain records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from text_recognizer.metrics import Objective
from tuning.space.schema import CategoricalParameter, Parameter
from tuning.trials.stopping import seconds_worked
from tuning.trials.trial import RANKED, Epoch, Trial, counts, epochs_saved


@dataclass(frozen=True)
class Step:
    """The best value of the search once so much was `spent`: epochs of all trials, or seconds."""

    spent: float
    value: float
    trial: int
    epoch: int


@dataclass(frozen=True)
class RungCount:
    """How many trials reached a rung, and how many trained on beyond it so far."""

    epoch: int
    reached: int
    went_on: int


@dataclass(frozen=True)
class Budget:
    """The epochs that the trials of each outcome trained, and those that ASHA skipped."""

    trained: dict[str, int]
    saved: int


def in_time(trials: Iterable[Trial]) -> list[tuple[Trial, Epoch]]:
    """Every recorded epoch of the search, the earliest first."""
    # trials run at the same time: their numbers are not the order of their epochs
    pairs = ((trial, epoch) for trial in trials for epoch in trial.epochs)
    return sorted(pairs, key=lambda pair: pair[1].time)


def best_over_epochs(trials: Sequence[Trial], objective: Objective) -> list[Step]:
    """The best value against the epochs trained so far."""
    pairs = in_time(trials)
    return steps(pairs, [float(n) for n in range(1, len(pairs) + 1)], objective)


def best_over_time(
    trials: Sequence[Trial], objective: Objective, sessions: Sequence[float]
) -> list[Step]:
    """The best value against the seconds worked so far.

    Args:
        sessions: when the search was started and resumed, seconds since 1970.
    """
    pairs = in_time(trials)
    return steps(pairs, seconds_worked([epoch.time for _, epoch in pairs], sessions), objective)


def steps(
    pairs: Sequence[tuple[Trial, Epoch]], spent: Sequence[float], objective: Objective
) -> list[Step]:
    """A step for each epoch of a ranked trial that is better than all before it, and a last one
    at the end of the search.
    """
    found: list[Step] = []
    for (trial, epoch), so_far in zip(pairs, spent, strict=True):
        value = epoch.metrics[objective.metric]
        best = found[-1].value if found else None
        if trial.outcome in RANKED and objective.is_better(value, best):
            found.append(Step(so_far, value, trial.number, epoch.epoch))
    # the stairs end where the search ends, not at its last success
    if found and spent[-1] > found[-1].spent:
        found.append(replace(found[-1], spent=spent[-1]))
    return found


def rung_counts(trials: Sequence[Trial], rungs: Sequence[int]) -> list[RungCount]:
    """The number of trials at each rung of ASHA.

    Args:
        rungs: epochs after which a trial may be stopped.
    """
    lengths = [len(trial.epochs) for trial in trials]
    return [
        RungCount(rung, sum(n >= rung for n in lengths), sum(n > rung for n in lengths))
        for rung in rungs
    ]


def budget(trials: Sequence[Trial], max_epochs: int) -> Budget:
    """Where the epochs of the search went."""
    trained = dict.fromkeys(counts(trials), 0)
    for trial in trials:
        trained[trial.status] += len(trial.epochs)
    used = {status: n for status, n in trained.items() if n}
    return Budget(used, epochs_saved(trials, max_epochs))


def visible_range(
    values: Iterable[float], objective: Objective, margin: float = 0.06
) -> tuple[float, float] | None:
    """The ends of an axis on which the good values can be told apart; None without a finite value.

    The worst quarter of eight values or more may lie outside: one trial that diverged would
    squeeze all others into a line.

    Args:
        margin: room beyond the ends, as a share of the range.
    """
    found = sorted(value for value in values if math.isfinite(value))
    if not found:
        return None
    # the first epochs of all trials are bad values, too: they would fill half of the plot
    cut = len(found) // 4 if len(found) >= 8 else 0
    low, high = (found[cut], found[-1]) if objective.mode == "max" else (found[0], found[-1 - cut])
    room = margin * (high - low or max(abs(high), 1e-3))
    return low - room, high + room


def position(value: Any, parameter: Parameter) -> float:
    """Where a value lies in its parameter's range, on the parameter's own scale, in [0, 1]: 0 at
    the low end, 1 at the high end. Values outside count as the end.
    """
    if isinstance(parameter, CategoricalParameter):
        return parameter.choices.index(value) / (len(parameter.choices) - 1)
    low, high = parameter.low, parameter.high
    # the axis of a metric shows a part of its values only
    inside = min(max(value, low), high)
    if parameter.log:
        return math.log(inside / low) / math.log(high / low)
    return float((inside - low) / (high - low))
