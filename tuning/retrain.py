"""The final script: train a search's best config on training and validation data, then read the
test set once.

Several seeds say how much of the result is luck; lab 1's defaults are trained beside it. With --top
K the K best configs are trained again first, and the one with the best mean on the validation data
goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from text_recognizer.command import exit_code_of, leave
from text_recognizer.errors import InputError, NoResultError, Problem, RunError
from text_recognizer.text import printable
from tuning.cli import Parser, shown_path
from tuning.run.folder import RunFolder, open_run
from tuning.run.lock import locked
from tuning.run.options import Options
from tuning.run.reading import read_json
from tuning.run.resources import request_problems

MAX_SEEDS = 100


def parser() -> Parser:
    """The flags; `-` and `_` in them are the same."""
    result = Parser("retrain.py", __doc__)
    result.add_argument("run", type=Path, help="a run's folder, e.g. runs/latest")
    result.add_argument(
        "--seeds",
        type=int,
        default=3,
        metavar="N",
        help="seeds per config, from the search's on (default 3)",
    )
    result.add_argument(
        "--top",
        type=int,
        default=1,
        metavar="K",
        help="train so many of the best configs again, then choose (default 1)",
    )
    result.add_argument(
        "--gpus-per-trial",
        type=float,
        metavar="F",
        help=(
            "share of a GPU for each training, from 0 to 1 (default: a whole one, if there is any)"
        ),
    )
    result.add_argument(
        "--cpus-per-trial",
        type=int,
        metavar="N",
        help="CPU cores and threads for each training (default 1)",
    )
    result.add_argument("--require-gpu", action="store_true", help="refuse to train on the CPUs")
    result.add_argument(
        "--data-dir", metavar="DIR", help="where data sets are (default: where the search had them)"
    )
    return result


def main(argv: list[str] | None = None) -> int:
    """Refuse what can be refused at once, then train, test and say it."""
    flags = parser().parse(argv)
    folder = checked_run(flags)
    with locked(folder):
        summary = read_summary(folder)
        # torch and Ray take seconds to import; a wrong path is refused before
        from tuning.final.retraining import (
            Request,
            Retraining,
        )

        options = Options(flags.gpus_per_trial, flags.cpus_per_trial, require_gpu=flags.require_gpu)
        request = Request(flags.seeds, flags.top, flags.data_dir, options)
        Retraining(folder, summary, request, say).go()
    return 0


def say(text: str) -> None:
    """One line at once. A run's name may be anybody's."""
    print(printable(text), flush=True)


def checked_run(flags: argparse.Namespace) -> RunFolder:
    """The run. Raises `InputError` with all that is wrong with the flags."""
    problems: list[Problem | str] = [
        *request_problems(flags.gpus_per_trial, flags.cpus_per_trial, None)
    ]
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


def read_summary(folder: RunFolder) -> dict[str, Any]:
    """The summary of a search that has ended with a best trial.

    Raises:
        NoResultError: the search found none, or has not ended.
        RunError: the summary is damaged.
    """
    summary = read_json(folder.summary)
    if summary.get("status") == "failed" and summary.get("stop_reason"):
        raise NoResultError(
            f"{folder.path}: `a search that ended with a best trial` must hold, but no trial "
            "can be best. "
            f"See {shown_path(folder.report)}, then search a better space."
        )
    if summary.get("status") != "complete":
        raise NoResultError(
            f"{folder.path}: `a search that has ended` must hold, but it is "
            f"{summary.get('status')}. "
            f"Let it end: python tuning/search.py --resume {shown_path(folder.path)}"
        )
    best = summary.get("best")
    if not best or not folder.best_config.is_file():
        raise NoResultError(
            f"{folder.path}: `a search that ended with a best trial` must hold, but there is no "
            "best_config.yaml."
        )
    if not isinstance(best, dict) or not {"trial", "epoch", "value"} <= best.keys():
        raise RunError(
            f"{folder.summary}: `best has trial, epoch and value` must hold, but got "
            f"{json.dumps(best)[:80]}."
        )
    return summary


if __name__ == "__main__":
    leave(exit_code_of(main))
