"""Reads and writes the files of a run; a file that is read is checked against its model."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from text_recognizer.atomic import atomic_write
from text_recognizer.errors import RecogniserError, RunError, StorageError
from text_recognizer.text import clipped

MAX_FILE_BYTES = 50_000_000  # many times more than the largest file of a run

Model = TypeVar("Model", bound=BaseModel)


class Lenient(BaseModel):
    """The content of a file that may have more in it than is read."""

    model_config = ConfigDict(frozen=True)


@contextmanager
def read_as_ours(path: Path) -> Iterator[None]:
    """Turn errors in reading a run into a `RunError`, because the run was damaged or was written by
    somebody else. A study in particular is a database: Optuna and SQLAlchemy read it before it
    can be checked.
    """
    try:
        yield
    except RecogniserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        what = clipped(f"{type(error).__name__}: {' '.join(str(error).split())}", 200)
        raise RunError(f"{path}: the run is damaged: {what}") from error


def check_plain(folder: Path) -> None:
    """Refuse a run with a link in it, because a command would read, overwrite or delete what the
    link leads to; or with a pipe, which a command would wait for.

    Ray Tune's own files are skipped: they are never read, and are deleted without following links.

    Raises:
        RunError: there is a link, a pipe or a device.
        OSError: the folder cannot be read.
    """
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            if entry.name != ".ray":
                check_plain(Path(entry))
        elif not entry.is_file(follow_symlinks=False):
            raise RunError(
                f"{entry.path}: a run holds nothing but files and folders, and this is a link, a "
                "pipe or a device."
            )


def read_whole(path: Path) -> bytes:
    """The content of a file of a run. Raises `OSError`, also if it is too large or no regular
    file.
    """
    # without O_NONBLOCK opening a pipe waits for a writer
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        if found.st_size > MAX_FILE_BYTES:
            reason = f"{found.st_size:,} bytes, more than {MAX_FILE_BYTES:,}"
            raise OSError(errno.EFBIG, reason, str(path))
        return file.read()


def read_model(path: Path, model: type[Model]) -> Model | None:
    """The content of a JSON file, or None if there is no file. Raises `RunError` if it is
    damaged.
    """
    if not path.exists():
        return None
    try:
        return model.model_validate_json(read_whole(path))
    except OSError as error:
        reason = str(error)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()
    raise RunError(f"{path}: the file is damaged: {reason}")


def read_existing(path: Path, model: type[Model]) -> Model:
    """The content of a file that must be there. Raises `RunError` if it is missing or damaged."""
    found = read_model(path, model)
    if found is None:
        raise RunError(f"{path} is missing: the run is damaged, or was never written to its end.")
    return found


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step. Raises `StorageError`."""
    try:
        with atomic_write(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise unwritable(path, error) from None


def write_model(path: Path, content: BaseModel) -> None:
    """Replace a JSON file in one step. Raises `StorageError`."""
    write_text(path, content.model_dump_json(indent=2) + "\n")


def unwritable(path: Path, error: OSError) -> StorageError:
    """The error of a file that cannot be written."""
    return StorageError(
        f"{path}: `a file that can be written` must hold, but got: {error.strerror}."
    )
