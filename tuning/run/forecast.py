"""Predicts a search: rungs, epochs and disk before it begins, the time left while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

from tuning.run.resources import Slots
from tuning.space.durations import seconds_of
from tuning.space.schema import SearchSettings
from tuning.trials.trial import Trial, epochs_trained

BYTES_PER_WEIGHT = 3 * 4  # in a checkpoint: the weight and Adam's two averages, 4 bytes each
FILES_PER_TRIAL = 3  # of a running trial: best epoch, newest epoch, and the one being written
ENOUGH = 4  # ended trials, and recorded epochs, before the time left is estimated


@dataclass(frozen=True)
class Rung:
    """An epoch after which ASHA compares trials; how many trials reach it, and how many go on."""

    epoch: int
    trials: int
    go_on: int


def rung_table(search: SearchSettings) -> list[Rung]:
    """The rungs of ASHA if exactly the best 1/reduction_factor go on at each. ASHA decides before
    all trials are there, so the real numbers are a little larger.
    """
    reach = [
        max(1, search.trials // search.asha.reduction_factor**k)
        for k in range(len(search.rungs()) + 1)
    ]
    return [Rung(epoch, reach[k], reach[k + 1]) for k, epoch in enumerate(search.rungs())]


def expected_epochs(search: SearchSettings) -> int:
    """Epochs of all trials together, if the numbers of `rung_table` hold."""
    ends = [*search.rungs(), search.max_epochs]
    longer = zip(rung_table(search), ends[1:], strict=True)
    return search.trials * ends[0] + sum(rung.go_on * (end - rung.epoch) for rung, end in longer)


def notes(search: SearchSettings, trials: int, slots: Slots) -> list[str]:
    """What a user should know before the search begins, because it differs from what the file or
    the flags suggest.
    """
    found = [slots.note] if slots.note else []
    found += halving_warnings(search, trials)
    if search.stop.gpu_hours and not slots.gpus:
        found.append("search.stop.gpu_hours is never reached: the trials use no GPU")
    return found


def halving_warnings(search: SearchSettings, trials: int) -> Iterator[str]:
    """Warn if successive halving has too few epochs or trials to work with."""
    factor, grace = search.asha.reduction_factor, search.asha.grace_epochs
    if search.scheduler == "none":
        return
    if not search.rungs():
        yield (
            f"no trial can be stopped early: the first rung (grace_epochs {grace}) is not before "
            f"the last epoch (max_epochs {search.max_epochs})"
        )
    elif trials < factor**2:
        yield (
            f"few trials for ASHA ({trials}): with reduction_factor {factor} it needs about "
            f"{factor**2} to compare; use more trials, or scheduler: none"
        )


def time_left(
    trials: Sequence[Trial], search: SearchSettings, since: float, worked: float
) -> tuple[float, float] | None:
    """The shortest and the longest time, in seconds, that a search is likely to take from now on.

    It takes the epochs that trials had so far, their standard deviation and the pace of this
    process, and cuts the result at the limits of `search.stop`.

    Args:
        search: its `trials` is how many the search will have in all.
        since: when this process began, in seconds since 1970. Epochs recorded before say nothing
            about its pace.
        worked: seconds that all processes of the search have worked.

    Returns:
        None if too few trials have ended.
    """
    lengths = [len(trial.epochs) for trial in trials if trial.outcome]
    times = [epoch.time for trial in trials for epoch in trial.epochs if epoch.time >= since]
    if len(lengths) < ENOUGH or len(times) < ENOUGH:
        return None
    pace = (max(times) - min(times)) / (len(times) - 1)  # seconds per epoch, over all slots
    new = max(0, search.trials - len(trials))
    epochs = new * mean(lengths) + sum(
        epochs_to_go(len(trial.epochs), lengths, search.max_epochs)
        for trial in trials
        if not trial.outcome
    )
    # one standard deviation of the sum of `new` lengths, and the error of the mean itself
    doubt = stdev(lengths) * (sqrt(new) + new / sqrt(len(lengths)))
    limits = [float("inf")]
    if search.stop.time:
        limits.append(seconds_of(search.stop.time) - worked)
    if search.stop.epochs:
        limits.append((search.stop.epochs - epochs_trained(trials)) * pace)
    low, high = (max(0.0, min(pace * n, *limits)) for n in (epochs - doubt, epochs + doubt))
    return low, high


def epochs_to_go(epochs: int, lengths: Sequence[int], max_epochs: int) -> float:
    """How many more epochs a running trial will have: the mean of the ended trials that had
    more than its `epochs`.
    """
    further = [length - epochs for length in lengths if length > epochs]
    return mean(further) if further else (max_epochs - epochs) / 2


def disk_bytes(weights: int, slots: Slots, keep: int) -> int:
    """The most that checkpoints take on disk while the search runs.

    Args:
        weights: how many the largest network of the space has.
        keep: how many ended trials keep a checkpoint.
    """
    return BYTES_PER_WEIGHT * weights * (slots.count * FILES_PER_TRIAL + keep)


def describe_search(search: SearchSettings, trials: int, name: str, data: str, slots: Slots) -> str:
    """The search in one line.

    Args:
        name: of its space file.
        data: the name of the data set.
    """
    return (
        f"{name}: {trials} trials on {data}, {slots}, up to {search.max_epochs} epochs, "
        f"{search.sampler} + {search.scheduler}, seed {search.seed}"
    )


def describe_plan(search: SearchSettings, slots: Slots, weights: int, keep: int) -> Iterator[str]:
    """Rungs, epochs, limits and disk, as lines of text. `weights` and `keep` as in `disk_bytes`."""
    rungs, most = rung_table(search), search.trials * search.max_epochs
    if rungs:
        yield f"{'rung':>6}  {'after epoch':>11}  {'trials to reach it':>20}  {'go on':>6}"
    for k, rung in enumerate(rungs, 1):
        yield f"{k:>6}  {rung.epoch:>11}  {rung.trials:>20}  {rung.go_on:>6}"
    yield f"epochs: about {expected_epochs(search)}, {most} at most" if rungs else f"epochs: {most}"
    limits = search.stop.model_dump(exclude_none=True)
    if limits:
        found = ", ".join(f"{limit} {value}" for limit, value in limits.items())
        yield f"stops before that at: {found}"
    yield (
        f"disk: {disk_bytes(weights, slots, keep) / 1e6:,.0f} MB of checkpoints at most while it "
        f"runs (the largest network has {weights:,} weights)"
    )
