"""What a new search may learn from an older run: its ended trials whose parameters are points of
the new space.

They go into the new study, so that every sampler sees them, but they are none of its trials: no
report, count or rung has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from text_recognizer.errors import InputError, Problem
from tuning.run.folder import RunFolder, open_run
from tuning.run.reading import read_as_ours
from tuning.space.search_space import SearchSpace
from tuning.study.optuna_record import EARLIER, open_record
from tuning.study.samplers import distribution_of
from tuning.study.storage import storage_errors


@dataclass(frozen=True)
class WarmStart:
    """The usable trials of an older run, and how many it has in all."""

    run: str
    trials: list[FrozenTrial]
    of: int

    def __str__(self) -> str:
        what = (
            f"the sampler learns from {len(self.trials)} of the {self.of} ended trials of "
            f"{self.run}"
        )
        return f"warm start: {what}; this search's own are numbered from {len(self.trials)}"


def read_warm_start(path: Path, space: SearchSpace, defaults: Mapping[str, Any]) -> WarmStart:
    """The trials of the run at `path` that fit `space`.

    Args:
        defaults: what a setting is that a space does not name.

    Raises:
        InputError: there is no run, it measured something else, or none of its trials fits.
        RunError: it is damaged.
    """
    folder = open_run(path)
    with read_as_ours(folder.path):
        return _warm_start_from(folder, space, defaults)


def _warm_start_from(
    folder: RunFolder, space: SearchSpace, defaults: Mapping[str, Any]
) -> WarmStart:
    """The same, where the folder's content is trusted to make sense."""
    old, record = open_record(folder)
    problems = [
        Problem(
            "--warm-start",
            f"an older run with {name} {now}",
            str(then),
            "Its values cannot be compared.",
        )
        for name, then, now in (
            ("search.metric", old.search.metric, space.search.metric),
            *(
                (name, *({**defaults, **one.experiment}[name] for one in (old, space)))
                for name in ("model_class", "data_class")
            ),
        )
        if then != now
    ]
    if problems:
        raise InputError(*problems)
    with storage_errors():
        ended = record.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    fitting = [
        trial for trial in ended if trial.params and not space.point_problems(trial.params, "space")
    ]
    if not fitting:
        rule = "an older run with trials inside of this space"
        raise InputError(
            Problem(
                "--warm-start", rule, f"{folder.name}, none of whose {len(ended)} ended trials is"
            )
        )
    return WarmStart(
        folder.name, [as_earlier(trial, folder.name, space) for trial in fitting], len(ended)
    )


def as_earlier(trial: FrozenTrial, run: str, space: SearchSpace) -> FrozenTrial:
    """The trial as one of the new study: within the new ranges, and marked as not its own."""
    return optuna.trial.create_trial(
        state=trial.state,
        value=trial.value if trial.state == TrialState.COMPLETE else None,
        params=trial.params,
        distributions={name: distribution_of(space.parameters[name]) for name in trial.params},
        intermediate_values=trial.intermediate_values,
        user_attrs={EARLIER: run, "number": trial.number},
        constraints=trial.constraints,
    )
