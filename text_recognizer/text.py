"""Text that is safe to show: on one line, escaped and clipped; and suggestions for wrong names."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Half a character of UTF-16. It is in Python's `str`, but cannot be encoded as UTF-8.
SURROGATE = re.compile("[\ud800-\udfff]")
TEXT_RULE = "text of whole characters"
MAX_LISTED = 12  # names in a hint


def shown(value: Any, limit: int = 80) -> str:
    """`repr(value)`, which is one line, with at most `limit` characters."""
    return clipped(repr(value), limit)


def clipped(text: str, limit: int = 80) -> str:
    """The first `limit` characters of `text`; an ellipsis marks a cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def printable(text: str) -> str:
    """`text` on one line, with line breaks and control characters as escapes.

    A terminal would obey or hide these characters: colours, titles, right-to-left marks.
    """
    # `repr` escapes a character and puts it in quotes, which are cut off here.
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def printable_lines(text: str) -> str:
    """Apply `printable` to each line of `text`."""
    return "\n".join(map(printable, text.split("\n")))


def reason_of(error: Exception) -> str:
    """The system's reason for an error, without the path."""
    return getattr(error, "strerror", None) or str(error)


def shown_path(path: Path) -> str:
    """A path as the user would type it in the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # it is elsewhere, or the current folder was deleted
        return str(path)


def is_text(value: Any) -> bool:
    """Whether `value` can be written to a file. YAML's "\\ud83d" is half a character, so not."""
    return not isinstance(value, str) or not SURROGATE.search(value)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with the closest of the `known` names, or else with all or the nearest 12 of them."""
    known = sorted(known)
    if close := closest(name, known):
        return f"Did you mean {shown(close[0])}?"
    if len(known) <= MAX_LISTED:
        return f"Known: {', '.join(map(clipped, known))}." if known else ""
    near = closest(name, known, MAX_LISTED, cutoff=0.0)  # without a cutoff nothing is too far
    return f"The nearest of {len(known)} known ones: {', '.join(map(clipped, near))}."


def closest(name: str, known: Iterable[str], n: int = 1, cutoff: float = 0.6) -> list[str]:
    """Up to `n` of the `known` names that resemble `name`, ignoring case, the best first."""
    as_known = {other.lower(): other for other in known}  # difflib itself respects case
    return [
        as_known[other] for other in difflib.get_close_matches(name.lower(), as_known, n, cutoff)
    ]
