"""Running a command while its time and its processes' memory are taken; medians and ranges."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

SAMPLE_EVERY_S = 1.0


@dataclass(frozen=True)
class Ran:
    """A command that ended well: seconds from its start to its end, and what it printed."""

    seconds: float
    output: str


def run(*command: str, code: int = 0) -> Ran:
    """Run it with this Python, to the exit code that is expected. Raises `RuntimeError` with
    what it said otherwise.
    """
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode != code:
        raise RuntimeError(
            f"{' '.join(command)} ended with "
            f"{done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
        )
    return Ran(seconds, done.stdout)


@dataclass
class Memory:
    """The largest that any process of a kind had, MB: resident, and thereof what no other
    process shares.
    """

    resident: float = 0
    own: float = 0


@contextmanager
def memory() -> Iterator[dict[str, Memory]]:
    """The memory of the command that runs within the block (`driver`) and of those that train
    for it (`worker`).
    """
    found = {"driver": Memory(), "worker": Memory()}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_EVERY_S):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error, IndexError):  # it has just ended
                    kind = kind_of(process)
                    if kind:
                        now = process.memory_full_info()
                        found[kind].resident = max(found[kind].resident, now.rss / 1e6)
                        found[kind].own = max(found[kind].own, now.uss / 1e6)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def kind_of(process: psutil.Process) -> str:
    """`driver`, `worker`, or nothing for the daemons of Ray."""
    if process.ppid() == psutil.Process().pid:
        return "driver"
    line = " ".join(process.cmdline())
    trains = ".train" in line if line.startswith("ray::") else "spawn_main" in line
    return "worker" if trains else ""


def spread(values: Sequence[float], unit: str = "s") -> str:
    """Median, range and n."""
    digits = 1 if unit == "s" and max(values) >= 10 else 2
    return (
        f"{statistics.median(values):.{digits}f} {unit} ({min(values):.{digits}f} to "
        f"{max(values):.{digits}f}, n = {len(values)})"
    )


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """Of medians."""
    return statistics.median(one) / statistics.median(other)
