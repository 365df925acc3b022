"""What is known of a run from its small files, in milliseconds: neither the study nor torch is
opened for it.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from text_recognizer.errors import InputError, Problem, RecogniserError, RunError
from text_recognizer.metrics import Mode
from tuning.run.files import FinalMetrics, Number
from tuning.run.folder import RunFolder
from tuning.run.lock import is_locked
from tuning.run.reading import Lenient, check_plain, read_model, read_whole
from tuning.space.reader import read_space
from tuning.space.search_space import SearchSpace
from tuning.trials.trial import RUNNING, Outcome

KILLED = "killed"  # the summary says `running`, and nobody holds the run
DAMAGED = "damaged"


class BestTrial(Lenient):
    """Of `summary.json`."""

    trial: int
    epoch: int
    value: Number
    params: dict[str, Any]


class Summary(Lenient):
    """What is read of `summary.json`."""

    status: str
    data_class: str
    metric: str
    mode: Mode
    seed: int
    counts: dict[str, int]
    epochs_trained: int
    wall_time_s: Number
    stop_reason: str | None
    best: BestTrial | None
    resources: dict[str, Any]


class Environment(Lenient):
    """What is read of `environment.json`."""

    git_commit: str | None = None
    git_dirty: bool = False
    python: str | None = None
    versions: dict[str, str | None] = Field(default_factory=dict)


@dataclass(frozen=True)
class RunInfo:
    """One run. `status` is the summary's, `killed` or `damaged`; where it is damaged, `reason` says
    why and the rest is None.

    A run that was only just begun has no summary yet.
    """

    name: str
    path: Path
    begun: float  # seconds since 1970
    status: str
    reason: str = ""
    space: SearchSpace | None = None
    summary: Summary | None = None
    epochs_saved: int | None = None
    test: FinalMetrics | None = None
    environment: Environment | None = None

    @property
    def ended(self) -> int | None:
        """Trials that have ended."""
        return (
            sum(self.summary.counts.values()) - self.summary.counts.get(RUNNING, 0)
            if self.summary
            else None
        )

    @property
    def wanted(self) -> int | None:
        """Trials that the search is to have, as far as they are known: an extended one has more
        than its file says.
        """
        begun = sum(self.summary.counts.values()) if self.summary else 0
        return max(self.space.search.trials, begun) if self.space else None

    def as_plain(self) -> dict[str, Any]:
        """For a script: one flat object, whose values are None where they are not known."""
        begun = datetime.fromtimestamp(self.begun).astimezone().isoformat(timespec="seconds")
        known = {
            "name": self.name,
            "path": str(self.path),
            "reason": self.reason or None,
            "begun": begun,
        }
        trials = {
            "trials_ended": self.ended,
            "trials_wanted": self.wanted,
            "epochs_saved": self.epochs_saved,
        }
        trials |= {name: getattr(self.test, name, None) for name in ("test_acc", "test_acc_std")}
        files = ((self.summary, Summary), (self.environment, Environment))
        read = [
            file.model_dump() if file else dict.fromkeys(model.model_fields)
            for file, model in files
        ]
        plain = known | trials | read[0] | read[1] | {"status": self.status}
        return {key: without_nan(value) for key, value in plain.items()}


def without_nan(value: Any) -> Any:
    """A plain value as JSON can have it: None in place of what is not finite."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def facts_of(folder: RunFolder, name: str = "") -> RunInfo:
    """What is in a run's folder.

    Args:
        name: what to call it, where that is not the folder's own name.

    Raises:
        RunError: a file of it is missing or damaged.
    """
    check_plain(folder.path)
    summary, status = read_summary(folder)
    try:
        space = read_space(folder.space)
    except InputError as error:
        raise RunError(str(error)) from None
    return RunInfo(
        name or folder.name,
        folder.path,
        begun(folder),
        status,
        "",
        space,
        summary,
        epochs_saved(folder, space.search.max_epochs),
        read_model(folder.final / "metrics.json", FinalMetrics),
        read_model(folder.environment, Environment),
    )


def read_summary(folder: RunFolder) -> tuple[Summary | None, str]:
    """The summary, and what it comes to: a search that says it runs, and is held by nobody, was
    killed.
    """
    summary = read_model(folder.summary, Summary)
    if summary and summary.status != RUNNING:
        return summary, summary.status
    if is_locked(folder):
        return summary, RUNNING
    summary = read_model(folder.summary, Summary)  # again: it may have ended just now
    if summary is None:
        raise RunError(f"{folder.summary}: `a summary of the search` must hold, but there is none")
    return summary, KILLED if summary.status == RUNNING else summary.status


def epochs_saved(folder: RunFolder, max_epochs: int) -> int | None:
    """Epochs that ASHA did not train (`results.epochs_saved`), by `trials.csv`; None where that
    is not there or not sound.
    """
    try:
        table = csv.DictReader(io.StringIO(read_whole(folder.trials_csv).decode(), newline=""))
        rows = [row for row in table if row["status"] == Outcome.STOPPED_EARLY and not row["cause"]]
        return sum(max_epochs - int(row["epochs"]) for row in rows)
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None


def begun(folder: RunFolder) -> float:
    """When a run was made, seconds since 1970: `search.yaml` is written then and never again."""
    return next(
        (path.stat().st_mtime for path in (folder.space, folder.path) if path.exists()), 0.0
    )


def all_runs(runs_dir: Path) -> list[RunInfo]:
    """The runs of a folder, newest first, damaged ones among them. Raises `InputError` where the
    folder cannot be read.
    """
    try:
        found = [facts_or_damage(folder, name) for name, folder in run_folders(runs_dir)]
    except OSError as error:
        raise InputError(
            Problem(str(runs_dir), "a folder of runs", str(error.strerror or error))
        ) from None
    return sorted(found, key=lambda run: (-run.begun, run.name))


def run_folders(runs_dir: Path) -> Iterator[tuple[str, RunFolder]]:
    """Name and folder of each run, once: `latest` is one of them. Raises OSError."""
    seen: set[Path] = set()
    for path in sorted(runs_dir.iterdir(), key=lambda path: (path.is_symlink(), path.name)):
        folder = RunFolder(path.resolve()) if path.is_dir() else None
        if (
            folder
            and folder.path not in seen
            and any(map(os.path.lexists, (folder.space, folder.summary, folder.study)))
        ):
            seen.add(folder.path)
            yield path.name, folder


def facts_or_damage(folder: RunFolder, name: str) -> RunInfo:
    """A run's facts, or why there are none."""
    try:
        return facts_of(folder, name)
    except (RecogniserError, OSError) as error:
        return RunInfo(name, folder.path, begun(folder), DAMAGED, str(error))
