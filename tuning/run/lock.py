"""The lock of a run: one process works on a run at a time."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from text_recognizer.errors import RunError
from tuning.run.folder import RunFolder
from tuning.run.reading import unwritable


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Hold the run until the block or this process ends, however it ends.

    Raises:
        RunError: another process holds the run.
        StorageError: the folder cannot be written.
    """
    path = folder.path / ".lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            raise RunError(
                f"{folder.path}: {holder} works on this run. Wait for it or stop it."
            ) from None
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        except OSError as error:
            raise unwritable(path, error) from None
        yield
    finally:
        os.close(handle)  # this releases the lock


def is_locked(folder: RunFolder) -> bool:
    """Whether a process works on the run."""
    try:
        handle = os.open(folder.path / ".lock", os.O_RDONLY)
    except OSError as error:
        return isinstance(error, PermissionError)  # another user's run: believe its summary
    try:
        # A shared lock does not disturb other readers, and needs no file opened for writing, as
        # an exclusive one does on some file systems.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
