"""Which configs of a finished search are trained again, for how long, with which seeds; and
which of them did best. No Ray.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import yaml

from text_recognizer.errors import RunError
from text_recognizer.lit_models.base import BaseLitModel
from text_recognizer.metrics import Objective
from text_recognizer.registry import hyperparameters
from text_recognizer.tables import DATASETS, MODELS
from text_recognizer.util import checksum
from training.settings import RUN_DEFAULTS, Settings, checked
from tuning.cli import shown_path
from tuning.run.folder import RunFolder
from tuning.run.reading import read_whole
from tuning.trials.trial import Best

LAB_1 = "lab 1's defaults"
LAB_1_MODEL = "MLP"
# They change nothing of what a training with a given seed and number of epochs comes to: without a
# one-cycle schedule, which lab 1 has not, not even max_epochs.
NOT_THE_RECIPE = ("max_epochs", "seed", "monitor", "patience", "threads", "gpus")


@dataclass(frozen=True)
class Config:
    """What is trained: flat settings, and after how many epochs training ends."""

    label: str
    settings: Settings
    epochs: int
    trial: int | None = None  # None: not of the search
    searched: float = math.nan  # its value in the search


def read_best_config(folder: RunFolder, summary: Mapping[str, Any]) -> Settings:
    """The winner's settings, as the search wrote them.

    Raises:
        RunError: the file was changed, or is damaged.
        InputError: it has settings that are none; only where the search left no checksum.
    """
    path = folder.best_config
    written = (summary.get("sha256") or {}).get(path.name)
    if written is not None and (found := checksum(path)) != written:
        raise RunError(
            f"{path}: `sha256 == {written}`, as the search wrote it, must hold, but got "
            f"{found}: it was changed since. "
            "A changed config is trained by python training/run_experiment.py --config "
            f"{shown_path(path)}"
        )
    try:
        content = yaml.safe_load(read_whole(path))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunError(f"{path}: `a file this project wrote` must hold, but got: {error}") from None
    if not isinstance(content, dict):
        raise RunError(
            f"{path}: `a mapping of names to values` must hold, but got a {type(content).__name__}."
        )
    return checked(content)


def exported_first(ranked: Sequence[Best], best: Mapping[str, Any]) -> list[Best]:
    """The ranking with the exported trial in front: a better one's checkpoint may have been
    damaged.

    Args:
        best: as the summary has it.

    Raises:
        RunError: summary and study do not agree on it.
    """
    exported = next((entry for entry in ranked if entry.trial.number == best["trial"]), None)
    if exported is None or (exported.epoch.epoch, exported.value) != (best["epoch"], best["value"]):
        found = (
            f"epoch {exported.epoch.epoch} with {exported.value}" if exported else "no such trial"
        )
        rule = (
            f"trial {best['trial']} is best at epoch {best['epoch']} with {best['value']}, "
            "as summary.json says"
        )
        raise RunError(
            f"the study: `{rule}` must hold, but got {found}. One of the two was changed."
        )
    return [exported, *(entry for entry in ranked if entry is not exported)]


def configs(winner: Settings, parameters: Sequence[str], ranked: Sequence[Best]) -> list[Config]:
    """Each trial as a config that ends at its best epoch; all but their parameters is the winner's.

    Args:
        winner: settings of the first trial of `ranked`.
        parameters: the names that were searched. Those that a trial has not (their condition did
            not hold) it is trained without.
    """
    fixed = {name: value for name, value in winner.items() if name not in parameters}
    return [
        Config(
            f"trial {best.trial.number}",
            fixed | best.trial.params,
            best.epoch.epoch,
            best.trial.number,
            best.value,
        )
        for best in ranked
    ]


def lab_1(like: Config) -> Config:
    """Lab 1's defaults on the same data for as many epochs."""
    data: Settings = {
        name: like.settings[name] for name in ("data_class", "data_dir") if name in like.settings
    }
    return Config(
        LAB_1, {"model_class": LAB_1_MODEL, **data, "max_epochs": like.epochs}, like.epochs
    )


def same_recipe(one: Config, other: Config) -> bool:
    """Whether two configs are the same training, defaults filled in."""
    return one.epochs == other.epochs and recipe(one.settings) == recipe(other.settings)


def recipe(settings: Settings) -> Settings:
    """All that decides what a training comes to, apart from its length and seed; what is not
    given has its default.
    """
    given = RUN_DEFAULTS | settings
    classes = (MODELS[given["model_class"]], DATASETS[given["data_class"]], BaseLitModel)
    full = {name: value for cls in classes for name, value in hyperparameters(cls).items()} | given
    return {name: value for name, value in full.items() if name not in NOT_THE_RECIPE}


def seeds_from(first: int, count: int) -> list[int]:
    """The search's own seed, and those after it."""
    return [(first + i) % 2**32 for i in range(count)]


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation, which one value has not."""
    return fmean(values), stdev(values) if len(values) > 1 else None


def best_mean(each: Sequence[Sequence[float]], objective: Objective) -> int | None:
    """The place of the values with the best mean; of equals the first. None where no mean is
    finite: all diverged.
    """
    means = [
        (objective.sign * fmean(values), -place)
        for place, values in enumerate(each)
        if math.isfinite(fmean(values))
    ]
    return -max(means)[1] if means else None
