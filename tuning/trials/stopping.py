"""When a search ends before its last trial: the limits under `search.stop`."""

import math
from bisect import bisect_right
from collections.abc import Sequence

from text_recognizer.metrics import Objective
from tuning.space import Stop, seconds_of
from tuning.trials.trial import Best, Trial, by_value, epochs_trained


def limit_reached(
    stop: Stop, trials: Sequence[Trial], objective: Objective, seconds: float
) -> str | None:
    """The first limit that the search has reached, as a sentence, or None.

    Args:
        seconds: how long the search has worked, over all its processes.
    """
    if stop.epochs is not None and epochs_trained(trials) >= stop.epochs:
        return f"the budget of {stop.epochs} epochs is used up"
    if stop.time is not None and seconds >= seconds_of(stop.time):
        return f"the time budget of {stop.time} is used up"
    if stop.gpu_hours is not None and gpu_hours(trials) >= stop.gpu_hours:
        return f"the budget of {stop.gpu_hours:g} GPU-hours is used up"
    if stop.target is not None and (hit := first_at(stop.target, trials, objective)):
        found = f"{objective.metric} {hit.value:.4f} of trial {hit.trial.number}"
        return f"{found} reaches the target {stop.target:g}"
    if stop.plateau is not None and trials_without_gain(trials, objective) >= stop.plateau:
        return f"no better trial among the last {stop.plateau}"
    return None


def gpu_hours(trials: Sequence[Trial]) -> float:
    """GPU time of the recorded epochs. Half a GPU for an hour is half a GPU-hour."""
    return sum(epoch.gpu_seconds for trial in trials for epoch in trial.epochs) / 3600


def first_at(target: float, trials: Sequence[Trial], objective: Objective) -> Best | None:
    """The first trial that is as good as the target or better, or None."""
    # A running trial counts: its epoch is recorded, and its checkpoint is on disk.
    counted = (trial for trial in trials if trial.can_be_best or trial.outcome is None)
    ranked = by_value(counted, objective)
    reached = [best for best in ranked if not objective.is_better(target, best.value)]
    return min(reached, key=lambda best: best.trial.number, default=None)


def trials_without_gain(trials: Sequence[Trial], objective: Objective) -> int:
    """How many trials have ended, or wait, since the last one that was better than all before it.
    Trials without an epoch do not count.
    """
    ended = [trial for trial in trials if (trial.outcome or trial.waits) and trial.epochs]
    best: float | None = None
    since = 0
    # By their last epochs: trials end in another order than they begin.
    for trial in sorted(ended, key=lambda trial: trial.epochs[-1].worked):
        epoch = trial.best_epoch(objective) if trial.can_be_best else None
        if epoch and objective.is_better(epoch.metrics[objective.metric], best):
            best, since = epoch.metrics[objective.metric], 0
        else:
            since += 1
    return since


def seconds_worked(times: Sequence[float], sessions: Sequence[float]) -> list[float]:
    """How long the search had worked at each of the times. Pauses between sessions do not count.

    Args:
        times: ascending, in seconds since 1970.
        sessions: when each process began to work on the search; ascending.
    """
    # Older versions recorded only when an epoch was recorded, and when each process began.
    starts = list(sessions) or list(times[:1])
    before = [0.0]  # worked before each session
    # A session may have been killed, so its last epoch is the last that is known of it.
    for start, end in zip(starts, [*starts[1:], math.inf], strict=False):
        last = max((time for time in times if start <= time < end), default=start)
        before.append(before[-1] + last - start)
    found = []
    for time in times:
        session = max(0, bisect_right(starts, time) - 1)
        found.append(before[session] + max(0.0, time - starts[session]))
    return found
