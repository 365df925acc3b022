"""What the sampler's model expects: the best point, and why the last trial was proposed."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tuning.analysis.run_data import RunData
from tuning.study import STARTUP, Observation, Surrogate, UnitCube, distribution_of, running_best
from tuning.trials import ENDINGS, Trial


@dataclass(frozen=True)
class Expectation:
    """What the model expects after a search, in the metric's unit.

    Args:
        params: the point with the best expected value.
        expected: its value after the last epoch; `low` and `high` are a standard deviation away.
        proposed: the number of the last trial that the model proposed, or None.
        proposal: what it expected of that trial then, see `tuning.study.surrogate.Belief`.
    """

    params: dict[str, Any]
    expected: float
    low: float
    high: float
    proposed: int | None
    proposal: dict[str, float]


def expectation(run: RunData) -> Expectation | None:
    """None for another sampler, and while too few trials have an epoch."""
    search, space = run.space.search, run.space
    sign = search.objective.sign
    cube = UnitCube({name: distribution_of(one) for name, one in space.parameters.items()})
    known = [observed(trial, search.metric, sign, cube) for trial in run.trials if trial.params]
    told = sum(one.feasible and len(one.curve) > 0 for one in known)
    if search.sampler != "gp" or told < STARTUP:
        return None
    best = Surrogate(cube, known, search.max_epochs).likely_best(np.random.default_rng(0))
    values = best.as_plain(sign)
    last = next((one for one in reversed(run.trials) if one.proposal), None)
    return Expectation(
        params=space.choose(lambda name, _: best.params[name]),
        expected=values["expected"],
        low=values["low"],
        high=values["high"],
        proposed=last.number if last else None,
        proposal=dict(last.proposal) if last else {},
    )


def observed(trial: Trial, metric: str, sign: int, cube: UnitCube) -> Observation:
    """A trial as the model sees it."""
    values = [sign * epoch.metrics[metric] for epoch in trial.epochs]
    feasible = trial.outcome is None or not ENDINGS[trial.outcome].constraint
    return Observation(cube.point(trial.params), running_best(values), feasible)
