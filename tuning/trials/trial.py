"""Trials as plain records, and what follows from them: best epoch, ranking, counts."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import PurePath
from typing import Any

from text_recognizer.metrics import Objective
from text_recognizer.text import shown

RUNNING, WAITING = "running", "waiting"


class Outcome(StrEnum):
    """How a trial ended. Study, CSV, summary, console and report all use this word."""

    COMPLETE = "complete"  # the worker reports it after the last epoch
    STOPPED_EARLY = "stopped_early"  # ASHA, or a limit of the search
    DIVERGED = "diverged"  # the objective is NaN or infinite
    OUT_OF_MEMORY = "out_of_memory"  # the worker reports it
    STALLED = "stalled"  # the worker's watchdog ended its process
    FAILED = "failed"  # the worker reports an exception, or its process died


@dataclass(frozen=True)
class Ending:
    """What an outcome means to the search.

    Args:
        state: Optuna's state of the trial. TPE learns from COMPLETE and PRUNED, and ignores FAIL.
        constraint: what the trial violates, so that the sampler avoids its region. Told as FAIL
            instead, 20 of 20 later proposals ran out of memory again; with a constraint 8 of 20.
        can_be_best: the trial's best epoch counts.
        retried: the trial is handed out again, at most `--retries` times.
    """

    state: str
    constraint: str = ""
    can_be_best: bool = False
    retried: bool = False


ENDINGS = {
    Outcome.COMPLETE: Ending("COMPLETE", can_be_best=True),
    Outcome.STOPPED_EARLY: Ending("PRUNED", can_be_best=True),
    Outcome.DIVERGED: Ending("PRUNED", constraint="diverged"),
    Outcome.OUT_OF_MEMORY: Ending("PRUNED", constraint="memory"),
    Outcome.STALLED: Ending("FAIL"),  # it would hang again
    Outcome.FAILED: Ending("FAIL", retried=True),
}
RANKED = tuple(outcome for outcome, ending in ENDINGS.items() if ending.can_be_best)


@dataclass(frozen=True)
class Epoch:
    """One recorded epoch of a trial.

    Args:
        epoch: counted from 1.
        metrics: by name; a value may be NaN or infinite.
        checkpoint: path within the run's `trials/` of the file that was written before the report.
        sha256: of that file.
        time: when the epoch was recorded, in seconds since 1970. A clock may step: only shown.
        worked: how long the search had worked by then, in seconds. It grows with every epoch that
            is recorded, also over kills, so it is the order of the commits.
        gpu_seconds: how long the epoch took, times the trial's share of a GPU.

    Raises:
        ValueError: a value is not possible. A study may be a stranger's, and its checkpoint paths
            are read and deleted.
    """

    epoch: int
    metrics: dict[str, float]
    checkpoint: str | None = None
    sha256: str | None = None
    time: float = 0.0
    gpu_seconds: float = 0.0
    worked: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.epoch, int) or self.epoch < 1:
            raise ValueError(f"epoch: {shown(self.epoch)}")
        if not all(
            isinstance(value, int | float) for value in (self.time, self.gpu_seconds, self.worked)
        ):
            raise ValueError(f"time in epoch {self.epoch}")
        if self.checkpoint is not None and not stays_within(self.checkpoint):
            raise ValueError(
                f"checkpoint in epoch {self.epoch}: {shown(self.checkpoint)} is not a path within "
                "its folder"
            )

    def has_diverged(self, metric: str) -> bool:
        """Whether the trial ends with this epoch, which must never be compared with others.

        Args:
            metric: the search's.
        """
        # NaN outputs have a finite accuracy: every image counts as the first class.
        value, loss = self.metrics[metric], self.metrics.get("val_loss", 0)
        return not math.isfinite(value) or math.isnan(loss)


@dataclass(frozen=True)
class Trial:
    """One trial as the study has it.

    Args:
        number: Optuna's number of the trial; its folder is called after it.
        params: the hyperparameters by name.
        outcome: None while the trial runs, or waits to be continued.
        cause: why it ended, unless it is complete or ASHA stopped it.
        failures: the causes of the attempts that were retried.
        waits_after: the rung at which it waits, or waited last; 0 if it never did.
        went_on_after: the rung at which its last wait ended, and it was handed out again.
        proposal: what the model expected of it, see `tuning.study.surrogate.Belief`.

    Raises:
        ValueError: the number is negative or not a whole number.
    """

    number: int
    params: dict[str, Any]
    epochs: tuple[Epoch, ...] = ()
    outcome: Outcome | None = None
    cause: str = ""
    failures: tuple[str, ...] = ()
    waits_after: int = 0
    went_on_after: int = 0
    proposal: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A database may hold any value, and a folder is called after the number.
        if not isinstance(self.number, int) or self.number < 0:
            raise ValueError(f"number: {shown(self.number)}")

    def has_epoch(self, number: int) -> bool:
        """Whether that epoch is recorded."""
        return any(epoch.epoch == number for epoch in self.epochs)

    def best_epoch(self, objective: Objective) -> Epoch | None:
        """The best epoch, of equals the first; None if no value is finite."""
        best: Epoch | None = None
        for epoch in self.epochs:
            value = epoch.metrics[objective.metric]
            if objective.is_better(value, best.metrics[objective.metric] if best else None):
                best = epoch
        return best

    @property
    def status(self) -> str:
        """The outcome's word, `waiting` or `running`."""
        return self.outcome or (WAITING if self.waits else RUNNING)

    @property
    def waits(self) -> bool:
        """Whether it waits at a rung for others, and has no slot."""
        return self.outcome is None and self.waits_after > self.went_on_after

    @property
    def can_be_best(self) -> bool:
        """Whether its best epoch counts. That of a running trial does not: it may still fail."""
        return self.waits or self.outcome in RANKED

    @property
    def is_held(self) -> bool:
        """Whether it waited when the search ended, and can go on if the search is extended."""
        waited = self.waits_after > self.went_on_after
        return waited and self.outcome == Outcome.STOPPED_EARLY


