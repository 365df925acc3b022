"""SIGINT, SIGTERM and SIGHUP while a search runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tuning.ray_backend.signals import Interruptions


@pytest.fixture
def hangup() -> Iterator[None]:
    """Gives SIGHUP its old handler back after the test."""
    old = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, old)


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_first_signal_asks_and_the_second_raises(number: signal.Signals, code: int) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    asked: list[int] = []
    with Interruptions() as interruptions, interruptions.first_asks(lambda: asked.append(1)):
        signal.raise_signal(number)
        assert (asked, interruptions.number) == ([1], number)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert interruptions.exit_code == code, "the first signal decides"


def test_without_running_trials_the_first_signal_raises() -> None:
    with Interruptions() as interruptions, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert interruptions.exit_code == 143


@pytest.mark.usefixtures("hangup")
def test_a_hangup_that_is_ignored_at_the_start_stays_ignored() -> None:
    """As with `nohup`."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interruptions() as interruptions:
        signal.raise_signal(signal.SIGHUP)
    assert interruptions.number is None
