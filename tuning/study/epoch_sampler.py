"""Proposes from all epochs of all trials: ended, waiting and running ones."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from text_recognizer.seeds import seed_of
from tuning.study.learning_curves import running_best
from tuning.study.optuna_record import current
from tuning.study.surrogate import Belief, Observation, Surrogate
from tuning.study.unit_cube import UnitCube

STARTUP = 5  # trials with an epoch, before the model proposes


class EpochSampler(BaseSampler):
    """Points of a Sobol sequence first, then those of the highest expected improvement, and random
    ones between them.

    A proposal is a function of the study, the seed and the trial's number. What is kept of ended
    trials only saves time.

    Args:
        space: all parameters, also those that apply only sometimes; None takes those that all
            trials have.
        max_epochs: of a trial.
        seed: of the search.
        explores: whether the trial of a number is a random point.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution] | None = None,
        max_epochs: int = 1,
        seed: int = 0,
        explores: Callable[[int], bool] = lambda number: False,
    ) -> None:
        self.space, self.max_epochs, self.seed = space, max_epochs, seed
        self.explores = explores
        self.belief: Belief | None = None  # of the last proposal, if it was the model's
        self._ended: dict[int, Observation] = {}
        self._common = IntersectionSearchSpace(include_pruned=True)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        space = self._common.calculate(study) if self.space is None else self.space
        return {name: d for name, d in space.items() if not d.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._raise_error_if_multi_objective(study)
        self.belief = None
        # a point of `start_with` has its parameters
        if not search_space or "fixed_params" in trial.system_attrs:
            return {}
        cube = UnitCube(search_space)
        known = self._known(study, trial.number, cube)
        if sum(one.feasible and len(one.curve) > 0 for one in known) < STARTUP:
            return self._sobol(cube, trial.number)
        rng = np.random.default_rng(seed_of("sampler", self.seed, trial.number))
        if self.explores(trial.number):
            return cube.params(rng.random(cube.dimensions))
        self.belief = Surrogate(cube, known, self.max_epochs).propose(rng)
        return self.belief.params

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        self._raise_error_if_multi_objective(study)
        seed = seed_of("sampler", self.seed, trial.number, param_name) % 2**32
        random = RandomSampler(seed=seed)
        return random.sample_independent(study, trial, param_name, param_distribution)

    def _sobol(self, cube: UnitCube, number: int) -> dict[str, Any]:
        # half of this package's import: a report and a resume do without it
        from scipy.stats.qmc import Sobol

        rng = np.random.default_rng(self.seed)
        points = Sobol(cube.dimensions, scramble=True, rng=rng)
        if number:  # SciPy refuses 0
            points.fast_forward(number)
        return cube.params(points.random(1)[0])

    def _known(self, study: optuna.Study, number: int, cube: UnitCube) -> list[Observation]:
        """What is known of all other trials that have parameters."""
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        found = []
        for trial in current(study.get_trials(deepcopy=False)):
            if trial.number == number or not trial.params:  # it waits in Optuna's queue
                continue
            one = self._ended.get(trial.number)
            if one is None:
                one = self._observe(trial, sign, cube)
                # the common space of all trials, where none is given, may still change
                if trial.state.is_finished() and self.space:
                    self._ended[trial.number] = one
            found.append(one)
        return found

    def _observe(self, trial: FrozenTrial, sign: float, cube: UnitCube) -> Observation:
        values = [value for _, value in sorted(trial.intermediate_values.items())]
        if not values and trial.state == TrialState.COMPLETE and trial.value is not None:
            values = [trial.value] * self.max_epochs
        feasible = all(value <= 0 for value in trial.constraints.values())
        curve = running_best([sign * value for value in values])
        return Observation(cube.point(trial.params), curve, feasible)
