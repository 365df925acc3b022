"""Searches hyperparameters: `python tuning/search.py --space FILE --gpus-per-trial 0.5`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # the code beside this script runs, wherever the environment points
    sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from text_recognizer.command import exit_code_of, leave
from text_recognizer.errors import InputError, Problem
from text_recognizer.metrics import METRICS
from text_recognizer.text import shown
from tuning.cli import Parser, folder_path

if TYPE_CHECKING:
    from tuning.run import NewRun, Options
    from tuning.space import SearchSpace

# flag -> the place of the same setting in the file
OVERRIDES: dict[str, tuple[str, ...]] = {
    **{name: ("search", name) for name in ("trials", "max_epochs", "seed", "metric", "mode")},
    "epochs": ("search", "stop", "epochs"),
    "time_budget": ("search", "stop", "time"),
    "data_class": ("experiment", "data_class"),
}
ADDRESS = re.compile(r"auto|([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}")
RAYS_COPY = "working_dir_files"  # `ray job submit` copies the project here, and deletes it later
RESUMABLE = {
    *("resume", "epochs", "trials", "max_concurrent", "gpus_per_trial", "cpus_per_trial"),
    *("storage", "address", "time_budget", "require_gpu", "no_dashboard", "keep_alive", "quiet"),
    *("data_dir", "checkpoint_dir"),  # they may have been moved
}
VALUES: list[tuple[str, Any, str, str]] = [  # flag, type, placeholder, help
    ("gpus-per-trial", float, "F", "share of a GPU per trial, 0 to 1 (default: one if any)"),
    ("cpus-per-trial", int, "N", "CPU cores and threads per trial (default 1)"),
    ("max-concurrent", int, "N", "at most so many trials at once (default: as many as fit)"),
    ("epochs", int, "N", "epochs of all trials together; overrides search.stop.epochs"),
    ("trials", int, "N", "at most so many trials; overrides the file"),
    ("max-epochs", int, "N", "overrides the file"),
    ("seed", int, "N", "overrides the file (default 0)"),
    ("metric", str, "NAME", f"overrides the file: {', '.join(METRICS)}"),
    ("mode", str, "max|min", "overrides the file; follows from the metric"),
    ("data-class", str, "NAME", "MNIST, FashionMNIST or Digits (default: MNIST, else Digits)"),
    ("data-dir", str, "DIR", "data sets (default: $TEXT_RECOGNIZER_DATA_DIR, else data/)"),
    ("name", str, "NAME", "name of the run (default: the space's name and the time)"),
    ("runs-dir", folder_path, "DIR", "where runs are kept (default runs)"),
    ("retries", int, "N", "how often a failed trial is tried again (default 1)"),
    ("keep", int, "N", "how many best trials keep their checkpoint (default 3)"),
    ("time-budget", str, "T", "stop after e.g. 90s, 30m, 2h; overrides search.stop.time"),
    ("stall-limit", str, "T", "end a trial that reports nothing for so long (default 10m)"),
    ("storage", str, "URL", "keep the study in PostgreSQL: postgresql://USER@HOST/DATABASE"),
    ("checkpoint-dir", folder_path, "DIR", "the trials' folder, one path on all cluster nodes"),
    ("address", str, "ADDR", "join a Ray cluster: auto or HOST:PORT"),
    ("warm-start", Path, "RUN", "let the sampler learn from an older run's results"),
]
SWITCHES = {
    "require-gpu": "refuse to search on the CPUs",
    "check": "check the file, print the plan, start nothing",
    "no-dashboard": "do not start Ray's dashboard",
    "keep-alive": "leave Ray and its dashboard up after the search, until Enter or Ctrl-C",
    "quiet": "print only notes and the result",
}


def parser() -> Parser:
    """The flags of a search."""
    result = Parser("search.py", __doc__)
    what = result.add_mutually_exclusive_group(required=True)
    what.add_argument("--space", type=Path, metavar="FILE", help="e.g. search_spaces/mlp.yaml")
    what.add_argument("--resume", type=Path, metavar="RUN", help="continue or extend a run")
    for flag, kind, placeholder, text in VALUES:
        result.add_argument(f"--{flag}", type=kind, metavar=placeholder, help=text)
    for flag, text in SWITCHES.items():
        # None, not False: a resume tells a switch that is off from one that is not given.
        result.add_argument(f"--{flag}", action="store_true", default=None, help=text)
    return result


def main(argv: list[str] | None = None) -> int:
    """Refuse what can be refused without torch and Ray, then search."""
    flags = parser().parse(argv)
    if flags.resume:
        return resume_run(flags)
    # Here and below, not at the top: these packages import pydantic, and --help takes 0.2 s
    # without it, 0.4 s with it.
    from tuning.run import NewRun, Options, open_run, plain_name

    space = read_checked_space(flags)
    if flags.warm_start:
        open_run(flags.warm_start)
    # A new search has its time budget in the space.
    options = Options(**given_options(flags) | {"time_budget": None})
    new = NewRun(plain_name(flags.space.stem), **given_for(NewRun, flags))
    # torch and Ray take seconds to import: a bad file is refused in 0.4 s without them, and --check
    # does without Ray.
    if flags.check:
        from tuning.tuner import check

        return check(space, options, new)
    from tuning.tuner.start import start

    return start(space, options, new)


def read_checked_space(flags: argparse.Namespace) -> SearchSpace:
    """The space with the flags' overrides. Raises `InputError` with all problems of both."""
    from tuning.space import is_all_known, parse_space

    problems = list(flag_problems(flags))
    overrides = {
        OVERRIDES[name]: (with_dashes(name), value)
        for name, value in given_flags(flags).items()
        if name in OVERRIDES
    }
    try:
        space, found = parse_space(flags.space, overrides)
    except InputError as error:
        raise InputError(*problems, *error.problems) from None
    problems += found
    if problems and not is_all_known(space):
        # Wrong names and types are said in the same round. It takes the classes to know them.
        from tuning.verification import preflight

        problems += preflight.setting_problems(space)
    if problems:
        # Limits are checked twice: as flags, and as values of the file.
        raise InputError(*dict.fromkeys(problems))
    return space


