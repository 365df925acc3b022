"""A model of a search: what any point of the space is expected to reach, from all epochs of all
trials.

Each trial that has an epoch counts with a forecast of its best value after the last epoch. A
Gaussian process is fitted to these values, the lower half of them pulled in by a logarithm: how bad
the bad ones are hardly matters. A trial that diverged or ran out of memory counts as the worst.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.spatial import KDTree
from threadpoolctl import ThreadpoolController

from tuning.study.gaussian_process import GaussianProcess
from tuning.study.learning_curves import forecast
from tuning.study.unit_cube import Floats, UnitCube

MOST = 150  # trials that the process is fitted to: its time grows with the cube of their number
RANDOM, AROUND, ROUNDS = 240, 120, 3  # points that are compared for a proposal
CENTRES = 5  # the best of them, around which the next round looks
NEAREST, FARTHEST = 0.01, 0.3  # steps around a centre, as parts of a range
MOVED = 0.3  # the part of the parameters that a step changes, at least two of them
ALIKE = 0.1  # distance below which one trial tells what another does, as a part of the ranges
APART = 0.1  # a proposal is so far from any trial
REPEATED = 1e3  # taken from the logarithm of the improvement where it is nearer
OTHER_CHOICE = 0.3  # how often a step draws a choice anew


@dataclass(frozen=True)
class Observation:
    """What is known of one trial.

    Args:
        point: its parameters' place in the unit cube. Shape (dimensions,).
        curve: of `running_best`; empty without an epoch.
        feasible: whether it neither diverged nor ran out of memory.
    """

    point: Floats
    curve: Floats
    feasible: bool = True


@dataclass(frozen=True)
class Belief:
    """What the model expects at a point, in the metric's unit, to be maximised.

    Args:
        low, high: one standard deviation below and above.
        improvement: the expected gain over the best that is expected of any trial.
        distance: to the nearest trial: root mean square over the parameters, as a part of their
            ranges.
    """

    params: dict[str, Any]
    expected: float
    low: float
    high: float
    improvement: float
    distance: float

    def as_plain(self, sign: int) -> dict[str, float]:
        """The numbers as the metric has them.

        Args:
            sign: -1 for a metric that is minimised.
        """
        low, high = sorted((sign * self.low, sign * self.high))
        return {
            "expected": sign * self.expected,
            "low": low,
            "high": high,
            "improvement": self.improvement,
            "distance": self.distance,
        }


class Scale:
    """The values as the process sees them: 0 at their median, 1 at their ninth decile."""

    def __init__(self, values: Floats) -> None:
        self.middle = float(np.median(values))
        unit = float(np.percentile(values, 90)) - self.middle
        self.unit = unit if unit > 0 else max(float(values.std()), 1e-9)
        self.lowest = float(self.of(values).min())

    def of(self, values: Floats) -> Floats:
        z = (values - self.middle) / self.unit
        return np.asarray(np.where(z < 0, -np.log1p(-np.minimum(z, 0)), z))

    def back(self, z: float) -> float:
        """The inverse of `of`, of nothing worse than the worst value."""
        z = max(z, self.lowest)
        return self.middle + self.unit * (z if z >= 0 else -math.expm1(-z))


class Surrogate:
    """Fitted to observations.

    Args:
        cube: of all parameters, also those that apply only sometimes.
        known: in the order of the trials' numbers. At least one is feasible and has an epoch.
        max_epochs: of a trial.
    """

    def __init__(self, cube: UnitCube, known: Sequence[Observation], max_epochs: int) -> None:
        self.cube = cube
        points = np.array([one.point for one in known])
        self.known = KDTree(cube.columns(points))
        told = [one for one in known if not one.feasible or len(one.curve)]
        values = outcomes(told, max_epochs)
        places = np.array([one.point for one in told])
        seen, alike = informative(values, cube.columns(places) / math.sqrt(cube.dimensions))
        self.scale = Scale(values[seen])
        with one_thread():
            self.process = GaussianProcess(
                self.cube, places[seen], self.scale.of(values[seen]), alike
            )
            # slots must not crowd together, and a trial that failed is not tried again
            is_bare = [one.feasible and not len(one.curve) for one in known]
            self.process.believe(points[is_bare][-MOST:])
            expected, _ = self.process.expect(self.process.x)
            self.best = float(expected.max())
            self.centres = self.process.x[np.argsort(-expected, kind="stable")[:CENTRES]]

    def propose(self, rng: np.random.Generator) -> Belief:
        """The point of the highest expected improvement (Jones et al., 1998)."""
        with one_thread():
            return self._belief(self._climb(rng, "improvement"))

    def likely_best(self, rng: np.random.Generator) -> Belief:
        """The point with the highest expected value."""
        with one_thread():
            return self._belief(self._climb(rng, "value"))

    def _climb(self, rng: np.random.Generator, by: str) -> Floats:
        """The best of random points, then of points around the best so far."""
        points, centres = rng.random((RANDOM, self.cube.dimensions)), self.centres
        if by == "value":
            points = np.vstack([points, centres])
        for _ in range(ROUNDS):
            points = np.vstack([points, self._near(centres, rng)])
            if by == "value":
                worth, _ = self.process.expect(points)
            else:
                worth = self.process.log_improvement(points, self.best)
                # a trial that repeats another one teaches nothing
                worth[self._distances(points) < APART] -= REPEATED
            points = centres = points[np.argsort(-worth, kind="stable")[:CENTRES]]
        return np.asarray(points[0])

    def _distances(self, points: Floats) -> Floats:
        """How far the nearest trial is: root mean square over the parameters, as a part of their
        ranges. Shape (points,).
        """
        distances, _ = self.known.query(self.cube.columns(points))
        return np.asarray(distances / math.sqrt(self.cube.dimensions))

    def _near(self, centres: Floats, rng: np.random.Generator) -> Floats:
        """Points around the centres: each moved in some of the parameters, near or far."""
        d, choices = self.cube.dimensions, self.cube.choices
        size = np.exp(rng.uniform(math.log(NEAREST), math.log(FARTHEST), (AROUND, 1)))
        steps = size * rng.standard_normal((AROUND, d))
        moved = rng.random((AROUND, d)) < max(MOVED, 2 / d)
        moved[np.arange(AROUND), rng.integers(d, size=AROUND)] = True
        near = centres[rng.integers(len(centres), size=AROUND)] + steps * moved
        near = np.clip(near, 1e-6, 1 - 1e-6)
        for k in self.cube.categorical:
            other = rng.random(AROUND) < OTHER_CHOICE
            drawn = rng.integers(choices[k], size=int(other.sum()))
            near[other, k] = (drawn + 0.5) / choices[k]
        return np.asarray(near)

    def _belief(self, point: Floats) -> Belief:
        row, back = point[None, :], self.scale.back
        (expected,), (deviation,) = self.process.expect(row)
        (log_gain,) = self.process.log_improvement(row, self.best)
        return Belief(
            params=self.cube.params(point),
            expected=back(float(expected)),
            low=back(float(expected - deviation)),
            high=back(float(expected + deviation)),
            # the best lies in the upper half, where the scale is a straight line
            improvement=math.exp(log_gain) * self.scale.unit,
            distance=float(self._distances(row)[0]),
        )


def outcomes(told: Sequence[Observation], max_epochs: int) -> Floats:
    """The value of each trial: its forecast, or the worst if it is not feasible."""
    feasible = np.array([one.feasible for one in told])
    values = np.empty(len(told))
    values[feasible] = forecast([one.curve for one in told if one.feasible], max_epochs)
    values[~feasible] = values[feasible].min()
    return values


def informative(values: Floats, columns: Floats) -> tuple[list[int], Floats]:
    """The trials that the process is fitted to, and for how many trials each of them stands.

    These are half of `MOST` from the best on, then others evenly over the search, and none that is
    `ALIKE` a better one. Else a search that has found a good place would soon know nothing but that
    place, and take its small differences for large ones.
    """
    order = np.argsort(-values, kind="stable")[: 4 * MOST]
    even = np.linspace(0, len(values) - 1, min(len(values), 4 * MOST)).round().astype(int)
    kept: list[int] = []
    for candidates, most in ((order, MOST // 2), (even, MOST)):
        for i in candidates:
            if len(kept) < most and (
                not kept or np.square(columns[kept] - columns[i]).sum(axis=1).min() >= ALIKE**2
            ):
                kept.append(int(i))
    kept.sort()
    # of ten thousand trials those that were looked at are enough: all would take 50 ms
    distances, nearest = KDTree(columns[kept]).query(columns[np.union1d(order, even)])
    alike = np.bincount(nearest[distances < ALIKE], minlength=len(kept))
    return kept, np.maximum(1.0, alike)


@cache
def thread_pools() -> ThreadpoolController:
    """The thread pools of NumPy's and SciPy's libraries, which are loaded once."""
    return ThreadpoolController()


def one_thread() -> Any:
    """A context in which linear algebra takes one thread: the cores are the trials'. For matrices
    of this size more threads cost more than they give.
    """
    return thread_pools().limit(limits=1, user_api="blas")
