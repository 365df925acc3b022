"""The errors that a command reports as text, each with its exit code.

RecogniserError
 ├─ InputError         2  bad input or an impossible request; holds every problem found
 ├─ NoResultError      3  no trial produced a usable result
 ├─ RunError           4  the run folder is locked, changed or damaged
 │   └─ CheckpointError   a checkpoint is missing, damaged or of another model
 ├─ StorageError       5  a disk, the study's database or the machine's memory cannot be used now
 ├─ ClusterError       6  Ray or its workers cannot start, or Ray died during a search
 └─ DataError          7  a data set cannot be read, downloaded or verified

Any other exception is a bug: exit code 70, with its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

from text_recognizer.text import did_you_mean, printable, shown

BUG = 70  # EX_SOFTWARE in sysexits.h


class RecogniserError(Exception):
    """Base of all expected errors. Its text is for the user and needs no traceback."""

    exit_code = BUG  # each subclass has its own


@dataclass(frozen=True)
class Problem:
    """One problem of the input. Reads: where: `rule` must hold, but got value. What to do.

    Where no rule is broken, `got` is empty and `rule` is a plain sentence, such as "unknown model
    'MPL'".
    """

    where: str
    rule: str
    got: str = ""
    hint: str = ""

    def __str__(self) -> str:
        # Names and values come from files, and may hold control characters.
        text = f"`{self.rule}` must hold, but got {self.got}" if self.got else self.rule
        return printable(f"{self.where}: {text}. {self.hint}".rstrip())


class InputError(RecogniserError):
    """Bad input or an impossible request. `problems` holds everything found, in order."""

    exit_code = 2

    def __init__(self, *problems: Problem | str) -> None:
        # Kept, so that a reader of a file can add the line of each.
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class NoResultError(RecogniserError):
    """No trial produced a usable result."""

    exit_code = 3


class RunError(RecogniserError):
    """The run folder is locked by another process, was changed, or is damaged."""

    exit_code = 4


class CheckpointError(RunError):
    """A checkpoint is missing, damaged or of another model."""


class StorageError(RecogniserError):
    """A disk, the study's database or the machine's memory cannot be used now."""

    exit_code = 5


class ClusterError(RecogniserError):
    """Ray or its workers cannot start, or Ray died. The record is complete: a resume continues."""

    exit_code = 6


class DataError(RecogniserError):
    """A data set cannot be read, downloaded or verified.

    Args:
        what: what is wrong, one sentence.
        advice: what to do.
    """

    exit_code = 7

    def __init__(self, what: str, advice: str = "") -> None:
        self.what = what  # a search that goes on with other data shows it without the advice
        super().__init__(f"{what} {advice}".rstrip())


def ensure(where: str, rule: str, value: Any, holds: bool, hint: str = "") -> None:
    """Raise `InputError` for `value` unless its rule `holds`."""
    if not holds:
        raise InputError(Problem(where, rule, shown(value), hint))


def ensure_range(low: float, high: float = inf, **values: float | None) -> None:
    """Raise `InputError` unless low <= value < high for all `values`. None (not given) passes."""
    # All problems at once. A NaN is one, because each comparison with it is false.
    problems = [
        Problem(
            name, f"{low} <= {name} < {high}" if high < inf else f"{name} >= {low}", repr(value)
        )
        for name, value in values.items()
        if value is not None and not low <= value < high
    ]
    if problems:
        raise InputError(*problems)


# Returned and not raised, so that a type checker sees the end of the caller's branch.
def unknown(kind: str, name: Any, known: Iterable[str]) -> InputError:
    """The error for a name of a model, an optimizer and the like that is not `known`."""
    hint = did_you_mean(str(name), known)
    return InputError(Problem(kind, f"unknown {kind} {shown(name)}", hint=hint))
