"""What the command lines have in common: `-` and `_` are the same in a flag, and a whole number is written with digits."""

from __future__ import annotations

import re


def integer(text: str) -> int:
    """A whole number as everybody writes it; Python's own `int` also takes `1_0` and other alphabets' digits."""
    if not re.fullmatch(r"[-+]?[0-9]{1,18}", text):
        raise ValueError(text)
    return int(text)


def with_dashes(arguments: list[str]) -> list[str]:
    """`--gpus_per_trial=1` as `--gpus-per-trial=1`; values stay as they are."""
    result = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        result.append(name.replace("_", "-") + equals + value if name.startswith("--") else argument)
    return result
