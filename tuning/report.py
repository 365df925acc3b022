"""Writes the report of a run again from the run's folder, or prints its numbers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # the code beside this script runs, wherever the environment points
    sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from text_recognizer.command import exit_code_of
from text_recognizer.text import printable, shown_path
from tuning.cli import Parser


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
    # pydantic and Optuna are slow to import: --help and a wrong path do not wait for them
    from tuning.run import open_run

    folder = open_run(flags.run)
    from tuning.analysis.html import as_json, write_report
    from tuning.analysis.run_data import read_run_data

    run = read_run_data(folder)
    if flags.json:
        print(as_json(run))
    else:
        os.umask(0o077)  # a run is private to its owner
        # these files are not in the report; it is written without them
        for text in run.damaged:
            print(printable(f"note: {text}"), file=sys.stderr)
        print(printable(f"wrote {shown_path(write_report(run))}"))


if __name__ == "__main__":
    sys.exit(exit_code_of(main, output_is_result=True))
