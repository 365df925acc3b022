"""The final script: trains the best config of a search, and reads the test set once.

The config is trained with several seeds on training and validation data, beside lab 1's defaults.
With --top K the K best configs are first trained again and compared on the validation data.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # the code beside this script runs, wherever the environment points
    sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from text_recognizer.command import exit_code_of, leave
from text_recognizer.errors import InputError, NoResultError, Problem
from text_recognizer.text import printable, shown_path
from tuning.cli import Parser, typed_path, typed_script

if TYPE_CHECKING:
    from tuning.run import RunFolder

MAX_SEEDS = 100  # each seed is up to two trainings


def parser() -> Parser:
    """The flags; `-` and `_` in them are the same."""
    result = Parser("retrain.py", __doc__)
    add = result.add_argument
    add("run", type=Path, help="a run's folder, e.g. runs/latest")
    add("--seeds", type=int, default=3, metavar="N", help="seeds per config (default 3)")
    add("--top", type=int, default=1, metavar="K", help="compare the K best configs (default 1)")
    add(
        "--gpus-per-trial",
        type=float,
        metavar="F",
        help="share of a GPU for each training, 0 to 1 (default 1, or 0 without a GPU)",
    )
    add("--cpus-per-trial", type=int, metavar="N", help="CPUs for each training (default 1)")
    add("--require-gpu", action="store_true", help="refuse to train on the CPUs")
    add("--data-dir", metavar="DIR", help="folder of the data sets (default: the search's)")
    return result


def main(argv: list[str] | None = None) -> None:
    """Check the flags and the run, then train and test."""
    flags = parser().parse(argv)
    # Here and below, not at the top: --help does without pydantic, which this package imports.
    from tuning.run import Options, locked

    folder = checked_run(flags)
    with locked(folder):
        check_finished(folder)
        # torch and Ray take seconds to import, so wrong flags are refused before that.
        from tuning.final import Request, Retraining

        options = Options(flags.gpus_per_trial, flags.cpus_per_trial, require_gpu=flags.require_gpu)
        request = Request(flags.seeds, flags.top, flags.data_dir, options)
        # The lines have the run's name in them, which may hold terminal escapes.
        Retraining(folder, request, lambda line: print(printable(line), flush=True)).run()


def checked_run(flags: argparse.Namespace) -> RunFolder:
    """Open the run. Raises `InputError` with all problems of the flags at once."""
    from tuning.run import open_run, request_problems

    problems = request_problems(flags.gpus_per_trial, flags.cpus_per_trial, None)
    if not 1 <= flags.seeds <= MAX_SEEDS:
        problems.append(Problem("--seeds", f"1 <= seeds <= {MAX_SEEDS}", str(flags.seeds)))
    if flags.top < 1:
        problems.append(Problem("--top", "top >= 1", str(flags.top)))
    try:
        folder = open_run(flags.run)
    except InputError as error:
        raise InputError(*error.problems, *problems) from None
    if problems:
        raise InputError(*problems)
    return folder


def check_finished(folder: RunFolder) -> None:
    """Check that the search has ended with a best trial.

    Raises:
        NoResultError: the search has not ended, or has no best trial.
        RunError: the summary is damaged.
    """
    from tuning.run import Summary, read_existing

    summary = read_existing(folder.summary, Summary)
    # A search that failed by an error has no stop reason, and can be resumed.
    if summary.status == "failed" and summary.stop_reason:
        raise NoResultError(
            f"{folder.path}: the search ended without a best trial. "
            f"See {shown_path(folder.report)}, then search a better space."
        )
    if summary.status != "complete":
        raise NoResultError(
            f"{folder.path}: the search has not ended; it is {summary.status}. "
            f"Let it end: {typed_script('tuning/search.py')} --resume {typed_path(folder.path)}"
        )


if __name__ == "__main__":
    leave(exit_code_of(main))
