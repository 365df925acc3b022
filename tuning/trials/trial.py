"""Trials as plain records, and what follows from them: best epoch, ranking, counts. Pure
functions, no Ray, no Optuna.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from text_recognizer.metrics import Objective
from text_recognizer.text import shown

SCHEMA_VERSION = 1


class Outcome(StrEnum):
    """How a trial ended: the one word for it in study, CSV, summary, console and report."""

    COMPLETE = "complete"
    STOPPED_EARLY = "stopped_early"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    STALLED = "stalled"
    FAILED = "failed"


RANKED = (Outcome.COMPLETE, Outcome.STOPPED_EARLY)  # only these can be best
RUNNING = "running"


@dataclass(frozen=True)
class Epoch:
    """One recorded epoch of a trial. `checkpoint` (within the run's `trials/`) and `sha256` name
    the file written before it.

    Raises:
        ValueError: what was read is none: in a stranger's study a checkpoint may be anywhere, and
            is deleted at the trial's end.
    """

    epoch: int  # counted from 1
    metrics: dict[str, float]
    checkpoint: str | None = None
    sha256: str | None = None
    time: float = 0.0  # when it was recorded, seconds since 1970
    gpu_seconds: float = 0.0  # how long it took, times the trial's share of a GPU

    def __post_init__(self) -> None:
        if not isinstance(self.epoch, int) or self.epoch < 1:
            raise ValueError(f"epoch: {shown(self.epoch)}")
        if not isinstance(self.time, int | float) or not isinstance(self.gpu_seconds, int | float):
            raise ValueError(f"time in epoch {self.epoch}")
        if self.checkpoint is not None and not stays_within(self.checkpoint):
            raise ValueError(
                f"checkpoint in epoch {self.epoch}: {shown(self.checkpoint)} is no path within "
                "its folder"
            )


@dataclass(frozen=True)
class Trial:
    """One trial as the study has it. `outcome` is None while it runs or waits to be continued.

    Raises:
        ValueError: its number is none: a database holds what it was given, and a folder is called
            after it.
    """

    number: int
    params: dict[str, Any]
    epochs: tuple[Epoch, ...] = ()
    outcome: Outcome | None = None
    cause: str = ""
    failures: tuple[str, ...] = ()  # causes of the attempts that were retried
    _best: dict[tuple[str, str], Epoch | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not isinstance(self.number, int) or self.number < 0:
            raise ValueError(f"number: {shown(self.number)}")

    def with_epoch(self, epoch: Epoch) -> Trial:
        """The trial with one epoch more."""
        return replace(self, epochs=(*self.epochs, epoch))

    def has_epoch(self, number: int) -> bool:
        """Whether that epoch is recorded already."""
        return any(epoch.epoch == number for epoch in self.epochs)

    def best_epoch(self, objective: Objective) -> Epoch | None:
        """The first of its best epochs by `metric`, or None where none is finite."""
        best: Epoch | None = None
        for epoch in self.epochs:
            value = epoch.metrics[objective.metric]
            if objective.is_better(value, best.metrics[objective.metric] if best else None):
                best = epoch
        return best

    @property
    def status(self) -> str:
        """The outcome's word, or `running`."""
        return self.outcome or RUNNING


@dataclass(frozen=True)
class Best:
    """A trial and its best epoch: the score and the weights come from the same one."""

    trial: Trial
    epoch: Epoch
    value: float

    def as_plain(self) -> dict[str, Any]:
        """As `summary.json` has it; JSON knows no NaN."""
        return {
            "trial": self.trial.number,
            "epoch": self.epoch.epoch,
            "value": self.value,
            "params": self.trial.params,
            "metrics": {
                name: value if math.isfinite(value) else None
                for name, value in self.epoch.metrics.items()
            },
        }


def stays_within(path: Any) -> bool:
    """Whether a path, put behind a folder, names something in it; links are another matter."""
    return (
        isinstance(path, str)
        and path.isprintable()
        and not {"/", ".."} & {*PurePath(path).parts}
        and path not in ("", ".")
    )


def as_best(trial: Trial, objective: Objective) -> Best | None:
    """A trial with its best epoch, or None where it cannot be best."""
    epoch = trial.best_epoch(objective) if trial.outcome in RANKED else None
    return Best(trial, epoch, epoch.metrics[objective.metric]) if epoch else None


def ranking(trials: Iterable[Trial], objective: Objective) -> list[Best]:
    """The trials that can be best, best first; of equals the earlier trial first."""
    return sorted(
        (best for trial in trials if (best := as_best(trial, objective))), key=place_in(objective)
    )


def ahead(
    trials: Iterable[Trial], best: float | None, objective: Objective
) -> tuple[int, float] | None:
    """Number and value of the trial that has not ended yet and is better than the best that has;
    None where there is none.
    """
    found = None
    for trial in trials:
        epoch = trial.best_epoch(objective) if trial.outcome is None else None
        if epoch and objective.is_better(epoch.metrics[objective.metric], best):
            found, best = (
                (trial.number, epoch.metrics[objective.metric]),
                epoch.metrics[objective.metric],
            )
    return found


def place_in(objective: Objective) -> Callable[[Best], tuple[float, int]]:
    """The order of a ranking."""
    return lambda best: (-objective.sign * best.value, best.trial.number)


def counts(trials: Iterable[Trial]) -> dict[str, int]:
    """How many trials ended in which way, every way named."""
    found = Counter(trial.status for trial in trials)
    return {status: found[status] for status in (*Outcome, RUNNING)}


def epochs_trained(trials: Iterable[Trial]) -> int:
    """Epochs recorded over all trials."""
    return sum(len(trial.epochs) for trial in trials)


def epochs_saved(trials: Iterable[Trial], max_epochs: int) -> int:
    """Epochs that ASHA did not train; those that a limit of the search cut off are no gain."""
    return sum(
        max_epochs - len(trial.epochs)
        for trial in trials
        if trial.outcome == Outcome.STOPPED_EARLY and not trial.cause
    )
