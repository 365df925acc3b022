"""`report.html`: what was searched and found, in one file without a network. `python
tuning/report.py RUN` writes it again.

It is made of numbers (`analysis`, `importance`, `advice`) and figures of them (`plots`); here they
are put into a page. While a search runs its session writes the page again and again, and the page
reloads itself.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from text_recognizer.command import exit_code_of
from text_recognizer.text import printable
from tuning.analysis.html import numbers, write
from tuning.analysis.run_data import facts_of
from tuning.cli import Parser, shown_path, with_dashes
from tuning.run.folder import open_run
from tuning.run.reading import read_as_ours


def parser() -> argparse.ArgumentParser:
    """The flags; `-` and `_` in them are the same."""
    result = Parser("report.py", "Write a run's report.html again, from its folder alone.")
    result.add_argument("run", type=Path, help="a run's folder, e.g. runs/latest")
    result.add_argument(
        "--json", action="store_true", help="print the report's numbers instead of writing it"
    )
    return result


def main(argv: list[str] | None = None) -> None:
    """Rebuild the report of a run, or print its numbers."""
    arguments = parser().parse_args(with_dashes(sys.argv[1:] if argv is None else argv))
    folder = open_run(arguments.run)
    if arguments.json:
        with read_as_ours(folder.path):
            print(json.dumps(numbers(facts_of(folder)), indent=2, default=str))
    else:
        os.umask(0o077)  # what a run has is its owner's
        facts = facts_of(folder)
        for text in facts.damaged:
            print(printable(f"note: {text}"), file=sys.stderr)
        print(printable(f"wrote {shown_path(write(folder, facts))}"))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
