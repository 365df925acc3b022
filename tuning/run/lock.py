"""The lock of a run: one process works on a run at a time."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from text_recognizer.errors import RunError, StorageError
from text_recognizer.text import reason_of
from tuning.run.folder import RunFolder
from tuning.run.reading import unwritable


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Hold the run until the block or this process ends.

    Raises:
        RunError: another process holds the run.
        StorageError: the folder cannot be written, or its file system has no locks.
    """
    path = folder.path / ".lock"
    try:
        # Not "w": the file must keep the holder's name while another process holds the lock.
        # Not buffered: otherwise a full disk would be noticed only when the file is closed.
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise unwritable(path, error) from None
    with file:  # closing the file releases the lock; so does the end of the process, even SIGKILL
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # some file systems say EACCES
            file.seek(0)
            holder = file.read(200).decode(errors="replace").strip() or "another process"
            raise RunError(
                f"{folder.path}: {holder} works on this run. Wait for it or stop it."
            ) from None
        except OSError as error:
            raise StorageError(
                f"{folder.path}: the file system cannot lock files: {reason_of(error)}. So two "
                "processes could work on one run. Name a folder on another disk with --runs-dir; "
                "copy an older run there."
            ) from None
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        except OSError as error:
            raise unwritable(path, error) from None
        yield


def is_locked(folder: RunFolder) -> bool:
    """Whether a process works on the run, or may do so."""
    try:
        file = (folder.path / ".lock").open("rb")
    except OSError as error:
        return isinstance(error, PermissionError)  # another user's run: believe its summary
    with file:
        try:
            # A shared lock does not disturb other readers, and needs no file opened for writing,
            # as an exclusive one does on some file systems.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True  # somebody holds it, or it cannot be known: believe the summary, too
    return False
