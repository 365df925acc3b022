"""The samplers by name, and our parameters as Optuna's distributions."""

from collections.abc import Callable
from functools import partial
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from text_recognizer.seeds import seed_of
from tuning.space import CategoricalParameter, FloatParameter, IntParameter, Parameter, SearchSpace
from tuning.study.epoch_sampler import EpochSampler
from tuning.trials import explores


def make_sampler(space: SearchSpace) -> BaseSampler:
    """The sampler of a search: gp, random, or tpe (multivariate, with constant liar).

    Its proposal is a function of (search seed, trial number, recorded trials), so that a killed
    search proposes what an undisturbed one would have.
    """
    search = space.search
    if search.sampler == "gp":
        ranges = {name: distribution_of(one) for name, one in space.parameters.items()}
        return EpochSampler(
            ranges, search.max_epochs, search.seed, explores=partial(explores, search)
        )
    kinds = {"random": RandomSampler, "tpe": TPESampler}
    return StatelessSampler(kinds[search.sampler], search.seed)


class StatelessSampler(BaseSampler):
    """One of Optuna's samplers, made anew for each trial and for each parameter: one that lived
    through the search would carry a random state, which a kill would lose.

    Args:
        kind: makes a sampler with a seed.
        seed: of the search.
    """

    def __init__(self, kind: Callable[..., BaseSampler], seed: int) -> None:
        self.kind, self.seed = kind, seed

    def _made(self, trial: FrozenTrial, parameter: str = "") -> BaseSampler:
        return self.kind(seed=seed_of("sampler", self.seed, trial.number, parameter) % 2**32)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._made(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._made(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        # A sampler for each parameter: a proposal does not depend on which of the others were
        # recorded before a kill.
        made = self._made(trial, param_name)
        return made.sample_independent(study, trial, param_name, param_distribution)


def suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    """Optuna's proposal for one parameter."""
    if isinstance(parameter, CategoricalParameter):
        return trial.suggest_categorical(name, parameter.choices)
    if isinstance(parameter, IntParameter):
        return trial.suggest_int(name, **numeric_range(parameter))
    return trial.suggest_float(name, **numeric_range(parameter))


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """A parameter's range as Optuna has it."""
    if isinstance(parameter, CategoricalParameter):
        return CategoricalDistribution(parameter.choices)
    if isinstance(parameter, IntParameter):
        return IntDistribution(**numeric_range(parameter))
    return FloatDistribution(**numeric_range(parameter))


def numeric_range(parameter: IntParameter | FloatParameter) -> dict[str, Any]:
    """The arguments that Optuna takes for a range of numbers."""
    # Optuna takes no step of None for integers, and an int with log needs the step 1.
    return parameter.model_dump(include={"low", "high", "log", "step"}, exclude_none=True)
