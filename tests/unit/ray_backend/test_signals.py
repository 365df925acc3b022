"""What a signal does to the work: it is asked to end, or ends at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from text_recognizer.command import exit_code_of
from tuning.ray_backend.signals import Interruptions


@pytest.fixture(autouse=True)
def hangup() -> Iterator[None]:
    """SIGHUP as it was before the test."""
    before = signal.getsignal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_the_work_with_its_exit_code(number: signal.Signals, code: int) -> None:
    def work() -> None:
        with Interruptions():
            signal.raise_signal(number)

    assert exit_code_of(work) == code


def test_the_first_signal_asks_and_the_second_ends() -> None:
    asked: list[str] = []
    interruptions = Interruptions()
    with interruptions, interruptions.first_asks(lambda: asked.append("to end")):
        signal.raise_signal(signal.SIGINT)
        assert (asked, interruptions.number) == (["to end"], signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert interruptions.exit_code == 130


def test_sighup_stays_ignored_if_it_was_at_the_start() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interruptions() as interruptions:
        signal.raise_signal(signal.SIGHUP)
    assert interruptions.number is None


def test_the_handlers_of_before_come_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruptions():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
