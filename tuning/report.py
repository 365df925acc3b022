"""Writes the report of a run again, from its folder alone, or prints its numbers."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from pydantic_core import to_jsonable_python

from text_recognizer.command import exit_code_of
from text_recognizer.text import printable
from tuning.cli import Parser, shown_path
from tuning.run.folder import open_run
from tuning.run.reading import read_as_ours


def parser() -> Parser:
    """The flags of the command."""
    result = Parser("report.py", __doc__)
    result.add_argument("run", type=Path, help="a run's folder, e.g. runs/latest")
    result.add_argument(
        "--json", action="store_true", help="print the report's numbers instead of writing it"
    )
    return result


def main(argv: list[str] | None = None) -> None:
    """Write the report of a run, or print its numbers."""
    flags = parser().parse(argv)
    folder = open_run(flags.run)
    # these import Optuna, which takes a second: a wrong path and --help do not wait for it
    from tuning.analysis.html import numbers, write_report
    from tuning.analysis.run_data import read_run_data

    run = read_run_data(folder)
    if flags.json:
        with read_as_ours(folder.path):
            plain = to_jsonable_python(numbers(run), inf_nan_mode="null")
        print(json.dumps(plain, indent=2))
    else:
        os.umask(0o077)  # a run is private to its owner
        for text in run.damaged:
            print(printable(f"note: {text}"), file=sys.stderr)
        print(printable(f"wrote {shown_path(write_report(run))}"))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
