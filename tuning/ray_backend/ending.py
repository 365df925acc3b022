"""Ends this process where nothing else can: it waits in a call of Ray that never returns."""

import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import psutil

from text_recognizer.errors import ClusterError

LAST_WORDS_S = 10  # the disk may have died with Ray
CHECK_EVERY_S = 0.5
START_LIMIT_S = 180  # Ray takes 5 seconds to start, on slow disks a minute
SAY_EVERY_S = 30
GRACE_S = 10  # for Ray itself to notice a death, and for Python to act on a signal

LastWords = Callable[[str], None]


def complain(reason: str) -> None:
    """Print why the process ends."""
    sys.stderr.write(f"\nerror: {reason}\n")


def end_process(code: int, last_words: LastWords, reason: str) -> NoReturn:
    """End this process and its children from any thread, after the last words."""
    # Even writing them may hang, on a disk that died with Ray's head.
    end = threading.Timer(LAST_WORDS_S, os._exit, [code])
    end.daemon = True
    with suppress(RuntimeError):  # no thread can be started any more
        end.start()
    try:
        last_words(reason)
        sys.stderr.flush()
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    finally:
        os._exit(code)


@contextmanager
def start_watched(dead: Callable[[], str | None], last_words: LastWords) -> Iterator[None]:
    """End the process if Ray does not start within the block: `ray.init` may wait for ever in C++,
    where Python handles no signal.

    Args:
        dead: why Ray cannot start any more, or None.
        last_words: called with the reason before the end; it has ten seconds.
    """
    ended = threading.Event()
    ours, theirs = socket.socketpair()
    for one in (ours, theirs):
        one.setblocking(False)
    # The system's handler writes the number of a signal there, whatever Python waits for.
    old = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    watch = threading.Thread(
        target=watch_start, args=(ours, ended, dead, last_words), name="start-watch", daemon=True
    )
    watch.start()
    # If Ray holds the interpreter's lock, no thread of Python runs; this one is C's.
    faulthandler.dump_traceback_later(START_LIMIT_S + 2 * LAST_WORDS_S, file=2, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.set_wakeup_fd(old)
        ended.set()
        watch.join()
        ours.close()
        theirs.close()


def watch_start(
    signals: socket.socket,
    ended: threading.Event,
    dead: Callable[[], str | None],
    last_words: LastWords,
) -> None:
    """The thread of `start_watched`. It ends with the event, or ends the process."""
    begun = time.monotonic()
    said, code, reason, grace = 0.0, ClusterError.exit_code, "", 0.0
    while not ended.wait(CHECK_EVERY_S):
        seconds = time.monotonic() - begun
        with suppress(BlockingIOError):
            number = signals.recv(1)[0]
            code, reason = 128 + number, f"{signal.Signals(number).name} while Ray started"
        reason = reason or dead() or ""
        if reason:
            grace += CHECK_EVERY_S
        if seconds > START_LIMIT_S:
            reason = reason or f"Ray did not start within {START_LIMIT_S} s"
        if grace > GRACE_S or seconds > START_LIMIT_S:
            end_process(code, last_words, reason)
        if seconds - said > SAY_EVERY_S:
            said = seconds
            sys.stderr.write(f"note: Ray is still starting, after {said:.0f} s\n")
