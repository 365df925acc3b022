"""A start of Ray that never returns ends, with the last words and the exit code."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tuning.ray_backend import ending


def hangs(told: Path, dead: Callable[[], str | None], number: int = 0) -> int:
    """The exit code of a process that waits in C within `start_watched`, whatever its handlers do.

    Args:
        told: where its last words are written.
        number: of a signal that it gets; 0 is none.
    """
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGTERM, lambda *_: None)
            ending.GRACE_S = ending.CHECK_EVERY_S = 0.05
            with ending.start_watched(dead, lambda reason: print(reason, file=told.open("w"))):
                if number:
                    os.kill(os.getpid(), number)
                while True:
                    ctypes.CDLL(None).pause()
        finally:
            os._exit(99)  # never back into the tests
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def test_a_process_of_rays_that_died_ends_the_start(tmp_path: Path) -> None:
    assert hangs(tmp_path / "told", lambda: "its raylet died") == 6
    assert (tmp_path / "told").read_text() == "its raylet died\n"


def test_a_signal_ends_a_start_that_does_not_heed_it(tmp_path: Path) -> None:
    assert hangs(tmp_path / "told", lambda: None, signal.SIGTERM) == 143
    assert (tmp_path / "told").read_text() == "SIGTERM while Ray started\n"


def test_a_start_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "START_LIMIT_S", 0.1)
    assert hangs(tmp_path / "told", lambda: None) == 6
    assert "did not start within" in (tmp_path / "told").read_text()


def test_a_start_that_succeeds_leaves_nothing_behind() -> None:
    before = signal.set_wakeup_fd(-1)
    with ending.start_watched(lambda: None, lambda reason: pytest.fail(reason)):
        pass
    assert signal.set_wakeup_fd(before) == -1
