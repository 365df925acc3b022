"""Computes the numbers behind the report's plots from the records of trials."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from text_recognizer.metrics import Objective
from tuning.space import CategoricalParameter, Parameter
from tuning.trials import Epoch, Trial, counts, epochs_saved


@dataclass(frozen=True)
class Step:
    """The best value of the search after so much was `spent`: epochs of all trials, or seconds."""

    spent: float
    value: float
    trial: int
    epoch: int


@dataclass(frozen=True)
class Budget:
    """The epochs that the trials of each outcome trained, and those that ASHA skipped."""

    trained: dict[str, int]
    saved: int


def in_time(trials: Iterable[Trial]) -> list[tuple[Trial, Epoch]]:
    """Every recorded epoch of the search with its trial, the earliest first."""
    # trials run at the same time: their epochs are not recorded in the order of their numbers
    pairs = ((trial, epoch) for trial in trials for epoch in trial.epochs)
    return sorted(pairs, key=lambda pair: pair[1].worked)


def best_over_epochs(trials: Sequence[Trial], objective: Objective) -> list[Step]:
    """The best value against the epochs of all trials. A step for each epoch of a ranked trial that
    is better than all before it, and a last one at the end of the search.
    """
    found: list[Step] = []
    pairs = in_time(trials)
    for spent, (trial, epoch) in enumerate(pairs, 1):
        value = epoch.metrics[objective.metric]
        best = found[-1].value if found else None
        if trial.can_be_best and objective.is_better(value, best):
            found.append(Step(spent, value, trial.number, epoch.epoch))
    # the line goes on to the end of the search, to show how long nothing better was found
    if found and found[-1].spent < len(pairs):
        found.append(replace(found[-1], spent=len(pairs)))
    return found


def best_over_time(trials: Sequence[Trial], objective: Objective) -> list[Step]:
    """`best_over_epochs`, against the seconds worked instead."""
    # a night between an interruption and its resume is no work
    seconds = [epoch.worked for _, epoch in in_time(trials)]
    steps = best_over_epochs(trials, objective)
    return [replace(step, spent=seconds[int(step.spent) - 1]) for step in steps]


def rung_counts(trials: Sequence[Trial], rungs: Sequence[int]) -> list[dict[str, int]]:
    """Count the trials that reached each rung of ASHA, and those that have trained beyond it.

    Args:
        rungs: epochs after which a trial may be stopped, or wait.
    """
    lengths = [len(trial.epochs) for trial in trials]
    return [
        {
            "epoch": rung,
            "reached": sum(n >= rung for n in lengths),
            "went_on": sum(n > rung for n in lengths),
        }
        for rung in rungs
    ]


def budget(trials: Sequence[Trial], max_epochs: int) -> Budget:
    """Count the epochs of the search by the outcome of their trial."""
    trained = Counter(trial.status for trial in trials for _ in trial.epochs)
    # in a fixed order: the colours of a live page must not change their places
    used = {status: trained[status] for status in counts(trials) if trained[status]}
    return Budget(used, epochs_saved(trials, max_epochs))


def visible_range(values: Iterable[float], objective: Objective) -> tuple[float, float]:
    """The ends of an axis on which a reader can tell the good values apart.

    Of eight values or more, the worst quarter may lie outside.
    """
    found = sorted(value for value in values if math.isfinite(value))
    if not found:
        return 0.0, 1.0
    # one diverging trial would squeeze all others into a line, and the first epochs of all trials
    # would fill half of the plot
    cut = len(found) // 4 if len(found) >= 8 else 0
    low, high = (found[cut], found[-1]) if objective.mode == "max" else (found[0], found[-1 - cut])
    # values that are all alike need an axis of some length, too
    room = 0.06 * (high - low or max(abs(high), 1e-3))
    return low - room, high + room


def position(value: Any, parameter: Parameter) -> float:
    """Where a value lies in its parameter's range, on the parameter's own scale: 0 is the low end,
    1 is the high end. A value outside counts as the nearer end.
    """
    if isinstance(parameter, CategoricalParameter):
        return parameter.choices.index(value) / (len(parameter.choices) - 1)
    scale = math.log if parameter.log else float
    # `interp` clips: the axis of a metric shows only a part of its values
    ends = [scale(parameter.low), scale(parameter.high)]
    return float(np.interp(scale(value), ends, [0, 1]))
