"""Checks a search before anything runs: builds the corners of its space, and prepares its data."""

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import joblib
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy

from text_recognizer.data.base_data_module import find_data_dir
from text_recognizer.data.util import BaseDataset
from text_recognizer.devices import try_gpus
from text_recognizer.errors import DataError, InputError, Problem, ensure
from text_recognizer.lit_models.base import BaseLitModel
from text_recognizer.tables import DATASETS, MODELS
from text_recognizer.text import TEXT_RULE, is_text, shown, suggested
from training.experiment import (
    build_data,
    build_lit_model,
    device_flags,
    make_trainer,
    quiet_lightning,
)
from training.settings import (
    TRAINER_NAMES,
    Settings,
    checked,
    chosen_classes,
    known_settings,
    unknown_setting,
)
from tuning.run import Node
from tuning.space import (
    OWNED_BY_SEARCH,
    SAME_FOR_ALL_TRIALS,
    SearchSettings,
    SearchSpace,
    quotes_hint,
)
from tuning.verification.rehearsal import rehearsal_problems

FALLBACK_DATA = "Digits"
SEARCH_KEYS = dict.fromkeys(SearchSettings.model_fields.keys() - {"seed"}, "Set it under search.")


def check_space(space: SearchSpace, data_class: str) -> None:
    """Check each setting, then every corner of the space as a real experiment, then a batch.

    Args:
        data_class: the data set to check with.

    Raises:
        InputError: with all problems of the first step that finds any.
    """
    space = replace(space, experiment=space.experiment | {"data_class": data_class})
    # In this order: a corner needs known settings, and a batch needs a corner.
    for step in (setting_problems, corner_problems, rehearsal_problems):
        # A dict, because many corners have the same problem.
        if problems := dict.fromkeys(step(space)):
            raise InputError(*problems)


def setting_problems(space: SearchSpace) -> Iterator[Problem]:
    """Unknown classes and names, and values of another type than the constructor's argument has."""
    model, data = chosen_classes(space.experiment)
    for name, value in (("model_class", model), ("data_class", data)):
        yield from value_problem({name: value}, name, space.where("experiment", name))
    # The settings of a misspelt class are judged by the class that was meant.
    model, data = suggested(model, MODELS), suggested(data, DATASETS)
    if not (model and data):
        return
    classes = {"model_class": model, "data_class": data}
    fixed = {name: [value] for name, value in space.experiment.items() if name not in classes}
    searched = {name: one.corner_values() for name, one in space.parameters.items()}
    not_searched = OWNED_BY_SEARCH | SAME_FOR_ALL_TRIALS
    for section, settings, owned in (
        ("experiment", fixed, OWNED_BY_SEARCH),
        ("space", searched, not_searched),
    ):
        for name, values in settings.items():
            where = space.where(section, name)
            if problem := unknown_setting(name, (model, data), SEARCH_KEYS | owned):
                yield moved(problem, where)
                continue
            for value in values:
                yield from value_problem(classes | {name: value}, name, where)


def value_problem(settings: Settings, name: str, where: str) -> Iterator[Problem]:
    """Problems of the value of the setting `name`, beside the classes in `settings`."""
    try:
        found = checked(settings)[name]
        if name in TRAINER_NAMES:
            try_trainer(name, found)
    except InputError as error:
        yield from (moved(problem, where) for problem in error.problems)
        return
    value, kind = settings[name], known_settings(*chosen_classes(settings))[name]
    # `checked` converts text to numbers, because flags are text. A trial gets the values of the
    # file as they are, so here a text is no number.
    if isinstance(value, str) and not isinstance(found, str):
        hint = (
            quotes_hint(value) or f"In YAML 1.2 it is text; write {json.dumps(found, default=str)}."
        )
        yield Problem(where, f"{name} is {kind}", f"the text {shown(value)}", hint)
    # The parser takes None for a number.
    elif value is None and "None" not in kind and "Optional" not in kind:
        yield Problem(where, f"{name} is {kind}", "nothing", "Give a value, or leave it out.")


