"""Every way in which a command can fail on purpose, and the exit code each one has.

RecogniserError
 ├─ InputError         2  a flag, a file or a request that breaks a rule; carries every problem found
 ├─ NoResultError      3  the search ended and no trial can be called best
 ├─ RunError           4  the run folder is locked, changed or damaged
 │   └─ CheckpointError   a checkpoint is missing, truncated or not what it should be
 ├─ StorageError       5  the runs folder or the study cannot be written
 ├─ ClusterError       6  Ray died under the search, which can be resumed
 └─ DataError          7  a data set that cannot be had or does not match its checksum

Anything else that reaches `exit_code_of` is a bug of ours: 70, with its traceback.
"""

from __future__ import annotations

import atexit
import difflib
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

BUG = 70
INTERRUPTED = 130
SURROGATE = re.compile("[\ud800-\udfff]")
TEXT_RULE = "text of whole characters"
MAX_LISTED = 12  # names that a hint spells out


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
    """A data set cannot be read, downloaded or verified. `what` is the first sentence, without the advice."""

    exit_code = 7

    def __init__(self, what: str, advice: str = "") -> None:
        self.what = what
        super().__init__(f"{what} {advice}".rstrip())


def shown(value: Any, limit: int = 80) -> str:
    """`value` as a message may show it: one line, escaped, no longer than `limit` characters."""
    return clipped(repr(value), limit)


def clipped(text: str, limit: int = 80) -> str:
    """`text`, or as much of it as fits into `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def printable(text: str) -> str:
    """`text` on one line, line breaks and what a terminal would obey or hide written as escapes."""
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def is_text(value: Any) -> bool:
    """False for a text that no file can hold: YAML's "\\ud83d" is half of a character."""
    return not isinstance(value, str) or not SURROGATE.search(value)


def check(where: str, rule: str, value: Any, holds: bool, hint: str = "") -> None:
    """Raise `InputError` for `value` unless its rule `holds`."""
    if not holds:
        raise InputError(Problem(where, rule, shown(value), hint))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint naming the closest of the `known` names; where none is close all of them, or the nearest few of many."""
    known = sorted(known)
    close = closest(name, known)
    if close:
        return f"Did you mean {shown(close[0])}?"
    if len(known) > MAX_LISTED:
        near = closest(name, known, MAX_LISTED, cutoff=0.0)
        return f"The nearest of {len(known)} known ones: {', '.join(map(clipped, near))}."
    return f"Known: {', '.join(map(clipped, known))}." if known else ""


def closest(name: str, known: Iterable[str], n: int = 1, cutoff: float = 0.6) -> list[str]:
    """Up to `n` of the `known` names that are most like `name`, whatever the case of their letters."""
    as_known = {other.lower(): other for other in known}
    return [as_known[other] for other in difflib.get_close_matches(name.lower(), as_known, n, cutoff)]


def exit_code_of(main: Callable[[], int | None]) -> int:
    """Run a command; print an expected error as text, a bug with its traceback; return the exit code."""
    try:
        return main() or 0
    except RecogniserError as error:
        print(printable_lines(f"error: {error}"), file=sys.stderr)  # a path in it may hold anything
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at its end
        return 0
    except SystemExit as end:
        if end.code == signal.SIGTERM:  # so Ray's handler ends a process, and ours
            return 128 + signal.SIGTERM
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        print("interrupted", file=sys.stderr)  # Lightning turns Ctrl-C into an exit with 1
        return INTERRUPTED
    except Exception:
        traceback.print_exc()
        print("error: this is a bug of ours; the lines above say where", file=sys.stderr)
        return BUG


def leave(code: int) -> NoReturn:
    """End the process as `sys.exit` does, but leave its memory to the system: taking torch's modules apart takes two seconds."""
    atexit._run_exitfuncs()
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
