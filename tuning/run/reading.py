"""Reads and writes the files of a run; a file that is read is checked against its model."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from text_recognizer.atomic import atomic_write
from text_recognizer.errors import RunError, StorageError
from text_recognizer.text import clipped

MAX_FILE_BYTES = 50_000_000  # many times more than the largest file of a run

Model = TypeVar("Model", bound=BaseModel)


class Lenient(BaseModel):
    """Base of the files' models. It ignores unknown keys: a newer version may have written them."""

    model_config = ConfigDict(frozen=True)


@contextmanager
def read_as_ours(path: Path) -> Iterator[None]:
    """Turn the errors of damaged content into a `RunError`."""
    # A run may be damaged or a stranger's. Its study is a database, which Optuna and SQLAlchemy
    # read before we can check it; they raise errors of many types.
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        what = clipped(f"{type(error).__name__}: {' '.join(str(error).split())}", 200)
        raise RunError(f"{path}: the run is damaged: {what}") from error


def check_plain(folder: Path) -> None:
    """Refuse a run that holds anything but files and folders.

    Raises:
        RunError: there is a link, a pipe or a device.
        OSError: the folder cannot be read.
    """
    # A command would read, overwrite or delete the file that a link leads to, and would wait for a
    # pipe. Tune's files in .ray have links, but are never read, and rmtree does not follow links.
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            if entry.name != ".ray":
                with suppress(FileNotFoundError):  # a search that runs deletes folders of trials
                    check_plain(Path(entry))
        elif not entry.is_file(follow_symlinks=False):
            raise RunError(
                f"{entry.path}: a run holds nothing but files and folders, and this is a link, a "
                "pipe or a device."
            )


def read_whole(path: Path) -> bytes:
    """The content of a file of a run. Raises `OSError`, also if the file is too large, or is a pipe
    or a device.
    """
    # Without O_NONBLOCK opening a pipe waits for a writer. The checks are of the open file: one of
    # the path could be about another file by the time it is opened.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        if found.st_size > MAX_FILE_BYTES:
            reason = f"{found.st_size:,} bytes, more than {MAX_FILE_BYTES:,}"
            raise OSError(errno.EFBIG, reason, str(path))
        return file.read()


def read_existing(path: Path, model: type[Model]) -> Model:
    """The content of a JSON file. Raises `RunError` if the file is missing or damaged."""
    if not path.exists():
        raise RunError(f"{path} is missing: the run is damaged, or was never written to its end.")
    try:
        return model.model_validate_json(read_whole(path))
    except OSError as error:
        reason = str(error)
    except ValidationError as error:
        first = error.errors()[0]  # `str(error)` has several lines and a link to pydantic's pages
        reason = f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()
    raise RunError(f"{path}: the file is damaged: {reason}")


def read_model(path: Path, model: type[Model]) -> Model | None:
    """The content of a JSON file, or None without a file. Raises `RunError` if it is damaged."""
    return read_existing(path, model) if path.exists() else None


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one step. Raises `StorageError`."""
    try:
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise unwritable(path, error) from None


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step. Raises `StorageError`."""
    write_bytes(path, text.encode())


def make_folder(path: Path) -> None:
    """Make a folder that only its owner can read, if it is missing. Raises `StorageError`."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None


def write_model(path: Path, content: BaseModel) -> None:
    """Replace a JSON file in one step. Raises `StorageError`."""
    write_text(path, content.model_dump_json(indent=2) + "\n")


def unwritable(path: Path, error: OSError) -> StorageError:
    """The error of a file that cannot be written."""
    return StorageError(
        f"{path}: cannot be written: {error.strerror}. Free some space or correct the permissions, "
        "then run the command again."
    )