def resume_run(flags: argparse.Namespace) -> int:
    """Continue a run. Raises `InputError` for flags that only a new run can have."""
    from tuning.run import open_run

    problems = list(flag_problems(flags))
    hint = "It cannot change on a resume: leave it out."
    for name in sorted(given_flags(flags).keys() - RESUMABLE):
        problems.append(Problem(with_dashes(name), "no --resume beside it", "--resume", hint))
    if problems:
        raise InputError(*problems)
    open_run(flags.resume)

    from tuning.tuner.resume import resume  # torch and Ray take seconds to import

    given = {name: getattr(flags, name) for name in ("epochs", "trials", "storage", "data_dir")}
    return resume(flags.resume, **given, **given_options(flags))


def given_flags(flags: argparse.Namespace) -> dict[str, Any]:
    """The flags that the user gave, with their values."""
    return {name: value for name, value in vars(flags).items() if value is not None}


def given_for(cls: type[Options | NewRun], flags: argparse.Namespace) -> dict[str, Any]:
    """The flags that the user gave and that have the name of a field of `cls`."""
    names = {field.name for field in fields(cls)}
    return {name: value for name, value in given_flags(flags).items() if name in names}


def given_options(flags: argparse.Namespace) -> dict[str, Any]:
    """The options of a run that the flags give."""
    from tuning.run import Options

    found = given_for(Options, flags)
    if flags.checkpoint_dir:
        found["checkpoint_dir"] = str(flags.checkpoint_dir.resolve())
    if flags.no_dashboard:
        found["dashboard"] = False
    # Always set: a resume that does not give these two must not take over the recorded ones.
    return found | {"keep_alive": bool(flags.keep_alive), "address": flags.address}


def flag_problems(flags: argparse.Namespace) -> Iterator[Problem | str]:
    """Values of flags that no search can use."""
    from tuning.run import name_problem, request_problems
    from tuning.space import seconds_of

    yield from request_problems(flags.gpus_per_trial, flags.cpus_per_trial, flags.max_concurrent)
    if flags.name is not None and (problem := name_problem(flags.name)):
        yield problem
    yield from cluster_problems(flags)
    values = given_flags(flags)
    for name, least in (("retries", 0), ("keep", 1), ("trials", 1), ("epochs", 1)):
        if values.get(name, least) < least:
            yield Problem(f"--{name}", f"{name} >= {least}", str(values[name]))
    for name in sorted(values.keys() & {"stall_limit", "time_budget"}):
        try:
            seconds_of(values[name])
        except ValueError as error:
            yield Problem(with_dashes(name), str(error), shown(values[name]))


def cluster_problems(flags: argparse.Namespace) -> Iterator[Problem | str]:
    """Values of flags that name a cluster, a database or a folder that the search cannot use."""
    if flags.address is not None:
        if not ADDRESS.fullmatch(flags.address):
            hint = "From outside of the cluster use `ray job submit` (docs/cluster.md)."
            yield Problem("--address", "auto or HOST:PORT", shown(flags.address), hint)
        rule, got = "a flag for a Ray that the search starts", "it beside --address"
        for name in sorted(given_flags(flags).keys() & {"check", "keep_alive", "no_dashboard"}):
            yield Problem(with_dashes(name), rule, got, "Leave one of them out.")
    if flags.storage is not None:
        from tuning.run import StorageUrl

        try:
            StorageUrl.parse(flags.storage)
        except InputError as error:
            yield from error.problems
    # A resume has its folder already. The usual runs folder lies in the current one, which is
    # Ray's copy for a job of `ray job submit`: the run would be deleted with it.
    runs_dir = flags.runs_dir or Path("runs")
    for name, folder in (("--runs-dir", runs_dir), ("--checkpoint-dir", flags.checkpoint_dir)):
        if not flags.resume and folder and RAYS_COPY in Path(os.path.realpath(folder)).parts:
            hint = f"Name one on a disk that stays: {name} /…/{folder.name}"
            rule, got = "a folder that outlives the job", f"{folder}, in Ray's copy of the project"
            yield Problem(name, rule, got, hint)


def with_dashes(name: str) -> str:
    """A flag as the user types it."""
    return "--" + name.replace("_", "-")


if __name__ == "__main__":
    leave(exit_code_of(main, output_is_result="--check" in sys.argv))
