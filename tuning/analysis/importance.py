"""Which parameters mattered: Optuna's fANOVA over the trials as they stood after one and the
same epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from text_recognizer.metrics import Objective
from tuning.space.schema import Parameter
from tuning.study.samplers import distribution_of
from tuning.trials.trial import Trial

FEWEST = 8  # trials below which shares would be noise
MOST = 500
SHARE = 0.5  # of the trials that measured anything must have come to the epoch that is compared


@dataclass(frozen=True)
class Importance:
    """`shares` of the variance of the metric after `epoch`, biggest first, over so many `trials`;
    they sum to 1.

    `left_out`: parameters that only some of these trials have.
    """

    epoch: int
    trials: int
    shares: dict[str, float]
    left_out: list[str]


def importances(
    trials: Sequence[Trial], parameters: Mapping[str, Parameter], objective: Objective
) -> Importance | None:
    """The share of each parameter in what made the trials differ; None where there is too little to
    say.

    Optuna's own default looks at COMPLETE trials alone: those that ASHA let through, a handful and
    all alike. And a trial that was stopped after one epoch must not be set against one that had
    twelve. So the latest epoch is taken that half of the trials came to, and only their values
    there (Hutter, Hoos and Leyton-Brown, 2014, for fANOVA).
    """
    epoch = common_epoch(trials)
    if epoch == 0:
        return None
    there = [
        trial
        for trial in trials
        if len(trial.epochs) >= epoch
        and math.isfinite(trial.epochs[epoch - 1].metrics[objective.metric])
    ]
    values = [trial.epochs[epoch - 1].metrics[objective.metric] for trial in there]
    # every second, third, … of them: the time that fANOVA takes grows with the square of their
    # number
    if len(there) > MOST:
        there = [there[i * len(there) // MOST] for i in range(MOST)]
        values = [trial.epochs[epoch - 1].metrics[objective.metric] for trial in there]
    if len(there) < FEWEST or len(set(values)) < 2:
        return None
    common = [name for name in parameters if all(name in trial.params for trial in there)]
    varied = [name for name in common if len({trial.params[name] for trial in there}) > 1]
    if not varied:
        return None
    study = optuna.create_study(direction="maximize" if objective.mode == "max" else "minimize")
    distributions = {name: distribution_of(parameters[name]) for name in varied}
    for trial, value in zip(there, values, strict=True):
        params = {name: trial.params[name] for name in varied}
        study.add_trial(
            optuna.create_trial(params=params, distributions=distributions, value=value)
        )
    shares = get_param_importances(
        study, evaluator=FanovaImportanceEvaluator(seed=0), params=varied
    )
    return Importance(
        epoch, len(there), dict(shares), [name for name in parameters if name not in common]
    )


def common_epoch(trials: Sequence[Trial]) -> int:
    """The latest epoch that half of the trials with any epoch came to; 0 where there is none."""
    lengths = sorted((len(trial.epochs) for trial in trials if trial.epochs), reverse=True)
    return lengths[math.ceil(len(lengths) * SHARE) - 1] if lengths else 0
