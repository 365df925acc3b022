"""Reads and writes the files of a run; a file that is read is checked against its model."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from text_recognizer.atomic import atomic_write
from text_recognizer.errors import RecogniserError, RunError, StorageError
from text_recognizer.text import clipped

MAX_FILE_BYTES = 50_000_000  # of a file that is read whole: many times what a run's largest takes


class Lenient(BaseModel):
    """A file that may say more than is read here."""

    model_config = ConfigDict(frozen=True)


Model = TypeVar("Model", bound=BaseModel)


@contextmanager
def read_as_ours(path: Path) -> Iterator[None]:
    """Within the block a run is read. What that raises where no search of ours wrote the run is a
    `RunError`.

    A study is a database: whatever stands in it has passed through other people's code before it
    can be checked here.
    """
    try:
        yield
    except RecogniserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        what = clipped(f"{type(error).__name__}: {' '.join(str(error).split())}", 200)
        raise RunError(
            f"{path}: `a run as this project writes it` must hold, but got {what}. The run is "
            "damaged."
        ) from error


def check_plain(folder: Path) -> None:
    """Refuse a run with a link in it, through which a command would read, overwrite or delete what
    is elsewhere; or a pipe.

    Tune's own files are left out: they are not read, and are deleted without following a link.

    Raises:
        RunError: there is one.
        OSError: the folder cannot be read.
    """
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            if entry.name != ".ray":
                check_plain(Path(entry))
        elif not entry.is_file(follow_symlinks=False):
            raise RunError(
                f"{entry.path}: `nothing but files and folders` must hold, but it is a link, a "
                "pipe or a device."
            )


def read_whole(path: Path) -> bytes:
    """The content of a file of a run. Raises `OSError`, also for what is too large or no file:
    to open a pipe is to wait.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        if found.st_size > MAX_FILE_BYTES:
            raise OSError(
                errno.EFBIG, f"{found.st_size:,} bytes, more than {MAX_FILE_BYTES:,}", str(path)
            )
        return file.read()


def read_model(path: Path, model: type[Model]) -> Model | None:
    """What a file says; None where there is none. Raises `RunError` where it is damaged."""
    if not path.exists():
        return None
    try:
        return model.model_validate_json(read_whole(path))
    except (OSError, ValidationError) as error:
        first = (
            error.errors()[0]
            if isinstance(error, ValidationError)
            else {"loc": (), "msg": str(error)}
        )
        where = ".".join(map(str, first["loc"]))
        raise RunError(
            f"{path}: `a file this project wrote` must hold, but got: {where} {first['msg']}"
        ) from None


def read_existing(path: Path, model: type[Model]) -> Model:
    """The content of a file that must be there. Raises `RunError` if it is missing or damaged."""
    found = read_model(path, model)
    if found is None:
        raise RunError(f"{path} is missing: the run is damaged, or was never written to its end.")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises `RunError` if the file is missing or damaged."""
    try:
        found = json.loads(read_whole(path))
    except FileNotFoundError:
        raise RunError(
            f"{path} is missing: the run is damaged, or was never written to its end."
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: `a file this project wrote` must hold, but got: {error}") from None
    if not isinstance(found, dict):
        raise RunError(f"{path}: `a JSON object` must hold, but got a {type(found).__name__}")
    return found


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step. Raises `StorageError`."""
    try:
        with atomic_write(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise unwritable(path, error) from None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file in one step. Raises `StorageError`, and `ValueError` for NaN."""
    write_text(
        path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"
    )


def write_model(path: Path, content: BaseModel) -> None:
    """Replace a JSON file in one step. Raises `StorageError`."""
    write_text(path, content.model_dump_json(indent=2) + "\n")


def unwritable(path: Path, error: OSError) -> StorageError:
    """The error of a file that cannot be written."""
    return StorageError(
        f"{path}: `a file that can be written` must hold, but got: {error.strerror}."
    )
