"""The flat settings of an experiment. Names, types and defaults come from the constructors."""

import inspect
from argparse import ArgumentError
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import jsonargparse
import pytorch_lightning as pl

from text_recognizer.errors import InputError, Problem, ensure_range
from text_recognizer.lit_models.base import BaseLitModel
from text_recognizer.metrics import Metric
from text_recognizer.registry import claim, hyperparameters, keyword_arguments
from text_recognizer.tables import DATASETS, MODELS, chosen
from text_recognizer.text import did_you_mean, shown, suggested

Settings = dict[str, Any]
TRAINER_SKIPS = {"callbacks", "logger", "plugins"}  # these are objects, which no flag can hold
# The Trainer takes a name or an object for these. The parser would import the class of an object
# from any module that a file names, so a stranger's file could run code. Only names are allowed.
WORDS_ALONE = ("accelerator", "strategy", "profiler")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The settings that belong neither to the model, nor to the data, nor to the Trainer.

    Args:
        model_class: the network.
        data_class: the data set.
        seed: training seed, in [0, 2**32): initialisation, and each epoch's order, dropout and
            augmentation.
        gpus: 0 trains on the CPU, 1 on a GPU (on the CPU if there is none); None takes a GPU if
            there is one.
        threads: CPU threads of torch, at least 1; None leaves torch's own choice.
        monitor: the metric for early stopping and for the best checkpoint.
        patience: epochs without a better `monitor` before training stops; 0 means never.

    Raises:
        InputError: a value is out of its range.
    """

    model_class: str = "MLP"
    data_class: str = "MNIST"
    seed: int = 0
    gpus: int | None = None
    threads: int | None = None
    monitor: Metric = "val_loss"
    patience: int = 10

    def __post_init__(self) -> None:
        ensure_range(0, 2**32, seed=self.seed)
        ensure_range(0, 2, gpus=self.gpus)
        ensure_range(1, threads=self.threads)
        ensure_range(0, patience=self.patience)


# Claimed here, so that no model and no data set can have an argument of the same name.
RUN_DEFAULTS: Settings = hyperparameters(RunSettings)
TRAINER_NAMES = frozenset(hyperparameters(pl.Trainer)) - TRAINER_SKIPS
claim("experiment", RUN_DEFAULTS, "RunSettings")
claim("trainer", TRAINER_NAMES, "pl.Trainer")


def own_classes(model_class: str, data_class: str) -> tuple[type, ...]:
    """The classes of ours that take the settings of an experiment.

    Raises:
        InputError: there is no such model or data set.
    """
    return (RunSettings, MODELS[model_class], DATASETS[data_class], BaseLitModel)


@cache  # building one takes 60 ms, and a search space is checked value by value
def settings_parser(model_class: str, data_class: str) -> jsonargparse.ArgumentParser:
    """A parser with the settings of an experiment with these classes. Raises `InputError`."""
    parser = jsonargparse.ArgumentParser("run_experiment.py", exit_on_error=False)
    for cls in own_classes(model_class, data_class):
        # The experiment itself passes the other arguments (dimensions, seed and so on).
        passed = inspect.signature(cls).parameters.keys() - hyperparameters(cls)
        parser.add_class_arguments(cls, skip=passed)
    parser.add_class_arguments(pl.Trainer, skip={*TRAINER_SKIPS, *WORDS_ALONE})
    for name in WORDS_ALONE:
        default = hyperparameters(pl.Trainer)[name]
        parser.add_argument(f"--{name}", type=str | None, default=default, help="a name")
    return parser


@cache  # looked up for each value of a search space
def known_settings(model_class: str, data_class: str) -> dict[str, str]:
    """Name -> type of every setting of an experiment with these classes. Raises `InputError`."""
    known = {
        name: type_name(argument.annotation)
        for cls in (*own_classes(model_class, data_class), pl.Trainer)
        for name, argument in keyword_arguments(cls).items()
        if name not in TRAINER_SKIPS
    }
    return known | dict.fromkeys(WORDS_ALONE, "str | None")


def type_name(hint: Any) -> str:
    """A type as a message shows it."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        # Sorted, because `typing` caches unions: it gives `int | float` back for `float | int`.
        members = sorted(type_name(member) for member in get_args(hint) if member is not NoneType)
        return " | ".join(members + ["None"] * (NoneType in get_args(hint)))
    if isinstance(origin, type):
        return f"{origin.__name__}[{', '.join(map(type_name, get_args(hint)))}]"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def chosen_classes(settings: Mapping[str, Any]) -> tuple[str, str]:
    """The names of the model and the data set of an experiment."""
    whole = RUN_DEFAULTS | dict(settings)
    # The settings are not checked yet: which settings there are depends on the two classes.
    return str(whole["model_class"]), str(whole["data_class"])


def with_defaults(settings: Mapping[str, Any]) -> Settings:
    """The settings with the defaults of all classes of ours. Raises `InputError`."""
    whole: Settings = {}
    for cls in own_classes(*chosen_classes(settings)):
        whole |= hyperparameters(cls)
    return whole | dict(settings)


def unknown_setting(
    name: str, classes: tuple[str, str], elsewhere: Mapping[str, str]
) -> Problem | None:
    """The problem of a name that no experiment with these classes has, or None.

    Args:
        elsewhere: names that belong to another place -> a hint for each.
    """
    known = known_settings(*classes)
    if name in known:
        return None
    # A name of ours was meant sooner than one of the Trainer's 40 flags.
    own, flags = (
        names - elsewhere.keys() for names in (known.keys() - TRAINER_NAMES, TRAINER_NAMES)
    )
    meant = suggested(name, [*own, *elsewhere], flags)
    hint = did_you_mean(name, own, flags)
    if meant in elsewhere:
        question = "" if meant == name else f"Did you mean {shown(meant)}? "
        hint = f"{question}{elsewhere[meant]}"
    rule = f"an argument of {', '.join(classes)}, BaseLitModel or pl.Trainer"
    return Problem(name, rule, shown(name), hint)


def checked(settings: Mapping[str, Any], elsewhere: Mapping[str, str] | None = None) -> Settings:
    """Check the types of the settings and convert them (an int to a float, for example).

    Args:
        elsewhere: names that belong to another place -> a hint for each.

    Raises:
        InputError: a name is unknown or a value has a wrong type. It lists all of them.
    """
    classes = chosen_classes(settings)
    known, parser = known_settings(*classes), settings_parser(*classes)
    result: Settings = {}
    problems: list[Problem] = []
    for name, value in settings.items():
        if problem := unknown_setting(name, classes, elsewhere or {}):
            problems.append(problem)
            continue
        try:  # one at a time, because the parser stops at the first problem
            result[name] = parser.parse_object({name: value}, defaults=False)[name]
        except (ArgumentError, OverflowError):  # the latter for `inf` as an int
            problems.append(Problem(name, f"{name} is {known[name]}", shown(value)))
    if problems:
        raise InputError(*problems)
    return result


def run_settings(settings: Mapping[str, Any]) -> RunSettings:
    """The `RunSettings` among the settings. Raises `InputError`."""
    return RunSettings(**chosen(RunSettings, settings))
