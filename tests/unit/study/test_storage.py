"""The URL of a study's database: what is one, and that no password gets in or is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from text_recognizer.errors import InputError, RunError, StorageError
from tuning.run.folder import RunFolder
from tuning.run.storage_url import StorageUrl
from tuning.study import storage
from tuning.study.storage import (
    noted_url,
    open_storage,
    read_storage_note,
    sqlite_url,
    storage_errors,
    write_storage_note,
)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
@pytest.mark.parametrize(
    ("rest", "server"),
    [
        ("me@db.example:5433/studies?sslmode=require", ("db.example", "5433", "studies")),
        ("me%40corp@[::1]/studies", ("[::1]", "5432", "studies")),
        ("/studies", ("", "5432", "studies")),
    ],
)
def test_a_url_in_each_of_its_forms(scheme: str, rest: str, server: tuple[str, str, str]) -> None:
    address = StorageUrl.parse(f"{scheme}://{rest}")
    assert address.server == server
    assert str(address) == f"postgresql://{rest}"
    assert address.engine_url == f"postgresql+psycopg://{rest}"


@pytest.mark.parametrize(
    "text",
    [
        *("", "studies", "mysql://a@h/x", "postgresql://a@h", "postgresql://a@h:port/x"),
        *("sqlite:///x.db", "a:pw@h/x\n", "postgresql://a@h/x y", "postgresql://h/pw@x"),
        "postgresql://me@corp:pw@h/x",
    ],
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="postgresql://USER@HOST:PORT/DATABASE") as refused:
        StorageUrl.parse(text)
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        *("me:pw@h/x", "me:p:w@pw@h/x", "me:12/pw@h/x", "me:pw pw@h/x", "me:#pw\n?pw@h/x"),
        *("me@h/x?password=pw", "me@h/x?a=1&sslPassword=pw", "me:pw@h:port"),
    ],
)
def test_a_password_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InputError, match="PGPASSWORD, or use") as refused:
        StorageUrl.parse(f"postgresql://{text}")
    assert "pw" not in str(refused.value)


def test_a_run_knows_its_own_database_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(RunError, match="no such file"):
        read_storage_note(folder)
    folder.study.touch()
    assert read_storage_note(folder) == (sqlite_url(folder.study), None)
    assert noted_url(folder) is None
    with pytest.raises(InputError, match="is in its folder"):
        read_storage_note(folder, "postgresql://me@h/x")
    write_storage_note(folder, StorageUrl.parse("postgresql://me@h/x"), "name")
    assert json.loads(folder.storage.read_text()) == {"url": "postgresql://me@h/x", "study": "name"}
    assert read_storage_note(folder) == ("postgresql+psycopg://me@h/x", "name")
    assert noted_url(folder) == "postgresql://me@h/x"
    given = "postgresql://you@h:5432/x"
    assert read_storage_note(folder, given) == ("postgresql+psycopg://you@h:5432/x", "name")
    for other in ("h/y", "g/x", "h:5433/x"):
        with pytest.raises(InputError, match="the run's own"):
            read_storage_note(folder, f"postgresql://me@{other}")
    for damaged in ('{"url": "mysql://h/x", "study": "name"}', '{"url": "postgresql://h/x"}', "[]"):
        folder.storage.write_text(damaged)
        with pytest.raises(RunError, match=r"storage\.json"):
            read_storage_note(folder)


def test_a_lock_of_another_process_is_waited_for_a_minute(database: Path) -> None:
    """A dashboard that reads may hold it for longer than SQLite's usual 5 s."""
    with open_storage(sqlite_url(database)).engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000


def test_a_database_that_does_not_answer_is_waited_for_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, said, slept = tmp_path / "mounted", [], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            folder.mkdir()

    monkeypatch.setattr(storage.time, "sleep", sleep)
    engine = create_engine(sqlite_url(folder / "study.db"))
    storage.wait_for_server(engine, said.append)
    engine.connect().close()
    assert slept == [1.0] * 3
    assert said == [
        "the study's database does not answer; waiting for it (unable to open database file)"
    ]
    monkeypatch.setattr(storage, "PATIENCE_S", -1)
    engine = create_engine(sqlite_url(tmp_path / "never" / "study.db"))
    storage.wait_for_server(engine, said.append)
    with pytest.raises(OperationalError, match="unable to open"):
        engine.connect()
    assert (len(said), len(slept)) == (2, 3)


def test_a_database_that_wants_a_password_is_answered_with_where_it_is_taken_from() -> None:
    with (
        pytest.raises(StorageError, match="no password supplied\nSet PGPASSWORD, or use"),
        storage_errors(),
    ):
        raise OSError("no password supplied")
