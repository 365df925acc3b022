"""All that a report is made from, read from a run's folder: no data, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from text_recognizer.errors import RunError
from tuning.run.files import FinalMetrics, Validation
from tuning.run.folder import RunFolder
from tuning.run.listing import KILLED
from tuning.run.lock import is_locked
from tuning.run.reading import Model, read_as_ours, read_json, read_model, read_whole
from tuning.space.search_space import SearchSpace
from tuning.study.optuna_record import get_attr, open_study, own_trials, read_run_space
from tuning.trials.trial import Best, Trial, ranking


@dataclass(frozen=True)
class RunData:
    """All that a report is made from."""

    summary: dict[str, Any]
    environment: dict[str, Any]
    space: SearchSpace
    trials: Sequence[Trial]
    sessions: Sequence[float]  # when a process began to work on the search, seconds since 1970
    path: Path
    best_config: str = ""
    validation: Validation | None = None
    final: FinalMetrics | None = None
    damaged: Sequence[str] = ()  # what could not be read, though there is a report without it

    @property
    def live(self) -> bool:
        return bool(self.summary["status"] == "running")

    @property
    def ranked(self) -> list[Best]:
        """The trials that can be best; first the one that was exported, even where the
        checkpoint of a better one was damaged.
        """
        found = ranking(self.trials, self.space.search.objective)
        exported = (self.summary.get("best") or {}).get("trial")
        return (
            sorted(found, key=lambda best: best.trial.number != exported)
            if self.summary["status"] == "complete"
            else found
        )


def facts_of(folder: RunFolder, record: optuna.Study | None = None) -> RunData:
    """What is in a run's folder. Raises `RunError` where it is damaged.

    Args:
        record: its study, where that is open already: to open it again may take a password.
    """
    with read_as_ours(folder.path):
        return read_facts(folder, record)


def read_facts(folder: RunFolder, record: optuna.Study | None) -> RunData:
    """The same, where the folder's content is trusted to make sense."""
    space, record = read_run_space(folder), record or open_study(folder)
    summary, damaged = read_json(folder.summary), list[str]()
    if summary.get("status") == "running" and not is_locked(folder):
        summary["status"] = KILLED
    return RunData(
        summary=summary,
        environment=read_json(folder.environment),
        space=space,
        trials=own_trials(record, space.search.metric),
        sessions=get_attr(record, "sessions", []),
        path=folder.path,
        best_config=text_of(folder.best_config) if folder.best_config.exists() else "",
        validation=if_sound(folder.validation, Validation, damaged),
        final=if_sound(folder.final / "metrics.json", FinalMetrics, damaged),
        damaged=damaged,
    )


def text_of(path: Path) -> str:
    """A file's text. Raises `RunError` where it is damaged."""
    try:
        return read_whole(path).decode()
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: `a file this project wrote` must hold, but got: {error}") from None


def if_sound(path: Path, model: type[Model], damaged: list[str]) -> Model | None:
    """One of the files that a report can do without; that it is damaged is added to `damaged`."""
    try:
        return read_model(path, model)
    except RunError as error:
        damaged.append(f"left out: {error}")
        return None
