"""Ray's files find a place also where home and temporary folders are odd."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuning.ray_backend.private import (
    ensure_home,
    keep_the_token_private,
    private_folder,
    shorten_tmpdir,
    swept_folder,
)


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short folder of the test's own for Ray's files, and an environment that comes back."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    folder.chmod(0o777)
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    for name in ("TMPDIR", "HOME", "USER", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)
    yield folder
    shutil.rmtree(folder)


def test_what_ray_left_is_deleted_after_a_week() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    old, living, new, link = (
        swept_folder() / name
        for name in (
            f"session_2026-01-01_{ended.pid}",
            f"session_2026-01-02_{os.getpid()}",
            f"session_2027-01-03_{ended.pid}",
            "session_latest",
        )
    )
    for folder in (old, living, new):
        (folder / "logs").mkdir(parents=True)
    link.symlink_to(new)
    for folder in (old, living):
        os.utime(folder, (0, 0))
    swept_folder()
    assert {*swept_folder().iterdir()} == {living, new, link}


def test_temporary_files_have_a_short_path(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_tmpdir()
    assert "TMPDIR" not in os.environ, "the usual one is short"
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * 100)
    shorten_tmpdir()
    assert os.environ["TMPDIR"] == str(place / f"ray-{os.getuid()}")


def test_the_token_is_elsewhere_if_the_home_cannot_be_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/proc/nobody")
    keep_the_token_private()
    path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert path.parent == private_folder()
    assert path.stat().st_mode & 0o777 == 0o600
    token = path.read_text()
    assert len(token) == 64
    keep_the_token_private()
    assert path.read_text() == token


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user that does not exist")
def test_a_user_without_a_password_entry_gets_a_home(place: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            os.setuid(54321)
            ensure_home()
            home = Path.home()
            os._exit(0 if home.stat().st_uid == 54321 and os.environ["USER"] == "54321" else 1)
        finally:
            os._exit(2)  # never back into the tests
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
