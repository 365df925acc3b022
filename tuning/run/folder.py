"""The folder of one run: the paths of its files; creating and opening it."""

import os
import re
import unicodedata
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from text_recognizer.errors import InputError, Problem, StorageError
from text_recognizer.paths import resolved
from text_recognizer.text import printable, reason_of, shown

MAX_STEM = 80  # characters: a run's name begins with at most so many of its space file's
# no "/", no leading "." or "-": a name never leaves the folder, hides, or looks like a flag
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class RunFolder:
    """The paths of a run's files. The README lists the files that scripts may rely on.

    Args:
        path: the run's folder, resolved.
        shared: the folder that workers write to, if it is not `path`. All nodes of the cluster see
            it.
    """

    def __init__(self, path: Path, shared: Path | None = None) -> None:
        self.path = path
        self.shared = shared
        self.name = path.name

        self.space = path / "search.yaml"
        self.study = path / "study.db"
        self.storage = path / "storage.json"  # names the database of a study outside of study.db
        self.environment = path / "environment.json"
        self.summary = path / "summary.json"
        self.trials_csv = path / "trials.csv"
        self.report = path / "report.html"
        self.tensorboard = path / "tensorboard"
        self.best_config = path / "best_config.yaml"
        self.best_checkpoint = path / "best.ckpt"
        self.validation = path / "best_validation.json"
        self.final = path / "final"

        self.for_workers = shared or path
        self.checkpoints = self.for_workers / "trials"
        self.logs = self.for_workers / "logs"  # stacks of hung processes
        self.ray = self.for_workers / ".ray"  # Tune's own files, deleted after the search


def name_problem(name: str) -> Problem | None:
    """The problem of a name that no run can have, or None."""
    if NAME.fullmatch(name) and name != "latest":
        return None
    return Problem(
        "--name",
        "letters, digits, '.', '_' and '-', at most 100 of them, the first a letter or digit",
        shown(name),
    )


def plain_name(text: str) -> str:
    """A text in the characters that names of runs and of Ray's workers may have."""
    # "größe" becomes "grosse" without its accents: each letter is kept where ASCII has it.
    letters = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    kept = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", kept).strip("._-")[:MAX_STEM] or "search"


def create_run(runs_dir: Path, name: str | None, space_name: str) -> RunFolder:
    """Create an empty run folder that only its owner can read.

    Args:
        name: of the run; None makes one from `space_name` and the time.

    Raises:
        InputError: the name is not valid, or is taken.
        StorageError: the folder cannot be created.
    """
    if name is None:
        name = f"{plain_name(space_name)}-{datetime.now():%Y%m%d-%H%M%S}"
        if os.path.lexists(runs_dir / name):
            name += f"-{os.getpid()}"  # two searches began in one second
    elif problem := name_problem(name):
        raise InputError(problem)
    path = runs_dir / name
    try:
        # Resolved, because mkdir takes a link to a folder that is missing for an existing folder.
        resolved(runs_dir).mkdir(parents=True, exist_ok=True)
        # Creating the folder is the check: of two searches with one name only one succeeds.
        path.mkdir(mode=0o700)
    except OSError as error:
        if os.path.lexists(path):  # like `exists`, but also true for a broken link
            hint = f"Choose another, or --resume {path}."
            taken = Problem("--name", f"the name {shown(name)} is taken", hint=hint)
            raise InputError(taken) from None
        raise StorageError(
            f"{path}: cannot create the folder: {reason_of(error)}. Name another one with "
            "--runs-dir."
        ) from None
    return RunFolder(path.resolve())


def open_run(path: Path) -> RunFolder:
    """Open an existing run.

    Raises:
        InputError: there is no run at `path`.
        RunError: there is a link or a pipe in the folder.
    """
    try:
        folder = RunFolder(resolved(path))
        if folder.space.is_file():
            # imported here, because pydantic is too slow for --help
            from tuning.run.reading import check_plain

            check_plain(folder.path)
            return folder
        reason = "no search.yaml in it" if path.exists() else "no such folder"
    except PermissionError as error:
        raise InputError(f"{printable(str(path))}: {reason_of(error)}.") from None
    # the name is too long or has a NUL in it, or the path is a link to itself
    except (OSError, ValueError) as error:
        reason = reason_of(error)
    raise InputError(
        f"{printable(str(path))}: {reason}. Give a run folder, which holds search.yaml."
    )


def point_latest(runs_dir: Path, name: str) -> None:
    """Point the link `runs/latest` to a run. Does nothing on a file system without links."""
    # A link cannot be changed, but a new one can be renamed over it: `latest` is never missing.
    temporary = runs_dir / f".latest-{os.getpid()}"
    try:
        temporary.symlink_to(name)
        temporary.replace(runs_dir / "latest")
    except OSError:
        temporary.unlink(missing_ok=True)


def unpoint_latest(runs_dir: Path, name: str) -> None:
    """Point `runs/latest` to the newest other run if it points to this one, which is gone."""
    with suppress(OSError):
        latest = runs_dir / "latest"
        if str(latest.readlink()) == name:
            latest.unlink()
            others = (path.parent for path in runs_dir.glob("*/search.yaml"))
            newest = max(others, key=lambda run: run.stat().st_mtime, default=None)
            if newest:
                point_latest(runs_dir, newest.name)
