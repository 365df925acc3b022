"""How a trial in a worker reports, ends and goes on: its end, the watch for a hang, the checkpoint
it continues from.

What goes wrong is caught, classified and reported, so that the worker lives on for the next trial.
Knows no torch, so that a formula can stand in for training in the tests.
"""

from __future__ import annotations

import errno
import faulthandler
import re
import socket
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from text_recognizer.util import checksum
from tuning.trials.trial import Outcome

Report = Callable[[dict[str, Any]], None]
# no trial's fault: the next one would fail of it too
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
STDLIB = sysconfig.get_paths()["stdlib"]
FRAME = re.compile(r'File "(?P<file>[^"]*)", line (?P<line>\d+) in (?P<function>\S+)')


class NotSharedError(Exception):
    """A node does not see the folder that the run's workers share."""


def run_guarded(
    work: Callable[[Report], None],
    *,
    folders: Sequence[Path] = (),
    stall_limit: float | None = None,
    log: Path | None = None,
) -> None:
    """Do a trial's work and report how it ended, so that only a dead process is an error to Ray.

    Args:
        work: is given the function that reports an epoch.
        folders: that the run has for its workers; one that cannot be used is no trial's fault, and
            suspends the search.
        stall_limit: seconds without a report after which the process ends itself; None waits for
            ever.
        log: where the stacks of a hang are written.
    """
    watch = Watchdog(stall_limit, log)
    try:
        for folder in folders:
            if not folder.is_dir():  # of a node that joined later; the others were asked before
                raise NotSharedError(
                    f"{socket.gethostname()} does not see {folder}: every node has to"
                )
        with watch:
            work(watch.report)
        end = {"outcome": str(Outcome.COMPLETE), "cause": ""}
    except Exception as error:
        traceback.print_exc()  # for the worker's log, which the dashboard shows
        end = {"outcome": str(classified(error)), "cause": first_line(error)}
        if is_of_the_disk(error, folders):
            end = {"disk": first_line(error)}
    tune.report(end)


def is_of_the_disk(error: Exception, folders: Sequence[Path]) -> bool:
    """Whether a disk failed, and no trial: it is full, or one of these folders is missing,
    unreadable or cut off.
    """
    if not isinstance(error, OSError):
        return isinstance(error, NotSharedError)
    return error.errno in DISK or any(
        isinstance(name, str) and Path(name).is_relative_to(folder)
        for name in (error.filename, error.filename2)
        for folder in folders
    )


class Watchdog:
    """Ends the process when nothing is reported for too long, and leaves the stacks of all threads
    in a file.

    A thread of `faulthandler` does it. It is no Python thread: it also ends what hangs inside a
    library with the interpreter's lock held. Time in which the driver keeps a report waiting does
    not count.
    """

    def __init__(self, limit: float | None, log: Path | None) -> None:
        self.limit = limit
        self.log = log

    def __enter__(self) -> Watchdog:
        if self.limit and self.log:
            self.file = self.log.open("w", encoding="utf-8")
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pause()
        if self.limit and self.log:
            self.file.close()
            self.log.unlink(missing_ok=True)

    def report(self, result: dict[str, Any]) -> None:
        """`tune.report`, and the clock starts anew; also where the trial is stopped, because its
        teardown may hang too.
        """
        self._pause()
        try:
            tune.report(result)
        finally:
            self._start()

    def _start(self) -> None:
        if self.limit and self.log:
            faulthandler.dump_traceback_later(self.limit, file=self.file, exit=True)

    def _pause(self) -> None:
        faulthandler.cancel_dump_traceback_later()


def stall_log(folder: Path, number: int) -> Path:
    """Where a trial leaves its stacks if it hangs."""
    return folder / f"trial-{number}-stalled.txt"


def describe_hang(log: Path) -> str | None:
    """Where a process hung, from the stacks it left; None where it did not end for that."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    stacks = [
        stack
        for stack in re.split(r"^(?:Thread|Current thread) ", text, flags=re.MULTILINE)
        if "in run_guarded" in stack
    ]
    frames = list(FRAME.finditer(stacks[0])) if stacks else []
    if not frames:
        return "hung; its stack could not be read" if text else None
    own = [
        frame
        for frame in frames
        if not frame["file"].startswith(STDLIB) and "-packages" not in frame["file"]
    ]
    frame = own[0]  # the innermost that is no library's; `run_guarded` is one
    return f"hung in {frame['function']} ({Path(frame['file']).name}:{frame['line']})"


def classified(error: Exception) -> Outcome:
    """Out of a GPU's memory, or any other failure."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(error, torch.OutOfMemoryError):
        return Outcome.FAILED
    torch.cuda.empty_cache()  # the next trial in this worker must not pay for this one
    return Outcome.OUT_OF_MEMORY


def first_line(error: Exception) -> str:
    """An exception as one line: its type and what it says first."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"[:500]


def newest_valid(folder: Path, history: Sequence[Mapping[str, Any]]) -> Path | None:
    """The newest recorded checkpoint in `folder` that is still what it was when it was recorded."""
    for entry in reversed(history):
        path = folder / str(entry["checkpoint"])
        if path.is_file() and checksum(path) == entry["sha256"]:
            return path
    return None
