"""Reads from a run's folder everything that a report is made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import optuna

from text_recognizer.errors import RunError
from tuning.run import (
    Environment,
    FinalMetrics,
    Model,
    RunFolder,
    Summary,
    Validation,
    changed_results,
    current_summary,
    read_as_ours,
    read_existing,
    read_model,
    read_run_space,
    read_whole,
)
from tuning.space import SearchSpace
from tuning.study import open_study, own_trials
from tuning.trials import RUNNING, Best, Trial, counts, epochs_trained, ranking


@dataclass(frozen=True)
class RunData:
    """Everything that a report is made from.

    Args:
        damaged: why optional files could not be read, one sentence for each.
    """

    summary: Summary
    environment: Environment
    space: SearchSpace
    trials: Sequence[Trial]
    path: Path
    best_config: str = ""
    validation: Validation | None = None
    final: FinalMetrics | None = None
    damaged: Sequence[str] = ()

    @property
    def live(self) -> bool:
        return self.summary.status == RUNNING

    # it may be cached in a frozen class, because `cached_property` writes to `__dict__` directly
    @cached_property
    def ranked(self) -> list[Best]:
        """The trials that can be best, best first; but the exported one is always the first."""
        found = ranking(self.trials, self.space.search.objective)
        # a better trial was not exported if its checkpoint was damaged
        if self.summary.status == "complete" and (exported := self.summary.best):
            found.sort(key=lambda best: best.trial.number != exported.trial)
        return found


def read_run_data(folder: RunFolder, record: optuna.Study | None = None) -> RunData:
    """Read a run's folder.

    Args:
        record: the run's study if it is open already: opening it may need a password.

    Raises:
        RunError: the run is damaged.
    """
    # whoever can write to a study's database can put anything into it
    with read_as_ours(folder.path):
        space, record = read_run_space(folder), record or open_study(folder)
        trials = own_trials(record, space.search.objective)
        summary = current_summary(folder) or read_existing(folder.summary, Summary)
        # a killed search did not write a last summary: its study knows more
        newer = {"counts": counts(trials), "epochs_trained": epochs_trained(trials)}
        damaged: list[str] = []
        validation = read_optional(folder.validation, Validation, damaged)
        final = read_optional(folder.final / "metrics.json", FinalMetrics, damaged)
        if summary.status == "complete":
            damaged += changed_results(folder, summary, final).values()
        return RunData(
            summary=summary.model_copy(update=newer),
            environment=read_existing(folder.environment, Environment),
            space=space,
            trials=trials,
            path=folder.path,
            best_config=read_text(folder.best_config),
            validation=validation,
            final=final,
            damaged=damaged,
        )


def read_text(path: Path) -> str:
    """A file's text, or "" if there is no file. Raises `RunError` if it cannot be read."""
    try:
        return read_whole(path).decode() if path.exists() else ""
    except (OSError, ValueError) as error:  # bytes that are no UTF-8 are a ValueError
        raise RunError(f"{path} is damaged: {error}") from None


def read_optional(path: Path, model: type[Model], damaged: list[str]) -> Model | None:
    """Read a file that a report does not need. If it is damaged, the reason goes to `damaged`."""
    try:
        return read_model(path, model)
    except RunError as error:
        damaged.append(f"left out: {error}")
        return None
