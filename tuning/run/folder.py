"""The folder of one run: the paths of its files; creating and opening it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from text_recognizer.errors import InputError, Problem, StorageError
from text_recognizer.text import printable, shown

MAX_STEM = 80  # characters of a space file's name that the name of its run begins with
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run's files. The README lists the files that scripts may rely on.

    Args:
        path: the run's folder, resolved.
        shared: the folder that workers write to, if it is another one that all nodes of a cluster
            see.
    """

    path: Path
    shared: Path | None = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def space(self) -> Path:
        return self.path / "search.yaml"

    @property
    def study(self) -> Path:
        return self.path / "study.db"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def trials_csv(self) -> Path:
        return self.path / "trials.csv"

    @property
    def best_config(self) -> Path:
        return self.path / "best_config.yaml"

    @property
    def best_checkpoint(self) -> Path:
        return self.path / "best.ckpt"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def validation(self) -> Path:
        return self.path / "best_validation.json"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def storage(self) -> Path:
        """Names the database of a study that is not in `study.db`."""
        return self.path / "storage.json"

    @property
    def for_workers(self) -> Path:
        return self.shared or self.path

    @property
    def checkpoints(self) -> Path:
        return self.for_workers / "trials"

    @property
    def logs(self) -> Path:
        return self.for_workers / "logs"

    @property
    def ray(self) -> Path:
        return self.for_workers / ".ray"

    @property
    def final(self) -> Path:
        return self.path / "final"


def name_problem(name: str) -> Problem | None:
    """Why `name` cannot be the name of a run, or None."""
    if NAME.fullmatch(name) and name != "latest":
        return None
    rule = "letters, digits, '.', '_' and '-', at most 100 of them, the first a letter or digit"
    return Problem("--name", rule, shown(name))


def create_run(runs_dir: Path, name: str | None, space_name: str) -> RunFolder:
    """Create an empty run folder that only its owner can read.

    Args:
        name: of the run; None makes one from `space_name` and the time.

    Raises:
        InputError: the name is not valid, or is taken.
        StorageError: the folder cannot be created.
    """
    if name is None:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", space_name).lstrip("._-")[:MAX_STEM] or "search"
        name = f"{plain}-{datetime.now():%Y%m%d-%H%M%S}"
        if os.path.lexists(runs_dir / name):
            name += f"-{os.getpid()}"  # two searches began in one second
    elif problem := name_problem(name):
        raise InputError(problem)
    path = runs_dir / name
    try:
        runs_dir.resolve().mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        if os.path.lexists(path):
            hint = f"Choose another, or --resume {path}."
            raise InputError(
                Problem("--name", "a name that is not taken", shown(name), hint)
            ) from None
        raise StorageError(
            f"{path}: cannot create the folder: {reason_of(error)}. Name another one with "
            "--runs-dir."
        ) from None
    return RunFolder(path.resolve())


def open_run(path: Path) -> RunFolder:
    """The run in an existing folder.

    Raises:
        InputError: there is no run at `path`.
        RunError: there is a link or a pipe in the folder.
    """
    try:
        folder = RunFolder(path.resolve())
        if folder.space.is_file():
            from tuning.run.reading import check_plain  # pydantic is too slow for --help

            check_plain(folder.path)
            return folder
        reason = "no search.yaml in it" if path.exists() else "no such folder"
    # the name is too long or has a NUL in it, or the path is a link to itself
    except (OSError, ValueError, RuntimeError) as error:
        reason = reason_of(error)
    raise InputError(
        f"{printable(str(path))}: {reason}. Give a run folder, which holds search.yaml."
    )


def reason_of(error: Exception) -> str:
    """What the system said, without the path."""
    return getattr(error, "strerror", None) or str(error)


def point_latest(runs_dir: Path, name: str) -> None:
    """Point the link `runs/latest` to a run, in one step. It is a convenience: a file system
    without links is no error.
    """
    temporary = runs_dir / f".latest-{os.getpid()}"
    try:
        temporary.symlink_to(name)
        temporary.replace(runs_dir / "latest")
    except OSError:
        temporary.unlink(missing_ok=True)