def try_trainer(name: str, value: Any) -> None:
    """Build Lightning's Trainer with one setting. Raises `InputError`."""
    quiet_lightning(silent=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # half precision fits a GPU well
        # On a CPU, which every machine has.
        trainer = make_trainer(
            {name: value, "gpus": 0}, enable_progress_bar=False, enable_model_summary=False
        )
    # The others open ports or start processes.
    is_single = isinstance(trainer.strategy, SingleDeviceStrategy)
    hint = "One trial uses one device; leave it out."
    ensure(name, "a strategy for one device", value, is_single, hint)


def corner_problems(space: SearchSpace) -> Iterator[Problem]:
    """Problems of the constructors at the ends of the space."""
    for corner in space.corners():
        try:
            build_corner(space, corner)
        except InputError as error:
            for problem in error.problems:
                name = problem.where if isinstance(problem, Problem) else ""
                section = "space" if name in space.parameters else "experiment"
                yield moved(problem, space.where(section, *([name] if name else [])))
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            # torch's own errors, such as a network that no machine can address
            rule = "every corner of the space can be built"
            got = f"{type(error).__name__} at {shown(corner)}"
            yield Problem(space.where("space"), rule, got, str(error))


def build_corner(space: SearchSpace, corner: Settings) -> BaseLitModel:
    """Build the data module and the network of a trial at a corner. Raises `InputError`."""
    settings = checked(space.experiment | corner)
    device_flags(settings)
    build_data(settings)
    with torch.device("meta"):  # it has no storage: a width of a billion costs no memory
        return build_lit_model(settings)


def machine() -> Node:
    """This machine's CPUs, and the GPUs that work."""
    gpus = try_gpus()
    # `os.cpu_count` ignores affinity and the limits of a container.
    return Node(joblib.cpu_count(), len(gpus.names), problem=gpus.problem)


def gpu_names() -> list[str]:
    """The names of the GPUs that work."""
    return list(try_gpus().names)


def largest_network(space: SearchSpace) -> int:
    """Weights of the largest network among the corners of a checked space."""
    networks = (build_corner(space, corner) for corner in space.corners())
    return max(sum(weight.numel() for weight in network.parameters()) for network in networks)


def moved(problem: Problem | str, where: str) -> Problem:
    """A constructor's problem, at its place in the file."""
    if isinstance(problem, Problem):
        return replace(problem, where=where)
    return Problem(where, "a setting that can be built", problem.rstrip("."))


def usual_data(space: SearchSpace) -> str:
    """The data set that the space names, else the usual one."""
    return chosen_classes(space.experiment)[1]


def possible_data(space: SearchSpace, data_dir: str | None) -> tuple[str, ...]:
    """The data sets that a search may use: the usual one, and what replaces it, if anything may."""
    # Who names a data set or a folder of them wants no other data. The environment's folder is
    # only where to look first.
    named = data_dir is not None or any(
        space.experiment.get(name) is not None for name in ("data_class", "data_dir")
    )
    return (usual_data(space),) if named else (usual_data(space), FALLBACK_DATA)


def prepare_data(
    space: SearchSpace, data_dir: str | None, note: Callable[[str], None]
) -> tuple[SearchSpace, BaseDataset]:
    """Download and verify the data of a checked space.

    A data set that the space names must be had, and so must MNIST in a folder that is named. If
    neither is named, MNIST is taken, or else the embedded digits.

    Args:
        data_dir: the folder of data sets; None is the space's own, else the usual one.
        note: is told if the data set is not the usual one.

    Returns:
        The space with its data set named, and the training and validation examples.

    Raises:
        DataError: the data set cannot be had, and none may replace it.
        InputError: a corner does not fit the data set, or the path of `data_dir` is no text.
    """
    experiment = space.experiment | {"data_class": usual_data(space)}
    folder = experiment.get("data_dir") if data_dir is None else data_dir
    if folder is not None:
        # absolute, because workers and resumes may run in another folder
        experiment["data_dir"] = folder = str(find_data_dir(folder))
        # Linux allows any bytes in a path, but the run's own copy of the space is UTF-8.
        ensure("--data-dir", TEXT_RULE, folder, is_text(folder))
    data = build_data(experiment)
    try:
        data.prepare_data()  # here in one process, not in each worker
    except DataError as error:
        if len(possible_data(space, data_dir)) == 1:
            raise
        note(
            f"{error.what} Searching on {FALLBACK_DATA} instead, 1,797 real handwritten digits "
            "that need no network."
        )
        # The digits are fewer: a batch size that fits MNIST may be too large for them.
        check_space(space, FALLBACK_DATA)
        space = replace(space, experiment=space.experiment | {"data_class": FALLBACK_DATA})
        return prepare_data(space, data_dir, note)
    return replace(space, experiment=experiment), data.trainval
