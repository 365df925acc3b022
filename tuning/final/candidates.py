"""Decides which configs of a finished search are trained again, and which of them is best."""

from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from text_recognizer.atomic import checksum
from text_recognizer.errors import RunError
from text_recognizer.metrics import Objective
from training.settings import Settings, checked
from tuning.analysis.run_data import RunData
from tuning.cli import typed_path, typed_script
from tuning.run import Candidate, RunFolder


@dataclass(frozen=True)
class Config:
    """The settings of a trial, and the epoch at which it was best."""

    trial: int
    settings: Settings
    epochs: int  # its training ends after this epoch
    searched: float  # the trial's value in the search

    def __str__(self) -> str:
        return f"trial {self.trial}"


def read_best_config(search: RunData) -> Settings:
    """The settings of the best trial, from the file that the search wrote.

    Raises:
        RunError: the file was changed or is damaged.
        InputError: a setting is unknown or has a wrong type.
    """
    path = RunFolder(search.path).best_config
    written = search.summary.sha256.get(path.name)
    try:
        # With changed settings the model card would name a trial that the model is not from.
        if written and checksum(path) != written:
            raise RunError(
                f"{path} was changed since the search wrote it. A changed config is trained by "
                f"{typed_script('training/run_experiment.py')} --config {typed_path(path)}"
            )
        return checked(yaml.safe_load(search.best_config))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise RunError(f"{path} is damaged: {error}") from None


def check_best(search: RunData) -> None:
    """Raise `RunError` unless summary.json and the study name the same best trial."""
    # Without this check the model card could have the value of one trial and the name of another.
    found = [(best.trial.number, best.epoch.epoch, best.value) for best in search.ranked[:1]]
    best = search.summary.best
    if best is None or found != [(best.trial, best.epoch, best.value)]:
        raise RunError(
            f"summary.json and the study of {search.path} do not have the same best trial. "
            "One of the two was changed."
        )


def configs_of(search: RunData, best: Settings) -> list[Config]:
    """The trials of a search that can be best, best first.

    Args:
        best: settings of the best trial. All trials share them, except the searched parameters.
    """
    # A parameter of the best trial may not apply to another one: its condition does not hold there.
    fixed = {name: value for name, value in best.items() if name not in search.space.parameters}
    return [
        Config(one.trial.number, fixed | one.trial.params, one.epoch.epoch, one.value)
        for one in search.ranked
    ]


def lab_1(config: Config) -> Settings:
    """Lab 1's defaults on the same data for as many epochs."""
    names = ("data_class", "data_dir")
    data = {name: value for name, value in config.settings.items() if name in names}
    return {"model_class": "MLP", **data, "max_epochs": config.epochs}


def by_mean(candidates: Sequence[Candidate], objective: Objective) -> list[Candidate]:
    """Sort candidates by their mean, best first. Candidates that diverged come last."""
    # The sort is stable, so a tie keeps the order of the search.
    return sorted(
        candidates, key=lambda one: (one.mean is None, -objective.sign * (one.mean or 0.0))
    )
