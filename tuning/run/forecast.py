"""Predicts a search: epochs and disk before it begins, the time left while it runs."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf, sqrt
from statistics import mean, stdev

from tuning.run.resources import Slots
from tuning.space import SearchSettings, seconds_of
from tuning.trials import Trial, epochs_trained

BYTES_PER_WEIGHT = 3 * 4  # in a checkpoint: the weight and Adam's two averages, 4 bytes each
FILES_PER_TRIAL = 3  # of a running trial: best epoch, newest epoch, and the one being written
# Ended trials, and recorded epochs, before the time left is estimated: a standard deviation of
# fewer trials says little.
ENOUGH = 4


def trials_per_stage(search: SearchSettings) -> list[int]:
    """How many trials reach each rung of ASHA, then how many reach the last epoch."""
    # This is exact for successive halving in steps. ASHA decides before all trials are there, so
    # it lets a few more go on.
    return [
        max(1, search.trials // search.asha.reduction_factor**k)
        for k in range(len(search.rungs()) + 1)
    ]


def expected_epochs(search: SearchSettings) -> int:
    """Epochs of all trials together, if the numbers of `trials_per_stage` hold."""
    stages = pairwise([0, *search.rungs(), search.max_epochs])
    reached = zip(trials_per_stage(search), stages, strict=True)
    return sum(trials * (end - begin) for trials, (begin, end) in reached)


def notes(search: SearchSettings, trials: int, slots: Slots) -> Iterator[str]:
    """Warnings before a search begins: where it will differ from what the file or the flags ask."""
    if slots.note:
        yield slots.note
    factor, grace = search.asha.reduction_factor, search.asha.grace_epochs
    if search.scheduler == "asha" and not search.rungs():
        yield (
            f"no trial can be stopped early: the first rung (grace_epochs {grace}) is not before "
            f"the last epoch (max_epochs {search.max_epochs})"
        )
    # with fewer trials than factor squared, the second rung has less than `factor` to compare
    elif search.scheduler == "asha" and trials < factor**2:
        yield (
            f"few trials for ASHA ({trials}): with reduction_factor {factor} it needs about "
            f"{factor**2} to compare; use more trials, or scheduler: none"
        )
    if search.stop.gpu_hours and not slots.gpus:
        yield "search.stop.gpu_hours is never reached: the trials use no GPU"


def time_left(
    trials: Sequence[Trial], search: SearchSettings, since: float, worked: float
) -> tuple[float, float] | None:
    """Estimate how long a search still takes: the shortest and the longest time, in seconds.

    The estimate is the number of epochs still to train, plus and minus its standard deviation,
    times the seconds per epoch so far. The limits of `search.stop` cut it.

    Args:
        search: `trials` in it is how many the search will have in all.
        since: seconds that the search had worked before this process began.
        worked: seconds that all processes of the search have worked.

    Returns:
        None if too few trials have ended.
    """
    lengths = [len(trial.epochs) for trial in trials if trial.outcome]
    # Epochs of an earlier process are left out: it may have had more slots, or another device.
    times = [epoch.worked for trial in trials for epoch in trial.epochs if epoch.worked > since]
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
    limit = inf
    if search.stop.time:
        limit = seconds_of(search.stop.time) - worked
    if search.stop.epochs:
        limit = min(limit, (search.stop.epochs - epochs_trained(trials)) * pace)
    low, high = (max(0.0, min(pace * n, limit)) for n in (epochs - doubt, epochs + doubt))
    return low, high


def epochs_to_go(epochs: int, lengths: Sequence[int], max_epochs: int) -> float:
    """How many more epochs a running trial will have after `epochs`.

    Args:
        lengths: the epochs of each ended trial.
    """
    # Only trials that came further tell about this one. The mean of all would be too small.
    further = [length - epochs for length in lengths if length > epochs]
    return mean(further) if further else (max_epochs - epochs) / 2


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
    """Rungs, epochs, limits and disk, as lines of text.

    Args:
        weights: how many the largest network of the space has.
        keep: how many ended trials keep a checkpoint.
    """
    rungs, most = search.rungs(), search.trials * search.max_epochs
    if rungs:
        yield f"{'rung':>6}  {'after epoch':>11}  {'trials to reach it':>20}  {'go on':>6}"
    stages = zip(rungs, pairwise(trials_per_stage(search)), strict=True)
    for rung, (epoch, (reach, go_on)) in enumerate(stages, 1):
        yield f"{rung:>6}  {epoch:>11}  {reach:>20}  {go_on:>6}"
    yield f"epochs: about {expected_epochs(search)}, {most} at most" if rungs else f"epochs: {most}"
    limits = search.stop.model_dump(exclude_none=True)
    if limits:
        found = ", ".join(f"{limit} {value}" for limit, value in limits.items())
        yield f"stops before that at: {found}"
    disk = BYTES_PER_WEIGHT * weights * (slots.count * FILES_PER_TRIAL + keep)
    yield (
        f"disk: {disk / 1e6:,.0f} MB of checkpoints at most while it runs (the largest network has "
        f"{weights:,} weights)"
    )
