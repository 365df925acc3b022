"""Syne Tune's policies: its schedulers, called as its tuner calls them (`syne_tune/tuner.py`).

They run in an environment of their own (`syne_tune.txt`): nothing here may import Ray or torch.
"""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial
from typing import Any

from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.legacy_baselines import ASHA, MOBSTER
from syne_tune.optimizer.legacy_scheduler import SchedulerDecision

from benchmarks.search.simulation import Make, Policy, Turn
from benchmarks.search.tasks import Task

LIMIT = (
    "max_epochs"  # the key that tells a trial how far it goes; promotion sets it to the next rung
)
RANGES = {
    ("int", False): randint,
    ("int", True): lograndint,
    ("float", False): uniform,
    ("float", True): loguniform,
}


class SyneTunePolicy:
    """A scheduler that may pause trials and resume them."""

    def __init__(self, scheduler: Any, task: Task) -> None:
        self.scheduler, self.task = scheduler, task
        self.trials: dict[int, Trial] = {}
        self.epochs: dict[int, int] = {}

    def next(self) -> Turn:
        number = len(self.trials)
        suggestion = self.scheduler.suggest(number)
        if suggestion.spawn_new_trial_id:
            trial = Trial(number, suggestion.config, datetime.now())
            self.scheduler.on_trial_add(trial)
        else:
            number = int(suggestion.checkpoint_trial_id)
            config = suggestion.config or self.trials[number].config
            trial = Trial(number, config, datetime.now())
        self.trials[number] = trial
        params = {name: trial.config[name] for name in self.task.space}
        return Turn(number, params, self.epochs.get(number, 0))

    def report(self, number: int, epoch: int, value: float) -> bool:
        trial, result = self.trials[number], {"epoch": epoch, self.task.metric: value}
        self.epochs[number] = epoch
        decision = self.scheduler.on_trial_result(trial, dict(result))
        goes_on: bool = decision == SchedulerDecision.CONTINUE
        if not goes_on:
            self.scheduler.on_trial_remove(trial)
        elif epoch == self.task.max_epochs:
            self.scheduler.on_trial_complete(trial, dict(result))
        return goes_on


def config_space(task: Task) -> dict[str, Any]:
    """The task's space as Syne Tune has it."""
    found: dict[str, Any] = {}
    for name, spec in task.space.items():
        if spec["type"] == "categorical":
            found[name] = choice(spec["choices"])
        else:
            found[name] = RANGES[spec["type"], spec.get("log", False)](spec["low"], spec["high"])
    return {**found, LIMIT: task.max_epochs}


def syne_tune(task: Task, slots: int, seed: int, scheduler: Any, type: str) -> Policy:
    """One of its schedulers, with the library's own defaults: first rung 1, factor 3, the first
    point in the middle of the space.
    """
    made = scheduler(
        config_space(task),
        metric=task.metric,
        mode=task.objective.mode,
        resource_attr="epoch",
        max_resource_attr=LIMIT,
        type=type,
        random_seed=seed,
    )
    return SyneTunePolicy(made, task)


ARMS: dict[str, Make] = {
    "Syne Tune ASHA promotion": partial(syne_tune, scheduler=ASHA, type="promotion"),
    "Syne Tune ASHA stopping": partial(syne_tune, scheduler=ASHA, type="stopping"),
    "Syne Tune MOBSTER promotion": partial(syne_tune, scheduler=MOBSTER, type="promotion"),
    "Syne Tune MOBSTER stopping": partial(syne_tune, scheduler=MOBSTER, type="stopping"),
}


def quiet() -> None:
    """Each of its older schedulers says that it is one."""
    logging.disable(logging.WARNING)
