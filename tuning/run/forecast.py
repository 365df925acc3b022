"""What a search will do: its rungs, epochs and disk before it begins, its time left while it
runs. Pure arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from statistics import mean, stdev

from tuning.run.resources import Slots
from tuning.space.durations import seconds_of
from tuning.space.schema import SearchSettings, Stop
from tuning.trials.trial import Trial

STATES_PER_WEIGHT = 3  # a checkpoint holds each weight and, for Adam, two numbers more
ENOUGH_TRIALS = 4  # that have ended, before the time left is guessed
FILES_PER_TRIAL = 3  # of a running one: its best epoch's, its newest, and the one being written


@dataclass(frozen=True)
class Rung:
    """An epoch after which ASHA compares trials; about how many will come to it, and how many go
    on.
    """

    epoch: int
    trials: int
    go_on: int


def rung_table(search: SearchSettings, trials: int) -> list[Rung]:
    """The rungs of ASHA if of those that come to one its best share goes on; which come early
    moves that a little.
    """
    reach = [
        max(1, trials // search.asha.reduction_factor**k) for k in range(len(search.rungs()) + 1)
    ]
    return [
        Rung(epoch, now, then)
        for epoch, (now, then) in zip(search.rungs(), pairwise(reach), strict=True)
    ]


def expected_epochs(search: SearchSettings, trials: int) -> int:
    """Epochs in all, by the same reckoning."""
    ends = [*search.rungs(), search.max_epochs]
    reach = [rung.trials for rung in rung_table(search, trials)]
    last = rung_table(search, trials)[-1].go_on if reach else trials
    return sum(
        n * (end - start)
        for n, (start, end) in zip([*reach, last], pairwise([0, *ends]), strict=True)
    )


def notes(search: SearchSettings, trials: int, slots: Slots) -> list[str]:
    """What a user should know before the search begins: all that will not go as the file or the
    flags seem to say.
    """
    found = [slots.note] if slots.note else []
    found += halving_warnings(search, trials)
    if search.stop.gpu_hours and not slots.gpus:
        found.append("search.stop.gpu_hours is never reached: the trials use no GPU")
    return found


def halving_warnings(search: SearchSettings, trials: int) -> Iterator[str]:
    """Where successive halving has too little to work with."""
    if search.scheduler == "none":
        return
    factor, rungs = search.asha.reduction_factor, search.rungs()
    if not rungs:
        yield (
            "no trial can be stopped early: the first rung (grace_epochs "
            f"{search.asha.grace_epochs}) is not before the last "
            f"epoch (max_epochs {search.max_epochs})"
        )
    elif trials < factor**2:
        yield (
            f"few trials for ASHA ({trials}): it lets the best 1 of {factor} go on, and "
            "compares hardly anything before "
            f"{factor**2} trials; more trials, or scheduler: none"
        )


@dataclass(frozen=True)
class TimeLeft:
    """Between which seconds the end of a search is to be expected."""

    low: float
    high: float


def time_left(
    trials: Sequence[Trial], wanted: int, max_epochs: int, since: float, stop: Stop, worked: float
) -> TimeLeft | None:
    """How long a search will take yet, by what its trials took so far; None while too few have
    ended to say.

    Args:
        since: when this process began, seconds since 1970: epochs recorded before say nothing of
            its pace.
        worked: seconds, by all processes of the search.
    """
    lengths = [len(trial.epochs) for trial in trials if trial.outcome]
    times = [epoch.time for trial in trials for epoch in trial.epochs if epoch.time >= since]
    if len(lengths) < ENOUGH_TRIALS or len(times) < ENOUGH_TRIALS:
        return None
    pace = (max(times) - min(times)) / (len(times) - 1)  # seconds per epoch, of all slots together
    new = max(0, wanted - len(trials))
    epochs = new * mean(lengths) + sum(
        to_go(len(trial.epochs), lengths, max_epochs) for trial in trials if not trial.outcome
    )
    # of their sum, and of the mean itself
    doubt = stdev(lengths) * (sqrt(new) + new / sqrt(len(lengths)))
    low, high = (pace * max(0.0, epochs + sign * doubt) for sign in (-1, 1))
    caps = [seconds_of(stop.time) - worked] if stop.time else []
    caps += (
        [(stop.epochs - sum(len(trial.epochs) for trial in trials)) * pace] if stop.epochs else []
    )
    low, high = (max(0.0, min([seconds, *caps])) for seconds in (low, high))
    return TimeLeft(low, high)


def to_go(epochs: int, lengths: Sequence[int], max_epochs: int) -> float:
    """How many epochs more a trial will train that has come so far, by those that came further."""
    further = [length - epochs for length in lengths if length > epochs]
    return mean(further) if further else (max_epochs - epochs) / 2


def disk_bytes(weights: int, slots: Slots, keep: int) -> int:
    """Checkpoints on disk at most, while the search runs, if every trial has the largest network of
    the space.

    Args:
        weights: of that network, 4 bytes each.
        keep: how many ended trials keep a checkpoint.
    """
    return 4 * STATES_PER_WEIGHT * weights * (slots.count * FILES_PER_TRIAL + keep)


def told(
    search: SearchSettings, name: str, data: str, slots: Slots, weights: int, keep: int
) -> Iterator[str]:
    """The plan as lines of text."""
    how = f"{search.sampler} + {search.scheduler}, seed {search.seed}"
    yield (
        f"{name}: {search.trials} trials on {data}, {slots}, up to {search.max_epochs} "
        f"epochs, {how}"
    )
    rungs = rung_table(search, search.trials)
    if rungs:
        yield f"{'rung':>6}  {'after epoch':>11}  {'trials to reach it':>20}  {'go on':>6}"
    for k, rung in enumerate(rungs, 1):
        yield f"{k:>6}  {rung.epoch:>11}  {rung.trials:>20}  {rung.go_on:>6}"
    most = search.trials * search.max_epochs
    yield (
        f"epochs: about {expected_epochs(search, search.trials)}, {most} at most"
        if rungs
        else f"epochs: {most}"
    )
    limits = search.stop.model_dump(exclude_none=True)
    if limits:
        yield "stops before that at: " + ", ".join(
            f"{limit} {value}" for limit, value in limits.items()
        )
    size = disk_bytes(weights, slots, keep) / 1e6
    yield (
        f"disk: {size:,.0f} MB of checkpoints at most while it runs (the largest network has "
        f"{weights:,} weights)"
    )
