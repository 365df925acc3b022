"""Guards a trial in a worker: catches what it raises, ends it if it hangs, reports how it ended.

A failed trial leaves its worker alive for the next one, unless the next would fail, too. This
module imports no torch, so that a formula can stand in for training in the tests.
"""

from __future__ import annotations

import errno
import faulthandler
import gc
import os
import re
import socket
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ray import tune

from text_recognizer.atomic import atomic_write, checksum
from text_recognizer.text import printable_lines
from tuning.trials import Outcome

Report = Callable[[dict[str, Any]], None]
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the next trial would fail of it, too
FAILURES_IN_A_ROW = 3  # then the process ends: what it fails of may be in the process
LAST_LINES, LAST_BYTES = 20, 10_000  # of the worker's log, for the log of a failed trial
OWN_LOG = Path("/proc/self/fd/2")  # Ray's workers write their stderr to a file
STDLIB = sysconfig.get_paths()["stdlib"]
FRAME = re.compile(r'File "(?P<file>[^"]*)", line (?P<line>\d+) in (?P<function>\S+)')


def run_guarded(
    work: Callable[[Report], None],
    *,
    folders: Sequence[Path] = (),
    stall_limit: float = 0,
    log: Path | None = None,
    failure_log: Path | None = None,
) -> None:
    """Do a trial's work and report how it ended: only a dead process is an error to Ray.

    A process in which the next trial would fail, too, ends without a report, so that Ray replaces
    it: its CUDA context is dead, or it failed `FAILURES_IN_A_ROW` times.

    Args:
        work: called with the function that reports an epoch. After an out of memory it is called
            once more, and goes on from what it reported.
        folders: of the run, for its workers. If one cannot be used, the search is suspended and
            the trial is not charged.
        stall_limit: seconds without a report after which the process ends itself.
        log: where the stacks of a hang are written; None is no limit.
        failure_log: where `write_failure` writes.
    """
    global failures
    # A trial that the scheduler stops does not come back from `attempt`, and is no failure.
    before, failures = failures, 0
    watchdog = Watchdog(stall_limit, log)
    end = attempt(work, folders, watchdog, failure_log)
    if end.get("outcome") == Outcome.OUT_OF_MEMORY:
        # Ended trials may have held the memory. It is believed if it happens again on a clean
        # device.
        with suppress(OSError):
            if failure_log:
                failure_log.unlink(missing_ok=True)
        end = attempt(work, folders, watchdog, failure_log)
    if end.get("outcome") == Outcome.FAILED:
        failures = before + 1
        dead = False
        with suppress(OSError), watchdog:  # a dead device may not even answer
            dead = is_context_dead()
        if dead or failures >= FAILURES_IN_A_ROW:
            sys.stderr.flush()
            os._exit(1)
    tune.report(end)  # outside of the watchdog: the driver may take its time


failures = 0  # in a row, in this process


def attempt(
    work: Callable[[Report], None],
    folders: Sequence[Path],
    watchdog: Watchdog,
    failure_log: Path | None,
) -> dict[str, str]:
    """Do the work once and return how it ended. No traceback stays, which would keep tensors."""
    try:
        for folder in folders:
            # Every node was asked before the search began, but a node may join later.
            if not folder.is_dir():
                reason = f"{socket.gethostname()} does not see {folder}: every node has to"
                raise FileNotFoundError(errno.ENOENT, reason, str(folder))
        with watchdog:
            clean_up()
            work(watchdog.report)
        return {"outcome": str(Outcome.COMPLETE), "cause": ""}
    except Exception as error:
        said, cause = last_lines(), describe_error(error)
        traceback.print_exc()  # into the worker's log, which Ray's dashboard shows
        if is_disk_error(error, folders):
            return {"disk": cause}
        if failure_log:
            write_failure(failure_log, cause, traceback.format_exc(), said)
        log = log_name(failure_log) if failure_log else ""
        return {"outcome": str(outcome_of(error)), "cause": cause, "log": log}


def clean_up() -> None:
    """Free what ended trials of this process still hold, in memory and on the device.

    Lightning's objects are in cycles, which only the collector frees. Their memory on a GPU does
    not count for when it runs.
    """
    freeze_imports()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@cache  # once a process
def freeze_imports() -> None:
    """Let the collector forget what was imported: it makes each collection slow, and stays."""
    gc.collect()
    gc.freeze()


