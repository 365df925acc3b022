"""Reads what is known of a run from its small files, without its study."""

import csv
import io
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from text_recognizer.atomic import checksum
from text_recognizer.errors import InputError, RecogniserError, RunError
from text_recognizer.paths import resolved
from text_recognizer.text import printable, reason_of
from tuning.run.files import Environment, FinalMetrics, Summary
from tuning.run.folder import RunFolder
from tuning.run.lock import is_locked
from tuning.run.reading import check_plain, read_existing, read_model, read_whole
from tuning.space import SearchSpace, read_recorded_space
from tuning.trials import RUNNING, WAITING, Outcome

KILLED = "killed"  # the summary says `running`, but no process works on the run
# these values of `summary.json` are keys of `RunInfo.as_plain`
SUMMARY_KEYS = (
    "data_class",
    "metric",
    "mode",
    "seed",
    "counts",
    "epochs_trained",
    "wall_time_s",
    "stop_reason",
    "best",
    "resources",
)


@dataclass(frozen=True)
class RunInfo:
    """What is known of one run.

    Args:
        begun: when the run was created, seconds since 1970.
        status: as in `summary.json`, or `killed` or `damaged`.
        reason: why the run is damaged; the fields after it are None then.
        summary: None until the first one is written.
        epochs_skipped: by early stopping.
        final: None without a final model.
    """

    name: str
    path: Path
    begun: float
    status: str
    reason: str | None = None
    space: SearchSpace | None = None
    summary: Summary | None = None
    epochs_skipped: int | None = None
    final: FinalMetrics | None = None
    environment: Environment | None = None

    @property
    def trials_ended(self) -> int | None:
        counts = self.summary.counts if self.summary else None
        if not counts:
            return None
        return sum(n for status, n in counts.items() if status not in (RUNNING, WAITING))

    @property
    def trials_wanted(self) -> int | None:
        """The number of trials the search was asked for."""
        begun = sum(self.summary.counts.values()) if self.summary else 0
        # `--resume RUN --trials N` does not change search.yaml, so there may be more than it says
        return max(self.space.search.trials, begun) if self.space else None

    def as_plain(self) -> dict[str, Any]:
        """One flat object for a script; a value that is not known is None."""
        begun = datetime.fromtimestamp(self.begun).astimezone()
        # scripts rely on these names
        files = (
            (self.summary, SUMMARY_KEYS),
            (self.final, ("test_acc", "test_acc_std")),
            (self.environment, ("git_commit", "git_dirty", "python", "versions")),
        )
        return {
            "name": self.name,
            "path": self.path,
            "reason": self.reason,
            "begun": begun.isoformat(timespec="seconds"),
            "status": self.status,
            "trials_ended": self.trials_ended,
            "trials_wanted": self.trials_wanted,
            "epochs_saved": self.epochs_skipped,
            **{key: getattr(file, key, None) for file, keys in files for key in keys},
        }


def read_run_info(folder: RunFolder) -> RunInfo:
    """Read what is known of a run.

    Raises:
        RunError: a file of it is missing or damaged.
    """
    check_plain(folder.path)  # a stranger's run may have links to anywhere
    summary, space = current_summary(folder), read_run_space(folder)
    return RunInfo(
        name=folder.name,
        path=folder.path,
        begun=begun(folder),
        status=summary.status if summary else RUNNING,
        space=space,
        summary=summary,
        epochs_skipped=skipped_epochs(folder, space.search.max_epochs),
        final=read_model(folder.final / "metrics.json", FinalMetrics),
        environment=read_model(folder.environment, Environment),
    )


def current_summary(folder: RunFolder) -> Summary | None:
    """The summary of a run. Its status is `killed` if the file says `running`, but no process works
    on the run. None if a process has just begun and has not written the file yet.

    Raises:
        RunError: the summary is missing or damaged.
    """
    # the lock comes first: a search writes its last summary before it lets the lock go
    if is_locked(folder):
        return read_model(folder.summary, Summary)
    summary = read_existing(folder.summary, Summary)
    return summary.model_copy(update={"status": KILLED}) if summary.status == RUNNING else summary


def read_run_space(folder: RunFolder) -> SearchSpace:
    """Read the search space of a run. Raises `RunError` if it is missing or was changed."""
    try:
        return read_recorded_space(folder.space)
    except InputError as error:
        raise RunError(f"{folder.space} was changed or is damaged:\n{error}") from None


def skipped_epochs(folder: RunFolder, max_epochs: int) -> int | None:
    """Count the epochs that early stopping skipped. None if `trials.csv` cannot be read."""
    try:
        # the study needs Optuna (a second to import), and a password if it is in a database
        table = csv.DictReader(io.StringIO(read_whole(folder.trials_csv).decode(), newline=""))
        return sum(
            max_epochs - int(row["epochs"])
            for row in table
            # a trial that a limit of the search stopped has a cause: ASHA skipped nothing there
            if row["status"] == Outcome.STOPPED_EARLY and not row["cause"]
        )
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None


def begun(folder: RunFolder) -> float:
    """When a run was created, in seconds since 1970."""
    # search.yaml is never written again, while the folder changes with each file
    path = folder.space if folder.space.exists() else folder.path
    return path.stat().st_mtime


def all_runs(runs_dir: Path) -> list[RunInfo]:
    """Read the runs in a folder, the newest first. Damaged ones are among them.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        found = [info_or_damage(folder) for folder in run_folders(runs_dir)]
    except OSError as error:
        raise InputError(
            f"{printable(str(runs_dir))}: {reason_of(error)}. Give a folder of runs."
        ) from None
    return sorted(found, key=lambda run: (-run.begun, run.name))


def run_folders(runs_dir: Path) -> list[RunFolder]:
    """Each run of a folder once. Raises `OSError` if the folder cannot be read."""
    # folders replace the links to them: a run keeps its folder's name, and `latest` is not a run
    links_first = sorted(
        resolved(runs_dir).iterdir(), key=lambda path: (path.is_symlink(), path), reverse=True
    )
    found = {path.resolve(): RunFolder(path) for path in links_first if path.is_dir()}
    # one file is enough: a run that has lost the others is listed as damaged
    return [
        folder
        for folder in found.values()
        if any(map(os.path.lexists, (folder.space, folder.summary, folder.study)))
    ]


def info_or_damage(folder: RunFolder) -> RunInfo:
    """What is known of a run, or why it cannot be read."""
    try:
        return read_run_info(folder)
    except (RecogniserError, OSError) as error:
        return RunInfo(folder.name, folder.path, begun(folder), "damaged", str(error))


def changed_results(
    folder: RunFolder, summary: Summary, final: FinalMetrics | None = None
) -> dict[Path, str]:
    """The files that a search and its final script handed over and that are no longer as they
    wrote them, each with a sentence that says so.
    """
    handed = dict.fromkeys((folder.best_config, folder.best_checkpoint), summary.sha256)
    if final:
        handed[folder.final / "model.ckpt"] = final.sha256
    found = {}
    for path, sums in handed.items():
        recorded = sums.get(path.name)  # older versions did not record it
        try:
            if recorded and checksum(path) != recorded:
                found[path] = f"{path} is not the file that was written"
            elif not path.is_file():
                found[path] = f"{path} is missing"
        except OSError as error:
            found[path] = f"{path} cannot be read: {reason_of(error)}"
    return found
