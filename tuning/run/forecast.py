"""Predicts a search: epochs and disk before it begins, the time left while it runs."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil, inf, sqrt
from statistics import mean, stdev

from tuning.run.resources import Slots
from tuning.space import SearchSettings, seconds_of
from tuning.trials import Trial, epochs_trained, explores

BYTES_PER_WEIGHT = 3 * 4  # in a checkpoint: the weight and Adam's two averages, 4 bytes each
FILES_WAITING = 2  # of a waiting trial: best epoch and newest epoch
MOST_WAITING, LEAST_WAITING = 20, 4  # trials at each rung that keep their checkpoints
# What each of the first 30 trials costs under stopping ASHA with TPE, as a part of a full training:
# 10.3 of them in simulations (docs/decisions.md).
STOPPING_SHARE = 1 / 3
FILES_PER_TRIAL = 3  # of a running trial: best epoch, newest epoch, and the one being written
# Ended trials, and recorded epochs, before the time left is estimated: a standard deviation of
# fewer trials says little.
ENOUGH = 4


def shares(search: SearchSettings) -> list[float]:
    """The share of all trials that reaches each rung, then that of those that reach the end."""
    # This is exact for successive halving in steps, and for promotion in the long run. Stopping
    # ASHA decides before all trials are there, so it lets more go on.
    rate = (search.asha.quota or 1) / search.asha.reduction_factor
    return [rate**k for k in range(len(search.rungs()) + 1)]


def epochs_per_trial(search: SearchSettings) -> float:
    """Epochs that a trial has on the average."""
    stages = pairwise([0, *search.rungs(), search.max_epochs])
    return sum(
        part * (end - start) for part, (start, end) in zip(shares(search), stages, strict=True)
    )


def expected_trials(search: SearchSettings) -> int:
    """How many trials a search begins: its cap, or as many as its epochs are enough for."""
    if search.stop.epochs is None:
        return search.trials
    return min(search.trials, max(1, round(search.stop.epochs / epochs_per_trial(search))))


def trials_per_stage(search: SearchSettings) -> list[int]:
    """How many trials reach each rung, then how many reach the last epoch."""
    return [max(1, int(expected_trials(search) * part)) for part in shares(search)]


def expected_epochs(search: SearchSettings) -> int:
    """Epochs of all trials together, if the numbers of `trials_per_stage` hold."""
    stages = pairwise([0, *search.rungs(), search.max_epochs])
    reached = zip(trials_per_stage(search), stages, strict=True)
    epochs = sum(trials * (end - begin) for trials, (begin, end) in reached)
    return min(epochs, search.stop.epochs or epochs)


def waiting_kept(search: SearchSettings) -> int:
    """How many trials that compete at a rung keep their checkpoints while they wait: as many as can
    still go on.
    """
    if not search.promotes:
        return 0
    places = ceil(expected_trials(search) * shares(search)[1])
    return max(LEAST_WAITING, min(MOST_WAITING, places) // kinds(search))


def kinds(search: SearchSettings) -> int:
    """How many trials compete apart: those that explore, and the others."""
    return len({explores(search, number) for number in range(2)})


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
    elif search.promotes:
        yield from promotion_notes(search, trials)
    # with fewer trials than factor squared, the second rung has less than `factor` to compare
    elif search.scheduler == "asha" and trials < factor**2:
        yield (
            f"few trials for ASHA ({trials}): with reduction_factor {factor} it needs about "
            f"{factor**2} to compare; use more trials, or scheduler: none"
        )
    if search.stop.gpu_hours and not slots.gpus:
        yield "search.stop.gpu_hours is never reached: the trials use no GPU"


def promotion_notes(search: SearchSettings, trials: int) -> Iterator[str]:
    """Warnings where a limit in trials makes a search shorter than its author may think."""
    search = search.model_copy(update={"trials": trials})
    usual = round(trials * search.max_epochs * STOPPING_SHARE)
    expected = expected_epochs(search)
    if search.stop.model_dump(exclude_none=True) or expected >= usual:
        return
    more = round(usual / epochs_per_trial(search))
    yield (
        f"{trials} trials that wait at rungs make about {expected} epochs; {trials} that ASHA "
        f"stops make about {usual}. To spend as many: --epochs {usual} --trials {more}"
    )


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
    lengths = [len(trial.epochs) for trial in trials if trial.outcome or trial.waits]
    # Epochs of an earlier process are left out: it may have had more slots, or another device.
    times = [epoch.worked for trial in trials for epoch in trial.epochs if epoch.worked > since]
    if len(lengths) < ENOUGH or len(times) < ENOUGH:
        return None
    pace = (max(times) - min(times)) / (len(times) - 1)  # seconds per epoch, over all slots
    epochs, doubt = epochs_left(trials, lengths, search)
    limit = inf
    if search.stop.time:
        limit = seconds_of(search.stop.time) - worked
    if search.stop.epochs:
        limit = min(limit, (search.stop.epochs - epochs_trained(trials)) * pace)
    low, high = (max(0.0, min(pace * n, limit)) for n in (epochs - doubt, epochs + doubt))
    return low, high


def epochs_left(
    trials: Sequence[Trial], lengths: Sequence[int], search: SearchSettings
) -> tuple[float, float]:
    """How many epochs are still to train, and the standard deviation, if no limit but `trials` ends
    the search.

    Args:
        lengths: the epochs of each trial that has ended, or waits.
    """
    new, trained = max(0, search.trials - len(trials)), epochs_trained(trials)
    # one standard deviation of the sum of `new` lengths, and the error of the mean itself
    doubt = stdev(lengths) * (sqrt(new) + new / sqrt(len(lengths)))
    if search.promotes:  # those that wait may go on
        per_trial = max(trained / len(trials), epochs_per_trial(search))
        return max(0.0, search.trials * per_trial - trained), doubt
    epochs = new * mean(lengths) + sum(
        epochs_to_go(len(trial.epochs), lengths, search.max_epochs)
        for trial in trials
        if not trial.outcome
    )
    return epochs, doubt


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
    size = (
        f"{trials} trials" if search.stop.epochs is None else f"up to {search.stop.epochs} epochs"
    )
    return (
        f"{name}: {size} on {data}, {slots}, trials of up to {search.max_epochs} epochs, "
        f"{search.policy}, seed {search.seed}"
    )


def describe_plan(search: SearchSettings, slots: Slots, weights: int, keep: int) -> Iterator[str]:
    """Rungs, epochs, limits and disk, as lines of text.

    Args:
        weights: how many the largest network of the space has.
        keep: how many ended trials keep a checkpoint.
    """
    rungs, at_most = search.rungs(), search.trials * search.max_epochs
    if rungs:
        yield f"{'rung':>6}  {'after epoch':>11}  {'trials to reach it':>20}  {'go on':>6}"
    stages = zip(rungs, pairwise(trials_per_stage(search)), strict=True)
    for rung, (epoch, (reach, go_on)) in enumerate(stages, 1):
        yield f"{rung:>6}  {epoch:>11}  {reach:>20}  {go_on:>6}"
    at_most = min(at_most, search.stop.epochs or at_most)
    about = f"about {expected_epochs(search)}, {at_most} at most"
    yield f"epochs: {about if rungs else at_most}"
    if rungs:
        yield f"trials: about {expected_trials(search)}, {search.trials} at most"
    limits = search.stop.model_dump(exclude_none=True)
    if limits:
        found = ", ".join(f"{limit} {value}" for limit, value in limits.items())
        yield f"ends at the first of: {search.trials} trials, {found}"
    files = slots.count * FILES_PER_TRIAL + keep
    if kept := waiting_kept(search) * kinds(search):
        yield f"of the trials that wait at a rung the best {kept} keep their checkpoints"
        reached = pairwise(trials_per_stage(search))
        files += FILES_WAITING * sum(min(kept, max(1, here - on)) for here, on in reached)
    disk = BYTES_PER_WEIGHT * weights * files
    yield (
        f"disk: {disk / 1e6:,.0f} MB of checkpoints at most while it runs (the largest network has "
        f"{weights:,} weights)"
    )
