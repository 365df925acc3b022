"""The folder that the workers of a run write to, if it is not in the run's own folder."""

import os
import secrets
from pathlib import Path

from text_recognizer.errors import InputError, RunError, StorageError
from tuning.run.folder import RunFolder, name_problem
from tuning.run.reading import check_plain, read_whole, write_text

MARK = "run"  # a file in the folder, with a random text that the study records, too


def create_shared(folder: RunFolder, shared: Path) -> RunFolder:
    """Create a folder of the run's name in `shared`. Its workers write there.

    Raises:
        InputError: the name is taken.
        StorageError: the folder cannot be created.
    """
    path = shared / folder.name
    if os.path.lexists(path):
        raise InputError(f"--checkpoint-dir: {path} exists already. Choose another --name.")
    try:
        shared.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except OSError as error:
        raise StorageError(f"{path}: cannot create the folder: {error.strerror}.") from None
    # A resume deletes checkpoints there, so it has to know that the folder is this run's.
    write_text(path / MARK, secrets.token_hex(16))
    return RunFolder(folder.path, path)


def find_shared(folder: RunFolder, shared: Path, name: str, mark: str) -> RunFolder:
    """Find the folder that `create_shared` made.

    Args:
        name: of the study. It stays the same if the user renames the run's folder.
        mark: the one that the study records.

    Raises:
        RunError: the folder is missing or another one, e.g. because nothing is mounted there.
    """
    # All of this comes from the study, which may be a stranger's: the path must not lead elsewhere.
    path = shared / name
    if not shared.is_absolute() or name_problem(name) or path.is_symlink():
        raise RunError(f"{path}: no folder that a search would create. The run is damaged.")
    if not mark or read_mark(path) != mark:
        raise RunError(
            f"{path}: not the folder of this run's checkpoints. Is its file system mounted?"
        )
    try:
        check_plain(path)
    except OSError as error:
        raise RunError(f"{path}: cannot read the folder: {error.strerror}.") from None
    return RunFolder(folder.path, path)


def read_mark(path: Path) -> str:
    """The mark in a folder of checkpoints; empty if there is none."""
    try:
        return read_whole(path / MARK).decode()
    except (OSError, ValueError):
        return ""
