"""The address of a study's database: what is one, and that its password is in no text of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from text_recognizer.errors import InputError, RunError
from tuning.run.folder import RunFolder
from tuning.study.database import StorageUrl, sqlite_url, storage_problem, without_passwords
from tuning.study.storage import read_storage_note, write_storage_note

SECRET = "s3cr:et/@x"
QUOTED = "s3cr%3Aet%2F%40x"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
@pytest.mark.parametrize(
    "query", ["", "?sslmode=require", "?password=s3cr%3Aet%2F%40x&sslmode=require"]
)
def test_a_password_is_used_and_never_shown(scheme: str, query: str) -> None:
    address = StorageUrl.parse(f"{scheme}://me:{QUOTED}@db.example:5433/studies{query}")
    assert address.has_secret
    assert address.url.password == SECRET
    assert str(address) == "postgresql://me@db.example:5433/studies" + "?sslmode=require" * bool(
        query
    )
    assert StorageUrl.parse(str(address)).engine_url.startswith(
        "postgresql+psycopg://me@db.example:5433/studies"
    )
    assert not StorageUrl.parse(str(address)).has_secret


@pytest.mark.parametrize(
    "text",
    [
        "",
        "studies",
        "mysql://a:pw@h/x",
        "postgresql://a:pw@h",
        "postgresql://a:pw@h:port/x",
        "sqlite:///x.db",
        "a:pw@h/x\n",
    ],
)
def test_what_is_none_is_refused_without_its_password(text: str) -> None:
    problem = storage_problem(text)
    assert problem
    assert "postgresql://USER@HOST:PORT/DATABASE" in str(problem)
    assert "pw" not in str(problem)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:a:b@c@h/x", "postgresql://me:***@h/x"),
        ("--storage=postgresql://me:pw@h/x", "--storage=postgresql://me:***@h/x"),
        ("postgresql://me@corp:pw@h/x", "postgresql://me@corp:***@h/x"),
        ("postgresql://me:my secret@h/x", "postgresql://me:***@h/x"),
        ("postgresql://me:two\nlines@h/x", "postgresql://me:***@h/x"),
        ("postgresql://me@h/x?sslpassword=my secret", "postgresql://me@h/x?sslpassword=***"),
        ("postgresql://me@h/x?Password=pw&a=1", "postgresql://me@h/x?Password=***&a=1"),
        ("search_spaces/mlp.yaml", "search_spaces/mlp.yaml"),
        ("10.0.0.1:6379", "10.0.0.1:6379"),
    ],
)
def test_a_command_is_written_down_without_passwords(text: str, shown: str) -> None:
    assert without_passwords(text) == shown


def test_a_run_knows_its_own_database_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(RunError, match="there is none"):
        read_storage_note(folder)
    folder.study.touch()
    assert read_storage_note(folder) == (sqlite_url(folder.study), None)
    with pytest.raises(InputError, match="a run that was begun with --storage"):
        read_storage_note(folder, "postgresql://me@h/x")
    write_storage_note(folder, StorageUrl.parse("postgresql://me:pw@h/x"), "name")
    assert "pw" not in folder.storage.read_text()
    assert read_storage_note(folder) == ("postgresql+psycopg://me@h/x", "name")
    assert read_storage_note(folder, "postgresql://you:pw@h/x") == (
        "postgresql+psycopg://you:pw@h/x",
        "name",
    )
    assert read_storage_note(folder, "postgresql://me@h:5432/x")[1] == "name"
    for other in ("h/y", "g/x", "h:5433/x"):
        with pytest.raises(InputError, match="the run's own"):
            read_storage_note(folder, f"postgresql://me@{other}")
    folder.storage.write_text('{"url": "mysql://h/x", "study": "name"}')
    with pytest.raises(RunError, match="must hold"):
        read_storage_note(folder)