def is_context_dead() -> bool:
    """Whether no trial can use CUDA in this process any more.

    After a failed assertion, an illegal access or a memory error of the card, every later call
    fails in all of the process.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    from text_recognizer.devices import gpu_failure

    failure = gpu_failure()  # a new computation: the texts of errors differ by version
    return bool(failure) and not failure.startswith("OutOfMemoryError")


def last_lines(path: Path = OWN_LOG) -> list[str]:
    """The last lines of a worker's log."""
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - LAST_BYTES))
                return file.read().decode(errors="replace").splitlines()[-LAST_LINES:]
    return []


def trial_log(folder: Path, number: int) -> Path:
    """Where a trial's last failure is written."""
    return folder / f"trial-{number}.txt"


def log_name(log: Path) -> str:
    """A trial's log as the cause of its end names it: `logs/trial-N.txt`."""
    return f"{log.parent.name}/{log.name}"


def write_failure(log: Path, cause: str, stack: str, said: Sequence[str]) -> None:
    """Write the cause as the first line, the traceback, and what the worker said before."""
    lines = [cause, "", stack, f"The last {len(said)} lines of the worker's log:", *said, ""]
    with suppress(OSError), atomic_write(log) as file:  # how the trial ended is more important
        file.write(printable_lines("\n".join(lines)).encode(errors="backslashreplace"))


def logged_cause(log: Path) -> str | None:
    """The cause in a log of `write_failure`, or None."""
    with suppress(OSError), log.open(encoding="utf-8", errors="replace") as file:
        return file.readline().rstrip("\n") or None
    return None


def is_disk_error(error: Exception, folders: Sequence[Path]) -> bool:
    """Whether the disk failed and not the trial: it is full, or one of the folders is cut off."""
    if not isinstance(error, OSError):
        return False
    names = [name for name in (error.filename, error.filename2) if isinstance(name, str)]
    return error.errno in DISK_ERRORS or any(
        Path(name).is_relative_to(folder) for name in names for folder in folders
    )


class Watchdog:
    """Ends the process if nothing is reported for too long, and writes the stacks of all threads.

    `faulthandler` does it in a C thread, so it also ends what hangs in a library with the
    interpreter's lock held. The time that the driver takes to answer a report does not count.
    """

    def __init__(self, limit: float, log: Path | None) -> None:
        self.limit = limit
        self.log = log

    def __enter__(self) -> Watchdog:
        if self.log:
            self.file = self.log.open("w", encoding="utf-8")
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pause()
        if self.log:
            self.file.close()
            self.log.unlink(missing_ok=True)

    def report(self, result: dict[str, Any]) -> None:
        """Call `tune.report` and start the clock again."""
        self._pause()
        try:
            tune.report(result)
        finally:  # also for a stopped trial: if its teardown hangs, Tune fails the next trial
            self._start()

    def _start(self) -> None:
        if self.log:
            faulthandler.dump_traceback_later(self.limit, file=self.file, exit=True)

    def _pause(self) -> None:
        faulthandler.cancel_dump_traceback_later()


def stall_log(folder: Path, number: int) -> Path:
    """Where a trial writes its stacks if it hangs."""
    return folder / f"trial-{number}-stalled.txt"


def describe_hang(log: Path) -> str | None:
    """Where a process hung, by the stacks it wrote; None if it did not end for that."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    # Every thread left its stack; the trial's is the one with `run_guarded` in it.
    threads = re.split(r"^(?:Thread|Current thread) ", text, flags=re.MULTILINE)
    stacks = [stack for stack in threads if "in run_guarded" in stack]
    frames = list(FRAME.finditer(stacks[0])) if stacks else []
    if not frames:
        return "hung; its stack could not be read" if text else None
    # The innermost frame that is not a library's. All look like one below a folder `ml-packages`.
    ours = (
        frame
        for frame in frames
        if not frame["file"].startswith(STDLIB) and "-packages" not in frame["file"]
    )
    frame = next(ours, frames[-1])
    return f"hung in {frame['function']} ({Path(frame['file']).name}:{frame['line']})"


def outcome_of(error: Exception) -> Outcome:
    """Out of memory on a GPU, or any other failure."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(error, torch.OutOfMemoryError):
        return Outcome.FAILED
    return Outcome.OUT_OF_MEMORY


def describe_error(error: Exception) -> str:
    """An exception as one line: its type and the first line of its text."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"[:500]


def newest_valid(folder: Path, history: Sequence[Mapping[str, Any]]) -> Path | None:
    """The newest recorded checkpoint in `folder` whose sha256 is the recorded one, or None."""
    for entry in reversed(history):
        path = folder / str(entry["checkpoint"])
        if path.is_file() and checksum(path) == entry["sha256"]:
            return path
    return None
