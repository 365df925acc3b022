"""Checks a search before anything runs: names, types and corners of its space, built as the real
things, and its data.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import torch

from text_recognizer.data.util import BaseDataset
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
SETTING_OF = {"model": "model_class", "data set": "data_class"}  # by a registry's kind


def check_space(space: SearchSpace, data_class: str) -> None:
    """Check names, then types, then every corner of the space as a real experiment with this data.

    Raises:
        InputError: with all problems of the first step that finds any.
    """
    for step in (name_problems, type_problems, corner_problems):
        problems = list(dict.fromkeys(step(space, data_class)))
        if problems:
            raise InputError(*problems)


def model_of(space: SearchSpace) -> str:
    """The model that all trials of the space have."""
    return str(space.experiment.get("model_class", RUN_DEFAULTS["model_class"]))


def name_problems(space: SearchSpace, data_class: str) -> Iterator[Problem]:
    """Names that no constructor has."""
    model_class = model_of(space)
    try:
        known = known_settings(model_class, data_class)
    except InputError as error:
        for problem in error.problems:
            key = SETTING_OF.get(problem.where) if isinstance(problem, Problem) else None
            yield moved(problem, space.where("experiment", *([key] if key else [])))
        return
    rule = f"an argument of {model_class}, {data_class}, BaseLitModel or pl.Trainer"
    for section, names in (("experiment", space.experiment), ("space", space.parameters)):
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known)
                yield Problem(space.where(section, name), rule, shown(name), hint)


def type_problems(space: SearchSpace, data_class: str) -> Iterator[Problem]:
    """Values of another type than the constructor's argument has."""
    base = {"model_class": model_of(space), "data_class": data_class}
    for name, value in space.experiment.items():
        yield from value_problems(base, name, value, space.where("experiment", name))
    for name, parameter in space.parameters.items():
        for value in parameter.corner_values():
            yield from value_problems(base, name, value, space.where("space", name))


def value_problems(base: Mapping[str, Any], name: str, value: Any, where: str) -> Iterator[Problem]:
    """Problems of one setting.

    `checked` converts text to numbers, because flags are text. A trial gets the values of the file
    as they are: here a text is not a number.
    """
    try:
        found = checked({**base, name: value})[name]
    except InputError as error:
        yield from (moved(problem, where) for problem in error.problems)
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
    """Problems that Lightning's Trainer has with one setting, on a CPU: every machine has one."""
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
        yield from (moved(problem, where) for problem in error.problems)


def corner_problems(space: SearchSpace, data_class: str) -> Iterator[Problem]:
    """Problems of the constructors at the ends of the space.

    Networks are built on torch's meta device: a width of a billion costs no memory.
    """
    for corner in space.corners():
        try:
            settings = corner_settings(space, data_class, corner)
            device_flags(settings)
            build_data(settings)
            with torch.device("meta"):
                build_lit_model(settings)
        except InputError as error:
            for problem in error.problems:
                name = problem.where if isinstance(problem, Problem) else ""
                section = "space" if name in space.parameters else "experiment"
                yield moved(problem, space.where(section, *([name] if name else [])))
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            rule = "every corner of the space can be built"
            got = f"{type(error).__name__} at {shown(corner)}"
            yield Problem(space.where("space"), rule, got, str(error))


def corner_settings(space: SearchSpace, data_class: str, corner: Mapping[str, Any]) -> Settings:
    """The settings of a trial at a corner of the space. Raises `InputError`."""
    return checked({**space.experiment, "data_class": data_class, **corner})


def machine() -> Node:
    """What this machine offers: the CPUs that this process may use, and the GPUs that torch
    sees.
    """
    return Node(joblib.cpu_count(), torch.cuda.device_count())


def gpu_names() -> list[str]:
    """The names of the GPUs that torch sees."""
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def largest_network(space: SearchSpace, data_class: str) -> int:
    """Weights of the largest network among the corners of a checked space."""
    sizes = []
    for corner in space.corners():
        with torch.device("meta"):
            model = build_lit_model(corner_settings(space, data_class, corner))
        sizes.append(sum(weight.numel() for weight in model.parameters()))
    return max(sizes)


def moved(problem: Problem | str, where: str) -> Problem:
    """A constructor's problem, at its place in the file."""
    if isinstance(problem, Problem):
        return replace(problem, where=where)
    return Problem(where, "a setting that can be built", problem.rstrip("."))


def usual_data(space: SearchSpace) -> str:
    """The data set that the space names, else the usual one."""
    return str(space.experiment.get("data_class", RUN_DEFAULTS["data_class"]))


def prepare_data(
    space: SearchSpace, data_dir: str | None, note: Callable[[str], None]
) -> tuple[SearchSpace, BaseDataset]:
    """Download and verify the data of a checked space.

    A named data set is strict. Without a name it is MNIST if it can be had, else the embedded
    digits.

    Args:
        data_dir: the folder of data sets; None is the space's own, else the usual one.
        note: is told if the data set is not the usual one.

    Returns:
        The space with its data set named, and the training and validation examples.

    Raises:
        DataError: the named data set cannot be had.
        InputError: a corner of the space does not fit the data set.
    """
    data_dir = data_dir or space.experiment.get("data_dir")
    data_class = usual_data(space)
    try:
        prepare(data_class, data_dir)
    except DataError as error:
        if "data_class" in space.experiment:
            raise
        data_class = FALLBACK_DATA
        prepare(data_class, data_dir)
        note(
            f"{error.what} Searching on {data_class} instead, 1,797 real handwritten digits that "
            "need no network."
        )
        check_space(space, data_class)
    found = {"data_class": data_class}
    if data_dir:
        found["data_dir"] = str(Path(data_dir).resolve())
    space = replace(space, experiment=space.experiment | found)
    return space, build_data(space.experiment).trainval


def prepare(data_class: str, data_dir: str | None) -> None:
    """Download and verify a data set, in this one process. Raises `DataError`."""
    settings: Settings = {"data_class": data_class}
    build_data(settings | ({"data_dir": data_dir} if data_dir else {})).prepare_data()
