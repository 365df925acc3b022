"""Text as a message may show it: one line, escaped, clipped; names that were meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

SURROGATE = re.compile("[\ud800-\udfff]")
TEXT_RULE = "text of whole characters"
MAX_LISTED = 12  # names that a hint spells out


def shown(value: Any, limit: int = 80) -> str:
    """`value` as a message may show it: one line, escaped, no longer than `limit` characters."""
    return clipped(repr(value), limit)


def clipped(text: str, limit: int = 80) -> str:
    """`text`, or as much of it as fits into `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def printable(text: str) -> str:
    """`text` on one line, line breaks and what a terminal would obey or hide written as escapes."""
    return (
        text
        if text.isprintable()
        else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    )


def printable_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def is_text(value: Any) -> bool:
    """False for a text that no file can hold: YAML's "\\ud83d" is half of a character."""
    return not isinstance(value, str) or not SURROGATE.search(value)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint naming the closest of the `known` names; where none is close all of them, or the
    nearest few of many.
    """
    known = sorted(known)
    close = closest(name, known)
    if close:
        return f"Did you mean {shown(close[0])}?"
    if len(known) > MAX_LISTED:
        near = closest(name, known, MAX_LISTED, cutoff=0.0)
        return f"The nearest of {len(known)} known ones: {', '.join(map(clipped, near))}."
    return f"Known: {', '.join(map(clipped, known))}." if known else ""


def closest(name: str, known: Iterable[str], n: int = 1, cutoff: float = 0.6) -> list[str]:
    """Up to `n` of the `known` names that are most like `name`, whatever the case of their
    letters.
    """
    as_known = {other.lower(): other for other in known}
    return [
        as_known[other] for other in difflib.get_close_matches(name.lower(), as_known, n, cutoff)
    ]
