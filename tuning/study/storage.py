"""Where a study is kept: the note of it in the run's folder, patience with a server that
restarts, the errors of a database.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from text_recognizer.errors import InputError, Problem, RunError, StorageError
from tuning.run.folder import RunFolder
from tuning.run.reading import read_json, write_json
from tuning.study.database import RULE, StorageUrl, sqlite_url

ASK_EVERY_S = 1.0
PATIENCE_S = 600  # longer than a server takes to restart or to fail over
CONNECT_S = 10

Say = Callable[[str], None]


def write_storage_note(folder: RunFolder, address: StorageUrl, study: str) -> None:
    """Note in the run's folder where its study is. Raises `StorageError`."""
    write_json(folder.storage, {"url": str(address), "study": study})


def read_storage_note(folder: RunFolder, given: str | None = None) -> tuple[str, str | None]:
    """The URL of the run's study, and its name where it is not the only one there.

    Args:
        given: the user's own words for it, with a password perhaps; None reads what was noted.

    Raises:
        RunError: there is no study, or the note is damaged.
        InputError: `given` is another database than the run's.
    """
    if not folder.storage.exists():
        if given:
            rule = "a run that was begun with --storage"
            raise InputError(
                Problem(
                    "--storage",
                    rule,
                    f"{folder.name}, whose study is in its folder",
                    "Leave the flag out.",
                )
            )
        if not folder.study.is_file():
            raise RunError(
                f"{folder.study}: `the record of the run` must hold, but there is none. The run "
                "is damaged."
            )
        return sqlite_url(folder.study), None
    kept = read_json(folder.storage)
    try:
        noted, name = StorageUrl.parse(str(kept.get("url"))), str(kept["study"])
    except (ValueError, KeyError):
        raise RunError(
            f"{folder.storage}: `{RULE}, and a study's name` must hold, but got {str(kept)[:80]}."
        ) from None
    address = StorageUrl.parse(given) if given else noted
    if address.server != noted.server:
        raise InputError(
            Problem(
                "--storage", f"the run's own, {noted}", str(address), "Its study is nowhere else."
            )
        )
    return address.engine_url, name


def noted_url(folder: RunFolder) -> str | None:
    """The database of a run whose study is not in its folder, without a password."""
    return str(read_json(folder.storage)["url"]) if folder.storage.exists() else None


def reach(address: StorageUrl) -> None:
    """See that the database answers and lets us in, before anything is made. Raises
    `StorageError`.
    """
    with storage_errors():
        open_storage(address.engine_url)


def open_storage(url: str, on_wait: Say | None = None) -> optuna.storages.RDBStorage:
    """Optuna's storage at `url`.

    SQLite waits a minute for a reader that holds its lock, a dashboard say, instead of five
    seconds.

    Args:
        on_wait: told when a server that has answered before does not, and is waited for; None waits
            for none.
    """
    if url.startswith("sqlite"):
        return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
    # Before each use of a connection the server is asked whether it is there: one that was
    # restarted costs a new connection.
    settings = {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_S}}
    storage = optuna.storages.RDBStorage(url, engine_kwargs=settings)
    if on_wait:
        wait_for_server(storage.engine, on_wait)
    return storage


def wait_for_server(engine: Engine, on_wait: Say) -> None:
    """Have new connections wait for a server that restarts, instead of ending a search of days."""

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
                    on_wait(
                        "the study's database does not answer; waiting for it "
                        f"({first_line(error)})"
                    )
                waited = True
                time.sleep(ASK_EVERY_S)


def first_line(error: BaseException) -> str:
    """What a database says, as one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def storage_errors() -> Iterator[None]:
    """What the database says when it cannot go on, as a `StorageError`."""
    try:
        yield
    except (
        SQLAlchemyError,
        optuna.exceptions.StorageInternalError,
        OSError,
        KeyError,
        ImportError,
    ) as error:
        cause = getattr(error.__cause__ or error, "orig", None) or error.__cause__ or error
        # the file is none, or its content makes no sense
        if type(cause) in (sqlite3.DatabaseError, KeyError):
            raise RunError(f"the study is damaged: {str(cause).strip()}") from error
        raise StorageError(
            f"the study cannot be used: {str(cause).strip()}{advice(cause)}"
        ) from error


def advice(cause: BaseException) -> str:
    """What to do about what a server, or its driver, says."""
    if isinstance(cause, ImportError):
        return ". Install what talks to PostgreSQL: pip install '.[postgres]'"
    if "password" in str(cause):
        return "\nGive it in --storage, or in PostgreSQL's own ways: PGPASSWORD, ~/.pgpass."
    return ""
