"""This project's policies, and those of Ray Tune and Optuna."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.search.simulation import Make, Policy, Turn
from benchmarks.search.tasks import Params, Task
from text_recognizer.data.util import BaseDataset
from tuning.ray_backend.local_cluster import OwnCluster
from tuning.ray_backend.scheduler import RecordingScheduler
from tuning.ray_backend.searcher import StudySearcher
from tuning.run import Options, RunFolder, Slots
from tuning.space import PARAMETER, SearchSettings, SearchSpace
from tuning.study import Search, Study, distribution_of

ENDLESS = 1_000_000  # trials: the budget of epochs ends a simulation
REDUCTION = 3  # of everybody's halving, with the first rung at epoch 1


class TuneTrial:
    """What searcher and scheduler see of a trial of Tune."""

    def __init__(self, trial_id: str, config: dict[str, Any]) -> None:
        self.trial_id, self.config = trial_id, config


class TunePolicy:
    """A searcher and a scheduler, called as Tune's controller calls them, in its order
    (`ray/tune/execution/tune_controller.py`).
    """

    def __init__(self, searcher: Any, scheduler: Any, task: Task) -> None:
        self.searcher, self.scheduler, self.task = searcher, scheduler, task
        self.handed = 0
        self.live: dict[int, TuneTrial] = {}

    def next(self) -> Turn:
        trial_id = f"{self.handed:05}"
        config = self.searcher.suggest(trial_id)
        assert isinstance(config, dict), f"a free slot gets a trial, not {config}"
        turn = self.turn(config)
        self.handed += 1
        self.live[turn.number] = trial = TuneTrial(trial_id, config)
        self.scheduler.on_trial_add(None, trial)
        return turn

    def turn(self, config: dict[str, Any]) -> Turn:
        """The trial of a configuration."""
        return Turn(self.handed, config)

    def report(self, number: int, epoch: int, value: float) -> bool:
        trial = self.live[number]
        result = {"epoch": epoch, "training_iteration": epoch, self.task.metric: value}
        decision = self.scheduler.on_trial_result(None, trial, dict(result))
        goes_on: bool = decision != TrialScheduler.STOP
        if goes_on:  # the searcher does not hear of the result that stops a trial …
            self.searcher.on_trial_result(trial.trial_id, dict(result))
        if not goes_on or epoch == self.task.max_epochs:  # … but it is the trial's last
            self.scheduler.on_trial_complete(None, trial, dict(result))
            self.searcher.on_trial_complete(trial.trial_id, result=dict(result))
            del self.live[number]
        return goes_on


class OurPolicy(TunePolicy):
    """This project's: the study is kept in memory, nothing else differs."""

    def __init__(self, task: Task, slots: int, seed: int, **changes: Any) -> None:
        space = search_space(task, {"seed": seed, **changes})
        record = optuna.create_study(direction=direction(task))
        self.study = Study(record, space, trials=ENDLESS)
        nothing = BaseDataset(torch.zeros(1, 1, 1, 1, dtype=torch.uint8), torch.zeros(1).long())
        folder = RunFolder(Path(__file__).parent)
        search = Search("ours", space, Options(), folder, self.study, Slots(slots, 1, 0), nothing)
        searcher = StudySearcher(search, OwnCluster(), lambda: False)
        super().__init__(searcher, RecordingScheduler(self.study), task)

    def turn(self, config: dict[str, Any]) -> Turn:
        # A trial that waited is handed out again, under its number and with its epochs.
        number = config["number"]
        return Turn(number, config["params"], len(self.study.trial(number).epochs))


def search_space(task: Task, changes: dict[str, Any]) -> SearchSpace:
    """The task's space with the project's defaults.

    Args:
        changes: keys of the section `search` that have other values.
    """
    settings = {"metric": task.metric, "max_epochs": task.max_epochs, "trials": ENDLESS, **changes}
    parameters = {name: PARAMETER.validate_python(spec) for name, spec in task.space.items()}
    search = SearchSettings.model_validate(settings)
    return SearchSpace({}, parameters, search, lambda *keys: ".".join(map(str, keys)))


def distributions(task: Task) -> dict[str, BaseDistribution]:
    """The task's space as Optuna has it."""
    parameters = search_space(task, {}).parameters
    return {name: distribution_of(parameter) for name, parameter in parameters.items()}


def direction(task: Task) -> StudyDirection:
    """Optuna's word for the metric's mode."""
    is_max = task.objective.mode == "max"
    return StudyDirection.MAXIMIZE if is_max else StudyDirection.MINIMIZE


def ray_policy(task: Task, slots: int, seed: int, sampler: Callable[[int], BaseSampler]) -> Policy:
    """Ray Tune's own: OptunaSearch (TPE is its default) and stopping ASHA. Drawn from only when a
    slot is free, as behind a limiter.
    """
    mode = task.objective.mode
    searcher = OptunaSearch(
        distributions(task), metric=task.metric, mode=mode, sampler=sampler(seed)
    )
    scheduler = AsyncHyperBandScheduler(
        metric=task.metric,
        mode=mode,
        max_t=task.max_epochs,
        grace_period=1,
        reduction_factor=REDUCTION,
    )
    return TunePolicy(searcher, scheduler, task)


class OptunaPolicy:
    """Optuna alone: TPE and one of its pruners."""

    def __init__(self, task: Task, seed: int, pruner: BasePruner) -> None:
        self.task, self.distributions = task, distributions(task)
        self.study = optuna.create_study(
            direction=direction(task),
            sampler=TPESampler(seed=seed),
            pruner=pruner,
            study_name="search",  # Hyperband chooses brackets by it
        )
        self.live: dict[int, optuna.Trial] = {}

    def next(self) -> Turn:
        trial = self.study.ask(self.distributions)
        self.live[trial.number] = trial
        params: Params = trial.params
        return Turn(trial.number, params)

    def report(self, number: int, epoch: int, value: float) -> bool:
        trial = self.live[number]
        trial.report(value, epoch)
        if epoch == self.task.max_epochs:
            self.study.tell(trial, value)
            return False
        if trial.should_prune():
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return False
        return True


def hyperband(task: Task, slots: int, seed: int) -> Policy:
    pruner = HyperbandPruner(max_resource=task.max_epochs, reduction_factor=REDUCTION)
    return OptunaPolicy(task, seed, pruner)


def pruned(task: Task, slots: int, seed: int, pruner: type[BasePruner]) -> Policy:
    return OptunaPolicy(task, seed, pruner())


ARMS: dict[str, Make] = {
    "ours": OurPolicy,
    "ours tpe": partial(OurPolicy, sampler="tpe"),
    "ours random": partial(OurPolicy, sampler="random"),
    "stock": partial(ray_policy, sampler=lambda seed: TPESampler(seed=seed)),
    "random + ASHA": partial(ray_policy, sampler=RandomSampler),
    "Optuna Hyperband": hyperband,
    "Optuna Median": partial(pruned, pruner=MedianPruner),
    "Optuna Wilcoxon": partial(pruned, pruner=WilcoxonPruner),
}


def quiet() -> None:
    """Optuna says each trial, and what is experimental in Ray's use of it and in our own."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray").setLevel(logging.ERROR)
