"""Search hyperparameters: `python tuning/search.py --space search_spaces/mlp.yaml
--gpus-per-trial 0.5`.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text_recognizer.command import exit_code_of, leave
from text_recognizer.errors import InputError, Problem
from text_recognizer.metrics import METRICS
from text_recognizer.text import shown
from tuning.cli import Parser, folder_path
from tuning.run.folder import name_problem, open_run
from tuning.run.options import Options
from tuning.run.resources import request_problems
from tuning.space.durations import seconds_of

if TYPE_CHECKING:
    from tuning.space.search_space import SearchSpace

# flag -> where the same thing is said in the file
OVERRIDES: dict[str, tuple[str, ...]] = {
    "trials": ("search", "trials"),
    "max_epochs": ("search", "max_epochs"),
    "seed": ("search", "seed"),
    "metric": ("search", "metric"),
    "mode": ("search", "mode"),
    "time_budget": ("search", "stop", "time"),
    "data_class": ("experiment", "data_class"),
}
ADDRESS = re.compile(r"auto|([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}")
# the folder of what `ray job submit` carries, which Ray deletes when it likes
RAYS_COPY = "working_dir_files"
RESUMABLE = {
    *("resume", "trials", "max_concurrent", "gpus_per_trial", "cpus_per_trial"),
    *("storage", "address", "time_budget", "require_gpu", "no_dashboard", "keep_alive", "quiet"),
}


def parser() -> Parser:
    """The flags; `-` and `_` in them are the same."""
    result = Parser("search.py", __doc__)
    what = result.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--space", type=Path, metavar="FILE", help="what to search, e.g. search_spaces/mlp.yaml"
    )
    what.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with a run, or with --trials extend it"
    )
    result.add_argument(
        "--gpus-per-trial",
        type=float,
        metavar="F",
        help="share of a GPU for each trial, from 0 to 1 (default: a whole one, if there is any)",
    )
    result.add_argument(
        "--cpus-per-trial",
        type=int,
        metavar="N",
        help="CPU cores and threads for each trial (default 1)",
    )
    result.add_argument(
        "--max-concurrent",
        type=int,
        metavar="N",
        help="at most so many trials at once (default: as many as fit)",
    )
    result.add_argument("--require-gpu", action="store_true", help="refuse to search on the CPUs")
    result.add_argument("--trials", type=int, metavar="N", help="overrides the file")
    result.add_argument("--max-epochs", type=int, metavar="N", help="overrides the file")
    result.add_argument("--seed", type=int, metavar="N", help="overrides the file (default 0)")
    result.add_argument(
        "--metric", metavar="NAME", help=f"overrides the file: {', '.join(METRICS)}"
    )
    result.add_argument(
        "--mode", metavar="max|min", help="overrides the file; follows from the metric"
    )
    result.add_argument(
        "--data-class",
        metavar="NAME",
        help=(
            "overrides the file; MNIST, FashionMNIST or Digits (default: MNIST if it can be "
            "had, else Digits)"
        ),
    )
    result.add_argument(
        "--data-dir",
        metavar="DIR",
        help="where data sets are (default: $TEXT_RECOGNIZER_DATA_DIR, else data/)",
    )
    result.add_argument(
        "--name", metavar="NAME", help="name of the run (default: the space's name and the time)"
    )
    result.add_argument(
        "--runs-dir", type=folder_path, metavar="DIR", help="where runs are kept (default runs)"
    )
    result.add_argument(
        "--retries",
        type=int,
        metavar="N",
        help="how often a failed trial is tried again (default 1)",
    )
    result.add_argument(
        "--keep",
        type=int,
        metavar="N",
        help="checkpoints of so many best trials stay (default 3)",
    )
    result.add_argument(
        "--time-budget",
        metavar="T",
        help="stop after e.g. 90s, 30m, 2h; overrides search.stop.time",
    )
    result.add_argument(
        "--stall-limit",
        metavar="T",
        help="end a trial that reports nothing for so long (default 10m)",
    )
    result.add_argument(
        "--storage",
        metavar="URL",
        help="keep the study in PostgreSQL: postgresql://USER@HOST/DATABASE",
    )
    result.add_argument(
        "--checkpoint-dir",
        type=folder_path,
        metavar="DIR",
        help="where trials write, on all nodes of a cluster (default: the run's folder)",
    )
    result.add_argument(
        "--address",
        metavar="ADDR",
        help="join a Ray cluster: auto or HOST:PORT",
    )
    result.add_argument(
        "--warm-start",
        type=Path,
        metavar="RUN",
        help="let the sampler learn from an older run's results",
    )
    result.add_argument(
        "--check", action="store_true", help="check the file, print the plan, start nothing"
    )
    result.add_argument("--no-dashboard", action="store_true", help="do not start Ray's dashboard")
    result.add_argument(
        "--keep-alive",
        action="store_true",
        help="leave Ray and its dashboard up after the search, until Enter or Ctrl-C",
    )
    result.add_argument("--quiet", action="store_true", help="say only notes and the result")
    return result


def main(argv: list[str] | None = None) -> int:
    """Check what can be checked at once, then search."""
    flags = parser().parse(argv)
    problems = flag_problems(flags)
    if flags.resume:
        return resume(flags, problems)
    space = checked_space(flags, problems)
    if flags.warm_start:
        open_run(flags.warm_start)

    options = Options(**options_of(flags))
    if flags.check:
        # torch takes seconds to import, and so does Ray below; bad input is refused before
        from tuning.tuner.check import check

        return check(space, flags.space.stem, options, flags.warm_start)

    from tuning.tuner import start

    where = {
        "name": flags.name,
        "data_dir": flags.data_dir,
        "warm_start": flags.warm_start,
        "storage": flags.storage,
    }
    return start.search(space, flags.space.stem, flags.runs_dir or Path("runs"), options, **where)


def checked_space(flags: argparse.Namespace, problems: list[Problem | str]) -> SearchSpace:
    """The space, with what the flags override. Raises `InputError` with all that is wrong with
    file and flags.
    """
    from tuning.space.reader import read_space  # not for --help: pydantic takes a while

    try:
        space = read_space(flags.space, overrides(flags))
    except InputError as error:
        raise InputError(*problems, *error.problems) from None
    if problems:
        raise InputError(*problems)
    return space


def resume(flags: argparse.Namespace, problems: list[Problem | str]) -> int:
    """Go on with a run; most flags were settled when it began. Raises `InputError` for those,
    and with the other problems.
    """
    given = {
        name for name, value in vars(flags).items() if value is not None and value is not False
    }
    problems += [
        Problem(
            f"--{name.replace('_', '-')}",
            "a flag that may change on a resume",
            "it beside --resume",
            "Leave it out.",
        )
        for name in sorted(given - RESUMABLE)
    ]
    if problems:
        raise InputError(*problems)
    open_run(flags.resume)

    from tuning.tuner import start

    changes = options_of(flags) | ({"time_budget": flags.time_budget} if flags.time_budget else {})
    return start.resume(flags.resume, trials=flags.trials, storage=flags.storage, **changes)


def options_of(flags: argparse.Namespace) -> dict[str, Any]:
    """The flags that are options of a run, those that were given."""
    names = (
        "gpus_per_trial",
        "cpus_per_trial",
        "max_concurrent",
        "retries",
        "keep",
        "stall_limit",
        "quiet",
    )
    found = {name: getattr(flags, name) for name in names}
    found |= {
        "require_gpu": flags.require_gpu or None,
        "dashboard": False if flags.no_dashboard else None,
    }
    found["checkpoint_dir"] = str(flags.checkpoint_dir.resolve()) if flags.checkpoint_dir else None
    given = {name: value for name, value in found.items() if value is not None}
    # of this process alone
    return given | {"keep_alive": flags.keep_alive, "address": flags.address}


def flag_problems(flags: argparse.Namespace) -> list[Problem | str]:
    """Values that no machine and no search could use. Those that override the file are judged
    with it.
    """
    problems: list[Problem | str] = [
        *request_problems(flags.gpus_per_trial, flags.cpus_per_trial, flags.max_concurrent)
    ]
    if flags.name is not None and (problem := name_problem(flags.name)):
        problems.append(problem)
    problems += cluster_problems(flags)
    for flag, least in (("retries", 0), ("keep", 1), *([("trials", 1)] if flags.resume else [])):
        value = getattr(flags, flag)
        if value is not None and value < least:
            problems.append(Problem(f"--{flag}", f"{flag} >= {least}", str(value)))
    for flag in ("stall_limit", *(["time_budget"] if flags.resume else [])):
        value = getattr(flags, flag)
        try:
            seconds_of(value if value is not None else "1s")
        except ValueError as error:
            problems.append(Problem(f"--{flag.replace('_', '-')}", str(error), shown(value)))
    return problems


def cluster_problems(flags: argparse.Namespace) -> list[Problem | str]:
    """What is wrong with where the search is to run and to write."""
    problems: list[Problem | str] = []
    if flags.address is not None and not ADDRESS.fullmatch(flags.address):
        hint = ""
        if flags.address.startswith("ray://"):
            hint = "From outside of the cluster use `ray job submit` (docs/cluster.md)."
        problems.append(Problem("--address", "auto or HOST:PORT", shown(flags.address), hint))
    for flag in ("check", "keep_alive", "no_dashboard"):
        if flags.address is not None and getattr(flags, flag):
            rule = "a flag that goes with a Ray of our own"
            problems.append(
                Problem(
                    f"--{flag.replace('_', '-')}",
                    rule,
                    "it beside --address",
                    "Leave one of them out.",
                )
            )
    if flags.storage is not None:
        from tuning.study.storage import StorageUrl  # pydantic takes a while

        try:
            StorageUrl.parse(flags.storage)
        except InputError as error:
            problems += error.problems
    for flag, folder in (
        ("--runs-dir", flags.runs_dir or Path("runs")),
        ("--checkpoint-dir", flags.checkpoint_dir),
    ):
        if not flags.resume and folder and RAYS_COPY in folder.resolve().parts:
            hint = f"Name one on a disk that stays: {flag} /…/{folder.name}"
            problems.append(
                Problem(
                    flag,
                    "a folder that outlives the job",
                    f"{folder}, in Ray's copy of the project",
                    hint,
                )
            )
    return problems


def overrides(flags: argparse.Namespace) -> dict[tuple[str, ...], tuple[str, Any]]:
    """What the command line puts in place of the file's values."""
    return {
        place: ("--" + flag.replace("_", "-"), value)
        for flag, place in OVERRIDES.items()
        if (value := getattr(flags, flag)) is not None
    }


if __name__ == "__main__":
    leave(exit_code_of(main))
