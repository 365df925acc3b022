"""Lists the runs of a folder, newest first, or compares two of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the code beside this script runs, wherever the environment points
    sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from text_recognizer.command import exit_code_of
from text_recognizer.errors import InputError, Problem
from tuning.cli import Parser, folder_path


def parser() -> Parser:
    """The flags of the command."""
    result = Parser("runs.py", __doc__)
    # argparse cannot ask for none or two: `main` counts them
    result.add_argument(
        "run",
        type=Path,
        nargs="*",
        metavar="RUN",
        help="two run folders to compare (default: list all runs)",
    )
    result.add_argument(
        "--runs-dir", type=folder_path, metavar="DIR", help="where runs are kept (default runs)"
    )
    result.add_argument(
        "--json", action="store_true", help="print one JSON document instead of a table"
    )
    return result


def main(argv: list[str] | None = None) -> None:
    """List the runs, or compare two."""
    flags = parser().parse(argv)
    if len(flags.run) not in (0, 2):
        hint = "Name two to compare them, or none to list all."
        raise InputError(Problem("RUN", "two runs or none", f"{len(flags.run)}", hint))
    if flags.run and flags.runs_dir:
        raise InputError("--runs-dir: it is not used with two runs. Leave it out: a RUN is a path.")
    # pydantic is slow to import: --help and wrong flags do not wait for it
    from pydantic_core import to_jsonable_python

    from tuning.analysis import Comparison, print_comparison, print_list
    from tuning.run import all_runs, open_run, read_run_info

    content: Any
    if flags.run:
        comparison = Comparison(*(read_run_info(open_run(path)) for path in flags.run))
        if not flags.json:
            return print_comparison(comparison)
        content = comparison.as_plain()
    else:
        folder = flags.runs_dir or Path("runs")
        # without a search there is no folder `runs` yet; a folder that a user named must exist
        runs = all_runs(folder) if flags.runs_dir or folder.exists() else []
        if not flags.json:
            return print_list(runs, folder)
        content = [run.as_plain() for run in runs]
    # Python's json writes NaN, which no other program reads
    print(json.dumps(to_jsonable_python(content, inf_nan_mode="null"), indent=2))
    return None


if __name__ == "__main__":
    sys.exit(exit_code_of(main, output_is_result=True))
