"""Files: written in one step, so that a reader never sees a half of one; and their checksums."""

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

HALF = ".writing"  # how the temporary files end; a process that is killed may leave one


def is_abandoned(half: Path) -> bool:
    """Whether the process that began a temporary file has ended."""
    found = re.search(r"\.(\d+)-\d+$", half.name.removesuffix(HALF))
    try:
        os.kill(int(found[1]) if found else 0, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return not found or int(found[1]) == os.getpid()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path. The file written there appears under `path`, whole and durable, if the
    block succeeds.

    Raises:
        OSError: the file cannot be written; what was under `path` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{HALF}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)  # half a file would keep a full disk full
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)  # a write names no file
        raise
    for folder in path.absolute().parents[:2]:  # the file's folder may be new, too
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: without it, power loss may undo a rename.

    Does nothing where the file system cannot do it, or the folder cannot be read.
    """
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under `path` as `atomic_path` says. Raises `OSError`."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        yield file


def checksum(path: Path, algorithm: Literal["sha256", "md5"] = "sha256") -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
