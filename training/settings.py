"""The flat settings of an experiment: their names, types and defaults, all derived from the
constructors.
"""

from __future__ import annotations

import inspect
from argparse import ArgumentError
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import jsonargparse
import pytorch_lightning as pl

from text_recognizer.errors import InputError, Problem, check
from text_recognizer.lit_models.base import BaseLitModel
from text_recognizer.metrics import Metric
from text_recognizer.registry import claim, hyperparameters
from text_recognizer.tables import DATASETS, MODELS
from text_recognizer.text import did_you_mean, shown

Settings = dict[str, Any]
TRAINER_SKIPS = {"callbacks", "logger", "plugins"}  # objects, not values
# The Trainer takes objects for these, too. To the parser they are words: of an object it would
# import the class from wherever a file says, and a file from elsewhere would choose what runs.
WORDS_ALONE = ("accelerator", "strategy", "profiler")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What is neither the model's, nor the data's, nor the Trainer's.

    Args:
        model_class: the network.
        data_class: the data set.
        seed: training seed: initialisation, and each epoch's order, dropout and augmentation.
        gpus: 0 trains on the CPU, 1 on a GPU (on the CPU where there is none); None takes a GPU if
            there is one.
        threads: CPU threads of torch; None leaves its own choice.
        monitor: decides about early stopping and the best checkpoint.
        patience: epochs without a better monitor before training stops; 0 means never.
    """

    model_class: str = "MLP"
    data_class: str = "MNIST"
    seed: int = 0
    gpus: int | None = None
    threads: int | None = None
    monitor: Metric = "val_loss"
    patience: int = 10

    def __post_init__(self) -> None:
        check("seed", "0 <= seed < 2**32", self.seed, 0 <= self.seed < 2**32)
        check(
            "gpus",
            "gpus is 0 or 1: one experiment uses one device",
            self.gpus,
            self.gpus in (None, 0, 1),
        )
        check("threads", "threads >= 1", self.threads, self.threads is None or self.threads >= 1)
        check("patience", "patience >= 0", self.patience, self.patience >= 0)


RUN_DEFAULTS: Settings = {field.name: field.default for field in fields(RunSettings)}
TRAINER_NAMES = frozenset(hyperparameters(pl.Trainer)) - TRAINER_SKIPS
claim("experiment", RUN_DEFAULTS, "RunSettings")
claim("trainer", TRAINER_NAMES, "pl.Trainer")


@cache
def settings_parser(model_class: str, data_class: str) -> jsonargparse.ArgumentParser:
    """A parser whose typed flags are the arguments of the constructors in play.

    Raises:
        InputError: there is no such model or data set.
    """
    parser = jsonargparse.ArgumentParser(
        prog="run_experiment.py", exit_on_error=False, description="Train one model, as in lab 1."
    )
    add_settings(parser, model_class, data_class)
    return parser


def add_settings(parser: jsonargparse.ArgumentParser, model_class: str, data_class: str) -> None:
    """Add every setting of an experiment with these classes to `parser`. Raises `InputError` for
    unknown classes.
    """
    parser.add_class_arguments(RunSettings)
    for cls in (MODELS[model_class], DATASETS[data_class], BaseLitModel):
        # What an experiment itself passes (dimensions, seed, …) comes first in a signature and is
        # no hyperparameter.
        parser.add_class_arguments(
            cls, skip=set(inspect.signature(cls).parameters) - set(hyperparameters(cls))
        )
    parser.add_class_arguments(pl.Trainer, skip={*TRAINER_SKIPS, *WORDS_ALONE})
    for name in WORDS_ALONE:
        parser.add_argument(
            f"--{name}",
            type=str | None,
            default=hyperparameters(pl.Trainer)[name],
            help="a name of Lightning's",
        )


def known_settings(model_class: str, data_class: str) -> dict[str, str]:
    """Name -> type of every setting of an experiment with these classes. Raises `InputError`
    where one is unknown.
    """
    known = type_names(RunSettings, RUN_DEFAULTS)
    for cls in (MODELS[model_class], DATASETS[data_class], BaseLitModel):
        known |= type_names(cls, hyperparameters(cls))
    return known | type_names(pl.Trainer, TRAINER_NAMES) | dict.fromkeys(WORDS_ALONE, "str | None")


def type_names(cls: type, names: Iterable[str]) -> dict[str, str]:
    """The types of arguments of a constructor, inherited ones included, as a message can show
    them.
    """
    constructors = [
        vars(base)["__init__"]
        for base in reversed(cls.__mro__)
        if base is not object and "__init__" in vars(base)
    ]
    hints = {
        name: hint
        for constructor in constructors
        for name, hint in get_type_hints(constructor).items()
    }
    return {name: type_name(hints[name]) for name in names}


def type_name(hint: Any) -> str:
    """A type as a message shows it; a union's members in the same order always, whatever
    `typing` has cached.
    """
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        members = sorted(type_name(member) for member in get_args(hint) if member is not NoneType)
        return " | ".join(members + ["None"] * (NoneType in get_args(hint)))
    if isinstance(origin, type):
        return f"{origin.__name__}[{', '.join(map(type_name, get_args(hint)))}]"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def checked(settings: Mapping[str, Any]) -> Settings:
    """The settings with their types checked and converted (an int where a float is meant, say);
    nothing is added.

    Raises:
        InputError: with every unknown name and every value of a wrong type.
    """
    model_class, data_class = (
        settings.get(key, RUN_DEFAULTS[key]) for key in ("model_class", "data_class")
    )
    known = known_settings(model_class, data_class)
    parser = settings_parser(model_class, data_class)
    result: Settings = {}
    problems: list[Problem] = []
    for name, value in settings.items():
        if name not in known:
            rule = f"an argument of {model_class}, {data_class}, BaseLitModel or pl.Trainer"
            problems.append(Problem(name, rule, shown(name), did_you_mean(name, known)))
            continue
        try:
            result[name] = parser.parse_object({name: value}, defaults=False)[name]
        except (ArgumentError, jsonargparse.ArgumentError, OverflowError):
            problems.append(Problem(name, f"{name} is {known[name]}", shown(value)))
    if problems:
        raise InputError(*problems)
    return result


def run_settings(settings: Mapping[str, Any]) -> RunSettings:
    """The part of the settings that is `RunSettings`. Raises `InputError`."""
    return RunSettings(**{name: settings[name] for name in RUN_DEFAULTS if name in settings})
