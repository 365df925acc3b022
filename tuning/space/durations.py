"""Durations as people write them: `90s`, `30m`, `1h30m`, `2d`."""

import re

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
PATTERN = re.compile("".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit})?" for unit in UNITS))
LONGEST_S = 36_500 * 86400  # the system's timers overflow not far above


def seconds_of(text: str) -> float:
    """Convert a duration to seconds.

    Args:
        text: numbers with the units d, h, m and s, in this order, e.g. `1h30m`.

    Raises:
        ValueError: with the rule that `text` breaks: a duration above 0, of at most 36,500 days.
    """
    # The pattern has ASCII digits alone. Python's `float` would read those of other alphabets.
    match = PATTERN.fullmatch(text.lower())
    numbers = match.groups(default="0") if match else ()
    # `numbers` is empty if the text does not match
    pairs = zip(numbers, UNITS.values(), strict=False)
    seconds = sum(float(number) * size for number, size in pairs)
    if seconds <= 0:
        raise ValueError("a duration above 0 such as 90s, 30m, 2h or 1h30m")
    if seconds > LONGEST_S:
        raise ValueError("a duration of at most 36500d")
    return seconds


def shown_duration(seconds: float) -> str:
    """Format seconds with their two largest units: `1h30m`, `45s`."""
    rest, parts = round(seconds), []
    for unit, size in UNITS.items():
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts[:2]) or "0s"
