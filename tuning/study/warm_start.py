"""What a new search learns from an older run: the trials that are points of the new space.

They are copied into the new study, so that every sampler sees them. They are not trials of the new
search: no report, count or rung includes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from text_recognizer.errors import InputError, Problem
from tuning.run import open_run, read_as_ours, read_run_space
from tuning.space import SearchSpace
from tuning.study.optuna_record import EARLIER, current, open_study
from tuning.study.samplers import distribution_of
from tuning.study.storage import storage_errors


@dataclass(frozen=True)
class WarmStart:
    """The usable trials of an older run, and how many of its trials have ended."""

    run: str
    trials: list[FrozenTrial]
    ended: int

    def __str__(self) -> str:
        n = len(self.trials)
        return (
            f"warm start: the sampler learns from {n} of the {self.ended} ended trials of "
            f"{self.run}; this search's own are numbered from {n}"
        )


def read_warm_start(path: Path, space: SearchSpace, defaults: Mapping[str, Any]) -> WarmStart:
    """The trials of the run at `path` that fit `space`.

    Args:
        defaults: values of the settings that a space does not name.

    Raises:
        InputError: there is no run, it measured something else, or none of its trials fits.
        RunError: the run is damaged.
    """
    folder = open_run(path)
    with read_as_ours(folder.path):
        old, record = read_run_space(folder), open_study(folder)
        check_comparable(old, space, defaults)
        with storage_errors():
            # No sampler learns from a FAIL, and a RUNNING trial is the other run's own.
            states = (TrialState.COMPLETE, TrialState.PRUNED)
            ended = [
                trial
                for trial in current(record.get_trials(deepcopy=False))
                if trial.state in states
            ]
        usable = [
            as_earlier(trial, folder.name, space)
            for trial in ended
            # A trial that is killed before its first proposal has no parameters.
            if trial.params and not space.point_problems(trial.params, "space")
        ]
    if not usable:
        rule = "an older run with trials inside of this space"
        got = f"{folder.name}, none of whose {len(ended)} ended trials is"
        raise InputError(Problem("--warm-start", rule, got))
    return WarmStart(folder.name, usable, len(ended))


def check_comparable(old: SearchSpace, new: SearchSpace, defaults: Mapping[str, Any]) -> None:
    """Raise `InputError` if the two searches measure another metric, model or data set."""
    then, now = (
        {**defaults, **space.experiment, "search.metric": space.search.metric}
        for space in (old, new)
    )
    problems = [
        Problem(
            "--warm-start",
            f"an older run with {name} {now[name]}",
            str(then[name]),
            "Its values cannot be compared.",
        )
        for name in ("search.metric", "model_class", "data_class")
        if then[name] != now[name]
    ]
    if problems:
        raise InputError(*problems)


def as_earlier(trial: FrozenTrial, run: str, space: SearchSpace) -> FrozenTrial:
    """A trial for the new study: with the new ranges, and marked as not its own."""
    return optuna.trial.create_trial(
        state=trial.state,
        value=trial.value if trial.state == TrialState.COMPLETE else None,
        params=trial.params,
        # Optuna refuses one name with two different ranges in a study.
        distributions={name: distribution_of(space.parameters[name]) for name in trial.params},
        intermediate_values=trial.intermediate_values,
        user_attrs={EARLIER: run, "number": trial.number},
        constraints=trial.constraints,
    )
