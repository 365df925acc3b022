"""All that can be refused before anything runs: names, types and corners of a space, built as
the real things; the data.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import joblib
import torch

from text_recognizer.errors import DataError, InputError, Problem
from text_recognizer.text import did_you_mean, shown
from training.experiment import (
    build_data,
    build_lit_model,
    device_flags,
    make_trainer,
    quiet_lightning,
)
from training.settings import RUN_DEFAULTS, TRAINER_NAMES, Settings, checked, known_settings
from tuning.run.resources import Node
from tuning.space.search_space import SearchSpace

FALLBACK_DATA = "Digits"
# what a registry calls its kind, and the setting that names one
KEYS = {"model": "model_class", "data set": "data_class"}


def check_space(space: SearchSpace, data_class: str) -> None:
    """Names, then types, then every corner of the space as a real experiment with this data.

    Raises:
        InputError: with every problem of the first of these steps that finds any.
    """
    for step in (name_problems, type_problems, corner_problems):
        problems = list(dict.fromkeys(step(space, data_class)))
        if problems:
            raise InputError(*problems)


def classes_of(space: SearchSpace, data_class: str) -> tuple[str, str]:
    """Model and data class of the space's trials."""
    return str(space.experiment.get("model_class", RUN_DEFAULTS["model_class"])), data_class


def name_problems(space: SearchSpace, data_class: str) -> Iterator[Problem]:
    """Names that no constructor has."""
    try:
        known = known_settings(*classes_of(space, data_class))
    except InputError as error:
        for problem in error.problems:
            key = KEYS.get(problem.where, "") if isinstance(problem, Problem) else ""
            yield from as_problems(
                InputError(problem), space.where("experiment", *([key] if key else []))
            )
        return
    model_class, _ = classes_of(space, data_class)
    for section, names in (("experiment", space.experiment), ("space", space.parameters)):
        for name in names:
            if name not in known:
                rule = f"an argument of {model_class}, {data_class}, BaseLitModel or pl.Trainer"
                yield Problem(
                    space.where(section, name), rule, shown(name), did_you_mean(name, known)
                )


def type_problems(space: SearchSpace, data_class: str) -> Iterator[Problem]:
    """Values of another type than the constructor's argument."""
    base = dict(zip(("model_class", "data_class"), classes_of(space, data_class), strict=True))
    for name, value in space.experiment.items():
        yield from value_problems(base, name, value, space.where("experiment", name))
    for name, parameter in space.parameters.items():
        for value in parameter.corner_values():
            yield from value_problems(base, name, value, space.where("space", name))


def value_problems(base: Mapping[str, Any], name: str, value: Any, where: str) -> Iterator[Problem]:
    """What `checked` says of one setting, at its place in the file.

    Flags are text and are converted; a trial gets the values of the file as they are, so that text
    is no number here.
    """
    try:
        found = checked({**base, name: value})[name]
    except InputError as error:
        yield from as_problems(error, where)
        return
    kind = known_settings(base["model_class"], base["data_class"])[name]
    if isinstance(value, str) and not isinstance(found, str):
        yield Problem(
            where, f"{name} is {kind}", f"the text {shown(value)}", "Write it without quotes."
        )
    elif value is None and "None" not in kind and "Optional" not in kind:
        yield Problem(where, f"{name} is {kind}", "nothing", "Give a value, or leave it out.")
    elif name in TRAINER_NAMES:
        yield from trainer_problems(name, found, where)


def trainer_problems(name: str, value: Any, where: str) -> Iterator[Problem]:
    """What Lightning's Trainer says of one of its settings; on a CPU, which every machine has."""
    quiet_lightning(silent=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # half precision fits a GPU well
            make_trainer(
                {name: value, "gpus": 0},
                enable_progress_bar=False,
                enable_model_summary=False,
            )
    except InputError as error:
        yield from as_problems(error, where)


def corner_problems(space: SearchSpace, data_class: str) -> Iterator[Problem]:
    """What the constructors refuse at the ends of the space. Built without memory: a width of a
    billion costs nothing here.
    """
    for corner in space.corners():
        try:
            settings = checked({**space.experiment, "data_class": data_class, **corner})
            device_flags(settings)
            build_data(settings)
            with torch.device("meta"):
                build_lit_model(settings)
        except InputError as error:
            for problem in error.problems:
                name = problem.where if isinstance(problem, Problem) else ""
                section = "space" if name in space.parameters else "experiment"
                yield from as_problems(
                    InputError(problem),
                    space.where(section, name) if name else space.where(section),
                )
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            yield Problem(
                space.where("space"),
                "every corner of the space can be built",
                f"{type(error).__name__} at {shown(corner)}",
                str(error),
            )


def machine() -> Node:
    """What this machine offers: the CPUs that this process may use, and the GPUs that torch
    sees.
    """
    return Node(joblib.cpu_count(), torch.cuda.device_count())


def gpu_names() -> list[str]:
    """The names of the GPUs that torch sees."""
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def largest_network(space: SearchSpace, data_class: str) -> int:
    """Weights of the largest network among the corners; the space has been checked."""
    sizes = []
    for corner in space.corners():
        with torch.device("meta"):
            model = build_lit_model(
                checked({**space.experiment, "data_class": data_class, **corner})
            )
        sizes.append(sum(weight.numel() for weight in model.parameters()))
    return max(sizes)


def as_problems(error: InputError, where: str) -> Iterator[Problem]:
    """The problems of an error, said at `where`."""
    for problem in error.problems:
        yield (
            Problem(where, problem.rule, problem.got, problem.hint)
            if isinstance(problem, Problem)
            else Problem(where, "a setting that can be built", problem.rstrip("."))
        )


def choose_data(space: SearchSpace, data_dir: str | None) -> tuple[str, str]:
    """The data set of a search, prepared, and a note where it is not the one users expect.

    Named data is strict; unnamed data is MNIST where it can be had, else the embedded digits.

    Raises:
        DataError: the named data set cannot be had.
        InputError: there is no such data set.
    """
    named = space.experiment.get("data_class")
    wanted = named or RUN_DEFAULTS["data_class"]
    try:
        prepare(wanted, data_dir)
    except DataError as error:
        if named:
            raise
        prepare(FALLBACK_DATA, data_dir)
        return (
            FALLBACK_DATA,
            (
                f"{error.what} Searching on {FALLBACK_DATA} instead, 1,797 real handwritten digits "
                "that need no network."
            ),
        )
    except InputError as error:
        if any(
            isinstance(problem, Problem) and problem.where in KEYS for problem in error.problems
        ):
            raise InputError(*as_problems(error, space.where("experiment", "data_class"))) from None
        raise
    return wanted, ""


def prepare(data_class: str, data_dir: str | None) -> None:
    """Download and verify, in this one process."""
    settings: Settings = {"data_class": data_class}
    build_data(settings | ({"data_dir": data_dir} if data_dir else {})).prepare_data()
