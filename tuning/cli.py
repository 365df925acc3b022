"""What the command lines have in common: `-` and `_` are the same in a flag, and a whole number
is written with digits.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import NoReturn

from text_recognizer.errors import InputError, Problem
from text_recognizer.text import printable, shown


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations and quotes what it refuses in a way that a terminal
    can show.
    """

    def __init__(self, prog: str, description: str | None) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def integer(text: str) -> int:
    """A whole number as everybody writes it; Python's own `int` also takes `1_0` and other
    alphabets' digits.
    """
    if not re.fullmatch(r"[-+]?[0-9]{1,18}", text):
        raise ValueError(text)
    return int(text)


def number(text: str) -> float:
    """The same for a number: what `float` takes, without `_`, blanks and other alphabets'
    digits.
    """
    if not text.isascii() or "_" in text or text != text.strip():
        raise ValueError(text)
    return float(text)


def folder_path(text: str) -> Path:
    """The path of a folder, which need not be there; refused is what no file system has: a NUL,
    a link to itself.
    """
    path = Path(text)
    try:
        path.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise argparse.ArgumentTypeError(printable(f"{shown(text)} is no path: {reason}")) from None
    return path


def with_dashes(arguments: list[str]) -> list[str]:
    """`--gpus_per_trial=1` as `--gpus-per-trial=1`; values stay as they are, and so does all behind
    a `--`.

    Raises:
        InputError: for `--flag=--`, of which argparse makes an empty list.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    result = []
    for argument in arguments[:end]:
        name, equals, value = argument.partition("=")
        if name.startswith("--") and equals and value == "--":
            raise InputError(Problem(name, "a value for the flag", shown(value)))
        result.append(
            name.replace("_", "-") + equals + value if name.startswith("--") else argument
        )
    return result + arguments[end:]


def shown_path(path: Path) -> str:
    """A path as the user would type it in the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # it is elsewhere, or the current folder was deleted
        return str(path)


def typed_path(path: Path) -> str:
    """`shown_path`, quoted for a shell where needed."""
    return shlex.quote(shown_path(path))


def typed_command(name: str) -> str:
    """A command of this Python environment as the user can type it, even if the environment is
    not activated.
    """
    beside = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    return name if found and Path(found).resolve() == beside.resolve() else shown_path(beside)
