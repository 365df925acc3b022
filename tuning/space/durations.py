"""Durations as people write them: `90s`, `30m`, `1h30m`, `2d`."""

from __future__ import annotations

import re

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
PATTERN = re.compile("".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit})?" for unit in UNITS))
LONGEST_S = 36_500 * 86400  # no timer can be set to much more
RULE = "a duration above 0 such as 90s, 30m, 2h or 1h30m"
TOO_LONG = "a duration of at most 36500d"


def seconds_of(text: str) -> float:
    """The duration in seconds. Raises `ValueError`, with the rule that is broken, for any other
    text.
    """
    match = PATTERN.fullmatch(text.lower())
    parts = match.groups() if match else ()
    seconds = sum(
        float(part) * size for part, size in zip(parts, UNITS.values(), strict=False) if part
    )
    if seconds <= 0:
        raise ValueError(RULE)
    if seconds > LONGEST_S:
        raise ValueError(TOO_LONG)
    return seconds


def shown_duration(seconds: float) -> str:
    """The two largest units of a duration: `1h30m`, `45s`."""
    rest, parts = round(seconds), []
    for unit, size in UNITS.items():
        n, rest = divmod(rest, size)
        if n:
            parts.append(f"{n}{unit}")
    return "".join(parts[:2]) or "0s"