@dataclass(frozen=True)
class Best:
    """A trial that can be best, with its best epoch: score and weights are of the same epoch."""

    trial: Trial
    epoch: Epoch
    value: float


def stays_within(path: Any) -> bool:
    """Whether a relative path names something inside of its folder. Links are not looked at."""
    return (
        isinstance(path, str)
        and path.isprintable()
        and not {"/", ".."} & {*PurePath(path).parts}
        and path not in ("", ".")
    )


def ranking(trials: Iterable[Trial], objective: Objective) -> list[Best]:
    """The trials that can be best, best first; of equals the earlier trial first. Those without a
    finite value are left out.
    """
    return by_value((trial for trial in trials if trial.can_be_best), objective)


def reranked(
    ranked: Sequence[Best], before: Trial | None, after: Trial, objective: Objective
) -> list[Best]:
    """A ranking after one of its trials has changed.

    Args:
        before: None if the trial is new.
    """
    found = list(ranked)  # another thread may read the old one
    order = partial(place_of, objective=objective)
    for old in ranking([before] if before else [], objective):
        del found[bisect_left(found, order(old), key=order)]
    for new in ranking([after], objective):
        insort(found, new, key=order)
    return found


def place_of(best: Best, objective: Objective) -> tuple[float, int]:
    """Sorts a ranking: better values first, of equals the earlier trial."""
    return -objective.sign * best.value, best.trial.number


def by_value(trials: Iterable[Trial], objective: Objective) -> list[Best]:
    """`ranking` of all these trials, whether they can be best or not."""
    found = [
        Best(trial, epoch, epoch.metrics[objective.metric])
        for trial in trials
        if (epoch := trial.best_epoch(objective))
    ]
    return sorted(found, key=partial(place_of, objective=objective))


def ahead(
    trials: Iterable[Trial], best: float | None, objective: Objective
) -> tuple[int, float] | None:
    """(number, value) of the running trial that is better than `best` by most, or None."""
    unfinished = by_value((one for one in trials if one.status == RUNNING), objective)
    if unfinished and objective.is_better(unfinished[0].value, best):
        return unfinished[0].trial.number, unfinished[0].value
    return None


def counts(trials: Iterable[Trial]) -> dict[str, int]:
    """How many trials have each status; every status is a key."""
    found = Counter(trial.status for trial in trials)
    return {status: found[status] for status in (*Outcome, RUNNING, WAITING)}


def epochs_trained(trials: Iterable[Trial]) -> int:
    """Epochs recorded over all trials."""
    return sum(len(trial.epochs) for trial in trials)


def epochs_saved(trials: Iterable[Trial], max_epochs: int) -> int:
    """Epochs that early stopping skipped. Trials that a limit of the search ended have a cause, and
    do not count.
    """
    return sum(
        max_epochs - len(trial.epochs)
        for trial in trials
        if trial.outcome == Outcome.STOPPED_EARLY and not trial.cause
    )
