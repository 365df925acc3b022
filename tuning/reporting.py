"""How a trial in a worker ends and goes on: what it reports at its end, and the checkpoint it continues from.

What goes wrong is caught, classified and reported, so that the worker lives on for the next trial. Knows no torch, so that a
formula can stand in for training in the tests.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from text_recognizer.util import checksum
from tuning.results import Outcome


def to_its_end(work: Callable[[], None]) -> None:
    """Do a trial's work and report how it ended, so that only a dead process is an error to Ray."""
    try:
        work()
        outcome, cause = Outcome.COMPLETE, ""
    except Exception as error:
        traceback.print_exc()  # for the worker's log, which the dashboard shows
        outcome, cause = classified(error), first_line(error)
    tune.report({"outcome": str(outcome), "cause": cause})


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


def newest_valid(history: Sequence[Mapping[str, Any]]) -> Path | None:
    """The newest recorded checkpoint that is still what it was when it was recorded."""
    for entry in reversed(history):
        path = Path(entry["checkpoint"])
        if path.is_file() and checksum(path) == entry["sha256"]:
            return path
    return None
