"""The folder of one search: its files, `latest`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from text_recognizer.errors import InputError, Problem, StorageError
from text_recognizer.text import shown
from tuning.run.reading import check_plain

MAX_STEM = 80  # of a space file's name, in the name of its run
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run. What users, scripts and tests may rely on stands in the README.

    `shared` is where the run's workers write, if that is elsewhere: a folder that all nodes of a
    cluster see.
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
        """Names the database of a study that is not in `study`."""
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
    """What keeps `name` from being a run's."""
    if NAME.fullmatch(name) and name != "latest":
        return None
    rule = "letters, digits, '.', '_' and '-', at most 100 of them, the first a letter or digit"
    return Problem("--name", rule, shown(name))


def create_run(runs_dir: Path, name: str | None, space_name: str) -> RunFolder:
    """A new, empty run folder that only its owner can read.

    Raises:
        InputError: the name is not one, or is taken.
        StorageError: the folder cannot be made.
    """
    if name is None:
        # a file may have any name
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", space_name).lstrip("._-")[:MAX_STEM] or "search"
        name = f"{plain}-{datetime.now():%Y%m%d-%H%M%S}"
        if os.path.lexists(runs_dir / name):
            name += f"-{os.getpid()}"  # two in one second
    elif problem := name_problem(name):
        raise InputError(problem)
    path = runs_dir / name
    try:
        runs_dir.resolve().mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except (OSError, RuntimeError) as error:  # a link to itself is no OSError
        if os.path.lexists(path):
            hint = f"Choose another, or --resume {path}."
            raise InputError(
                Problem("--name", "a name that is not taken", shown(name), hint)
            ) from None
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"{path}: `a folder that can be made` must hold, but got: {reason}. Name another "
            "with --runs-dir."
        ) from None
    return RunFolder(path.resolve())


def open_run(path: Path) -> RunFolder:
    """The run in an existing folder.

    Raises:
        InputError: there is no run at `path`.
    """
    rule = "a run folder, which holds search.yaml"
    try:
        folder = RunFolder(path.resolve())
        if not folder.space.is_file():
            raise InputError(
                Problem(str(path), rule, "none" if path.exists() else "no such folder")
            )
        check_plain(folder.path)
    # a name that is too long, a NUL, a link to itself
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            Problem(str(path), rule, str(getattr(error, "strerror", None) or error))
        ) from None
    return folder


def point_latest(runs_dir: Path, name: str) -> None:
    """`runs/latest`, swapped in one step; a convenience, so that a file system without links is
    no error.
    """
    temporary = runs_dir / f".latest-{os.getpid()}"
    try:
        temporary.symlink_to(name)
        temporary.replace(runs_dir / "latest")
    except OSError:
        temporary.unlink(missing_ok=True)
