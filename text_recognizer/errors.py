"""Every way in which a command can fail on purpose, and the exit code each one has.

RecogniserError
 ├─ InputError         2  a flag, a file or a request that breaks a rule; carries every problem
 found ├─ NoResultError      3  the search ended and no trial can be called best ├─ RunError
 4  the run folder is locked, changed or damaged │   └─ CheckpointError   a checkpoint is missing,
 truncated or not what it should be ├─ StorageError       5  the runs folder or the study cannot be
 written ├─ ClusterError       6  Ray died under the search, which can be resumed └─ DataError
 7  a data set that cannot be had or does not match its checksum

Anything else that reaches `exit_code_of` is a bug of ours: 70, with its traceback.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from text_recognizer.text import printable, shown

BUG = 70


class RecogniserError(Exception):
    """Base of all expected errors: its text is for the user and needs no traceback."""

    exit_code = BUG


@dataclass(frozen=True)
class Problem:
    """One broken rule. Reads: where: `rule` must hold, but got value. What to do."""

    where: str
    rule: str
    got: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: `{self.rule}` must hold, but got {self.got}."
        return printable(f"{text} {self.hint}".rstrip())


class InputError(RecogniserError):
    """Bad input or an impossible request; `problems` holds all that was found, in order."""

    exit_code = 2

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class NoResultError(RecogniserError):
    """The search ended without a trial that can be best."""

    exit_code = 3


class RunError(RecogniserError):
    """The run folder is locked by another process, was changed, or is damaged."""

    exit_code = 4


class CheckpointError(RunError):
    """A checkpoint is missing, unreadable or does not match its checksum."""


class StorageError(RecogniserError):
    """The runs folder or the study's database cannot be used."""

    exit_code = 5


class ClusterError(RecogniserError):
    """Ray died under a search; the record is whole, and a resume goes on."""

    exit_code = 6


class DataError(RecogniserError):
    """A data set cannot be read, downloaded or verified. `what` is the first sentence, without
    the advice.
    """

    exit_code = 7

    def __init__(self, what: str, advice: str = "") -> None:
        self.what = what
        super().__init__(f"{what} {advice}".rstrip())


def check(where: str, rule: str, value: Any, holds: bool, hint: str = "") -> None:
    """Raise `InputError` for `value` unless its rule `holds`."""
    if not holds:
        raise InputError(Problem(where, rule, shown(value), hint))
