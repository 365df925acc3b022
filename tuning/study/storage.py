"""Opens the database of a study, notes its URL in the run's folder, and waits for its restarts."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import URL, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from text_recognizer.errors import InputError, RunError, StorageError
from tuning.run import RunFolder, StorageNote, StorageUrl, read_model, write_model

ASK_EVERY_S = 1.0
PATIENCE_S = 600  # longer than a server takes to restart or to fail over
CONNECT_S = 10
UNLOCKABLE = ("database is locked", "disk I/O error")  # SQLite, where the lock call itself fails

Say = Callable[[str], None]


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file."""
    # SQLAlchemy escapes the path: a `?` or `%` in it would have a meaning in a URL.
    return URL.create("sqlite", database=str(path)).render_as_string()


def write_storage_note(folder: RunFolder, address: StorageUrl, study: str) -> None:
    """Write the study's database and name into the run's folder. Raises `StorageError`."""
    write_model(folder.storage, StorageNote(url=str(address), study=study))


def read_storage_note(folder: RunFolder, given: str | None = None) -> tuple[str, str | None]:
    """The URL of the run's study for SQLAlchemy, and its name if the database has other studies.

    Args:
        given: `--storage` of a resume, which may name another user; None uses the noted URL.

    Raises:
        RunError: there is no study, or the note is damaged.
        InputError: `given` is not the run's database.
    """
    note = read_model(folder.storage, StorageNote)
    if note is None:
        if given:
            raise InputError(
                f"--storage: the study of {folder.name} is in its folder. Leave the flag out."
            )
        if not folder.study.is_file():
            raise RunError(f"{folder.study}: no such file. The run is damaged.")
        return sqlite_url(folder.study), None
    try:
        noted = StorageUrl.parse(note.url)
    except InputError as error:
        raise RunError(f"{folder.storage} is damaged: {error}") from None
    address = StorageUrl.parse(given) if given else noted
    if address.server != noted.server:
        raise InputError(f"--storage: {address} is another database than the run's own, {noted}.")
    return address.engine_url, note.study


def noted_url(folder: RunFolder) -> str | None:
    """The URL of the run's study, or None if the study is a file in the run's folder."""
    note = read_model(folder.storage, StorageNote)
    return note.url if note else None


def reach(address: StorageUrl) -> None:
    """Open the database once, before a run is created. Raises `StorageError`."""
    with storage_errors():
        open_storage(address.engine_url)


def open_storage(url: str, on_wait: Say | None = None) -> RDBStorage:
    """Optuna's storage at `url`.

    Args:
        on_wait: prints that a server does not answer and is waited for; None does not wait.
    """
    if url.startswith("sqlite"):
        # A dashboard that reads may hold the lock for longer than the usual 5 s.
        return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
    # A ping before each use replaces a connection that a restart of the server has cut. A commit
    # that was cut is not repeated: a resume reads from the record whether it counted.
    settings = {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_S}}
    storage = RDBStorage(url, engine_kwargs=settings)
    if on_wait:
        wait_for_server(storage.engine, on_wait)
    return storage


def wait_for_server(engine: Engine, on_wait: Say) -> None:
    """Let new connections wait for a server that restarts, so that the search goes on."""

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
        end = 0.0  # set at the first error
        while True:
            try:
                return dialect.connect(*arguments, **options)
            except dialect.dbapi.OperationalError as error:
                if not end:
                    end = time.monotonic() + PATIENCE_S
                    why = str(error).strip().partition("\n")[0]
                    on_wait(f"the study's database does not answer; waiting for it ({why})")
                if time.monotonic() > end:
                    raise
                time.sleep(ASK_EVERY_S)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Raise errors of the database as `StorageError`, or as `RunError` if the study is damaged."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, OSError, LookupError, ImportError) as error:
        # Optuna and SQLAlchemy wrap the database's own error, which says what is wrong.
        cause = getattr(error.__cause__ or error, "orig", None) or error.__cause__ or error
        text = str(cause).strip()
        # no SQLite file, no study in it, or a name that no enum has
        if type(cause) in (sqlite3.DatabaseError, KeyError, LookupError):
            raise RunError(f"the study is damaged: {text}") from error
        if isinstance(cause, ImportError):
            text += ". Install PostgreSQL's driver: pip install '.[postgres]'"
        elif text in UNLOCKABLE:
            text += (
                ". If no other process uses it, its file system cannot lock files: name a folder "
                "on another disk with --runs-dir, or use --storage."
            )
        elif "password" in text:
            text += "\nSet PGPASSWORD, or use ~/.pgpass."
        raise StorageError(f"the study cannot be used: {text}") from error
