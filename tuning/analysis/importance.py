"""Computes which parameters matter: fANOVA over the trials, all compared after the same epoch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_high

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from text_recognizer.metrics import Objective
from tuning.space import Parameter
from tuning.study import distribution_of
from tuning.trials import Trial

FEWEST_TRIALS = 8  # with fewer of them the shares would be noise
MOST_TRIALS = 500  # fANOVA's time grows with the square of their number: 2.8 s for 500 (n = 1)


@dataclass(frozen=True)
class Importance:
    """The importance of each parameter for the metric after one epoch.

    Args:
        epoch: the epoch that is compared, counted from 1.
        trials: how many trials are compared.
        shares: each parameter's share of the metric's variance, biggest first; they sum to 1.
        left_out: parameters that only some of these trials have.
    """

    epoch: int
    trials: int
    shares: dict[str, float]
    left_out: list[str]


def importances(
    trials: Sequence[Trial], parameters: Mapping[str, Parameter], objective: Objective
) -> Importance | None:
    """The importance of the parameters (Hutter, Hoos and Leyton-Brown, 2014), or None if there
    are too few trials, or all are alike.
    """
    lengths = [len(trial.epochs) for trial in trials if trial.epochs]
    if not lengths:
        return None
    # Optuna compares only COMPLETE trials: on MNIST 11 of 60, which ASHA kept because they were
    # alike. We compare all trials at the latest epoch that half of them reached.
    epoch = median_high(lengths)
    compared = [
        (trial.params, value)
        for trial in trials
        if len(trial.epochs) >= epoch
        and math.isfinite(value := trial.epochs[epoch - 1].metrics[objective.metric])
    ]
    compared = compared[:: math.ceil(len(compared) / MOST_TRIALS) or 1]
    # fANOVA needs the same parameters in all trials, and one value alone explains nothing
    common = [name for name in parameters if all(name in params for params, _ in compared)]
    varied = [name for name in common if len({params[name] for params, _ in compared}) > 1]
    if len(compared) < FEWEST_TRIALS or len({value for _, value in compared}) < 2 or not varied:
        return None
    # which direction is better does not matter: the shares are of a variance
    study = optuna.create_study()
    distributions = {name: distribution_of(parameters[name]) for name in varied}
    study.add_trials(
        optuna.create_trial(
            params={name: params[name] for name in varied}, distributions=distributions, value=value
        )
        for params, value in compared
    )
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    left_out = [name for name in parameters if name not in common]
    return Importance(epoch, len(compared), shares, left_out)
