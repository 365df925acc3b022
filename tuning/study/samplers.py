"""What Optuna proposes: its samplers by name, and our parameters as it knows them."""

from __future__ import annotations

from typing import Any

import optuna
import scipy.special
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.samplers._tpe import _truncnorm

from text_recognizer.seeds import seed_of
from tuning.space.schema import CategoricalParameter, IntParameter, Parameter

# TPE calls this for each integer parameter, candidate and earlier trial. Optuna's own, a port of
# SciPy's, takes one number at a time: after 1,000 trials that was four fifths of an `ask`. The same
# function, for all numbers at once (docs/decisions.md).
_truncnorm._log_ndtr = scipy.special.log_ndtr


def make_sampler(name: str, seed: int, number: int, parameter: str = "") -> BaseSampler:
    """A sampler for one trial: what it proposes is a function of (search seed, trial number,
    what is recorded).
    """
    one = seed_of("sampler", seed, number, parameter) % 2**32
    match name:
        case "random":
            return RandomSampler(seed=one)
        case "gp":
            return GPSampler(seed=one, warn_independent_sampling=False)
        case _:
            return TPESampler(seed=one)  # multivariate, with constant liar


def suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    """What Optuna proposes for one parameter."""
    if isinstance(parameter, CategoricalParameter):
        return trial.suggest_categorical(name, parameter.choices)
    if isinstance(parameter, IntParameter):
        return trial.suggest_int(
            name, parameter.low, parameter.high, log=parameter.log, step=parameter.step or 1
        )
    return trial.suggest_float(
        name, parameter.low, parameter.high, log=parameter.log, step=parameter.step
    )


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """The range of a parameter as Optuna has it."""
    if isinstance(parameter, CategoricalParameter):
        return CategoricalDistribution(parameter.choices)
    if isinstance(parameter, IntParameter):
        return IntDistribution(
            parameter.low, parameter.high, log=parameter.log, step=parameter.step or 1
        )
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
