"""The commands' parser of flags, and paths as a user would type them."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from pathlib import Path
from typing import NoReturn

from text_recognizer.command import PROJECT
from text_recognizer.paths import resolved
from text_recognizer.text import printable, reason_of, shown, shown_path, suggested


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations and prints no control characters."""

    def __init__(self, prog: str, description: str | None) -> None:
        # An abbreviation in a script would break when a new flag begins in the same way.
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        # argparse quotes arguments as they are, and a terminal would obey their colours.
        super().error(printable(message))

    def parse(self, arguments: list[str] | None) -> argparse.Namespace:
        """Parse a command line; `-` and `_` in flags are the same.

        Args:
            arguments: None means those of this process.
        """
        result: list[str] = []
        for argument in sys.argv[1:] if arguments is None else arguments:
            name, equals, value = argument.partition("=")
            if name.startswith("--") and "--" not in result:
                if value == "--":  # `parse_args` of Python 3.11 crashes at it
                    self.error(f"argument {name}: expected one argument")
                # Only the name: a value such as `my_run` keeps its `_`.
                argument = name.replace("_", "-") + equals + value
            result.append(argument)
        found, unknown = self.parse_known_args(result)
        if unknown:
            flags = {
                word[2:].replace("-", "_") for one in self._actions for word in one.option_strings
            }
            meant = suggested(unknown[0].lstrip("-").partition("=")[0], flags).replace("_", "-")
            hint = f"; did you mean --{meant}?" if meant else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found


def folder_path(text: str) -> Path:
    """Type of a flag: the path of a folder, which need not exist.

    Raises:
        ArgumentTypeError: no file system can have it, because of a NUL or a link to itself.
    """
    path = Path(text)
    try:
        resolved(path)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{shown(text)} is no path: {reason_of(error)}") from None
    return path


def typed_path(path: Path) -> str:
    """`shown_path`, quoted for a shell where needed."""
    return shlex.quote(shown_path(path))


def typed_command(name: str) -> str:
    """A command of this Python environment, as the user can type it."""
    # The name alone runs this environment's command only if the environment is activated.
    # Folders are compared: the `python` of an environment is a link to the system's.
    beside, found = Path(sys.executable).with_name(name), shutil.which(name)
    here = found and Path(found).parent.resolve() == beside.parent.resolve()
    return name if here else typed_path(beside)


def typed_script(script: str) -> str:
    """A command of this project, such as `tuning/search.py`, as the user can type it."""
    return f"{typed_command('python')} {typed_path(PROJECT / script)}"
