"""What ends the work from outside: SIGINT, SIGTERM, SIGHUP, and the death of Ray."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from text_recognizer.errors import ClusterError
from tuning.ray_backend.ending import CHECK_EVERY_S, LastWords, end_process
from tuning.ray_backend.local_cluster import Cluster


class Interruptions:
    """Ends the work in order when a signal comes. Use it as a context manager around the work.

    A signal raises KeyboardInterrupt: no other exception gets through where Ray waits. SIGHUP
    stays ignored if it was ignored at the start (nohup).
    """

    def __init__(self) -> None:
        self.number: int | None = None  # the first signal that came
        self._on_first: Callable[[], None] | None = None
        ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._numbers = [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]

    def __enter__(self) -> Interruptions:
        self._old = {number: signal.signal(number, self._handle) for number in self._numbers}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Give the signals back. SIGTERM and SIGHUP leave as `SystemExit` with their code."""
        for number, handler in self._old.items():
            signal.signal(number, handler)
        if kind is KeyboardInterrupt and self.number not in (None, signal.SIGINT):
            raise SystemExit(self.exit_code)

    def install(self) -> None:
        """Take the signals. To be called again after `ray.init`, which takes SIGTERM for itself."""
        for number in self._numbers:
            signal.signal(number, self._handle)

    @contextmanager
    def first_asks(self, on_first: Callable[[], None]) -> Iterator[None]:
        """Within the block the first signal only calls `on_first` and sets `number`: running trials
        are to end in order. The second one raises KeyboardInterrupt.
        """
        self._on_first = on_first
        try:
            yield
        finally:
            self._on_first = None

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as shells have it."""
        return 128 + (self.number or signal.SIGINT)

    @contextmanager
    def ray_watched(self, cluster: Cluster, last_words: LastWords) -> Iterator[None]:
        """End the process with exit code 6 if Ray dies within the block. Ray itself would take a
        minute to see it, and neither its calls nor its own end can be waited for then.

        Args:
            last_words: is called with the reason before the end; it has ten seconds.
        """
        # A thread, because the main thread may wait in a call of Ray that never returns.
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(CHECK_EVERY_S):
                if name := cluster.dead():
                    ended.wait(CHECK_EVERY_S)  # for a signal that has ended both
                    if self.number is None:
                        end_process(ClusterError.exit_code, last_words, f"{name} died")
                    reason = f"{signal.Signals(self.number).name} has ended Ray, too"
                    end_process(self.exit_code, last_words, reason)

        thread = threading.Thread(target=watch, name="ray-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first = self.number is None
        self.number = self.number or number
        if not first or self._on_first is None:
            raise KeyboardInterrupt
        self._on_first()
