"""The database of a study: its URL, the note of it in the run's folder, restarts and errors.

Optuna and SQLAlchemy are imported where they are used: `--storage` is checked with `StorageUrl`,
and a refusal should not wait for them.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text_recognizer.errors import InputError, Problem, RunError, StorageError
from text_recognizer.text import shown
from tuning.run.files import StorageNote
from tuning.run.folder import RunFolder
from tuning.run.reading import read_model, write_model

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy import Engine

FORM = re.compile(
    r"postgres(?:ql)?(?:\+psycopg)?://((?:[^:/@?#\s]*@)?(\[[\da-fA-F:]+\]|[^:/@?#\s\[\]]*)"
    r"(?::([0-9]{1,5}))?/([^/@?#\s]+)(?:\?[^#\s]*)?)"
)
PASSWORD = re.compile(r"://[^/@]*:.*@|password=", re.IGNORECASE | re.DOTALL)
PORT = "5432"  # PostgreSQL's default
ASK_EVERY_S = 1.0
PATIENCE_S = 600  # longer than a server takes to restart or to fail over
CONNECT_S = 10

Say = Callable[[str], None]


@dataclass(frozen=True)
class StorageUrl:
    """The URL of a PostgreSQL database; it has no password.

    Args:
        rest: the URL after `postgresql://`.
        server: host, port and database; two URLs with the same ones are the same database.
    """

    rest: str
    server: tuple[str, str, str]

    @classmethod
    def parse(cls, text: str) -> StorageUrl:
        """Read `postgresql://USER@HOST:PORT/DATABASE`; user, host and port may be missing.

        Raises:
            InputError: it is another text, or has a password. The password is not shown.
        """
        if PASSWORD.search(text):
            raise InputError(
                "--storage: a password in the URL is refused; set PGPASSWORD, or use ~/.pgpass."
            )
        found = FORM.fullmatch(text)
        if not found:
            hint = "Without the flag the study is an SQLite file in the run's folder."
            rule = "postgresql://USER@HOST:PORT/DATABASE"
            # a password may stand before an @, even in a text that is no URL
            got = re.sub(".*@", "…@", text, flags=re.DOTALL)
            raise InputError(Problem("--storage", rule, shown(got), hint))
        rest, host, port, database = found.groups()
        return cls(rest, (host, port or PORT, database))

    def __str__(self) -> str:
        """The URL as all tools know it."""
        return f"postgresql://{self.rest}"

    @property
    def engine_url(self) -> str:
        """The URL as SQLAlchemy takes it, with the name of the driver."""
        return f"postgresql+psycopg://{self.rest}"


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file, whatever characters its path has."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(path)).render_as_string()


def write_storage_note(folder: RunFolder, address: StorageUrl, study: str) -> None:
    """Note in the run's folder where its study is. Raises `StorageError`."""
    write_model(folder.storage, StorageNote(url=str(address), study=study))


def read_storage_note(folder: RunFolder, given: str | None = None) -> tuple[str, str | None]:
    """The URL of the run's study for SQLAlchemy, and the study's name if others are beside it.

    Args:
        given: `--storage` of a resume, which may name another user; None uses the noted URL.

    Raises:
        RunError: there is no study, or the note is damaged.
        InputError: `given` is another database than the run's.
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
        on_wait: told when a server that has answered before does not answer, and is waited for;
            with None nothing is waited for.
    """
    from optuna.storages import RDBStorage

    if url.startswith("sqlite"):
        # a dashboard that reads may hold the lock for longer than SQLite's usual 5 s
        return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
    # The ping before each use of a connection replaces connections that a restart has cut.
    settings = {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_S}}
    storage = RDBStorage(url, engine_kwargs=settings)
    if on_wait:
        wait_for_server(storage.engine, on_wait)
    return storage


def wait_for_server(engine: Engine, on_wait: Say) -> None:
    """Make new connections wait for a server that restarts, so that the search goes on."""
    from sqlalchemy import event

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
        end = time.monotonic() + PATIENCE_S
        waited = False
        while True:
            try:
                return dialect.connect(*arguments, **options)
            except dialect.dbapi.OperationalError as error:
                if time.monotonic() > end:
                    raise
                if not waited:
                    why = str(error).strip().partition("\n")[0]
                    on_wait(f"the study's database does not answer; waiting for it ({why})")
                waited = True
                time.sleep(ASK_EVERY_S)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Raise errors of the database as `StorageError`, or as `RunError` if the study is damaged."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError, OSError, KeyError, ImportError) as error:
        # Optuna and SQLAlchemy wrap the database's own error, which says what is wrong
        cause = getattr(error.__cause__ or error, "orig", None) or error.__cause__ or error
        text = str(cause).strip()
        if type(cause) in (sqlite3.DatabaseError, KeyError):  # no SQLite file, or no study in it
            raise RunError(f"the study is damaged: {text}") from error
        if isinstance(cause, ImportError):
            text += ". Install PostgreSQL's driver: pip install '.[postgres]'"
        elif "password" in text:
            text += "\nSet PGPASSWORD, or use ~/.pgpass."
        raise StorageError(f"the study cannot be used: {text}") from error
