"""Parameters as points of the unit cube, and back."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Floats = npt.NDArray[np.float64]
MIDDLE = 0.5  # the place of a parameter that does not apply


class UnitCube:
    """The parameters of a space, each from 0 to 1.

    A choice has an interval of its own. Two choices differ by 1 or not at all.
    """

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self.space = dict(sorted(space.items()))
        self.choices = np.array(
            [
                len(d.choices) if isinstance(d, CategoricalDistribution) else 0
                for d in self.space.values()
            ],
            dtype=np.int64,
        )

        self.categorical = [int(k) for k in np.flatnonzero(self.choices)]
        # the parameter of each column of `columns`
        self.owners = np.repeat(np.arange(len(self.space)), np.maximum(self.choices, 1))

    @property
    def dimensions(self) -> int:
        return len(self.space)

    def point(self, params: Mapping[str, Any]) -> Floats:
        """The place of parameters. Shape (dimensions,)."""
        return np.array(
            [place(params[name], d) if name in params else MIDDLE for name, d in self.space.items()]
        )

    def params(self, point: Floats) -> dict[str, Any]:
        """The parameters at a place."""
        places = zip(point, self.space.items(), strict=True)
        return {name: value_at(float(u), d) for u, (name, d) in places}

    def columns(self, points: Floats) -> Floats:
        """Coordinates whose Euclidean distance is that of the points: a column for each number, and
        one for each choice.

        Args:
            points: shape (points, dimensions).

        Returns:
            Shape (points, columns), see `owners`.
        """
        parts = [points[:, [k]] for k in range(self.dimensions)]
        for k in self.categorical:
            # two unit vectors are √2 apart, two choices 1
            parts[k] = np.eye(self.choices[k])[self._choice(points, k)] * math.sqrt(0.5)
        return np.hstack(parts)

    def _choice(self, points: Floats, k: int) -> npt.NDArray[np.int64]:
        """The index of each point's choice."""
        n = int(self.choices[k])
        return np.asarray(np.minimum((points[:, k] * n).astype(np.int64), n - 1))

    def squares(self, a: Floats, b: Floats) -> Floats:
        """Squared distances for each parameter.

        Args:
            a, b: shape (points, dimensions).

        Returns:
            Shape (points of a, points of b, dimensions).
        """
        difference = a[:, None, :] - b[None, :, :]
        for k in self.categorical:
            difference[..., k] = self._choice(a, k)[:, None] != self._choice(b, k)[None, :]
        return np.square(difference)


def ends(d: FloatDistribution | IntDistribution) -> tuple[float, float]:
    """Both ends of a range, in logarithms if it is `log`; each step has an equal part of it."""
    half = (d.step or 0) / 2
    low, high = d.low - half, d.high + half
    return (math.log(low), math.log(high)) if d.log else (low, high)


def place(value: Any, d: BaseDistribution) -> float:
    """Where a value lies, from 0 to 1."""
    if isinstance(d, CategoricalDistribution):
        return float((d.to_internal_repr(value) + 0.5) / len(d.choices))
    assert isinstance(d, FloatDistribution | IntDistribution)
    low, high = ends(d)
    if low == high:
        return MIDDLE
    return ((math.log(value) if d.log else value) - low) / (high - low)


def value_at(u: float, d: BaseDistribution) -> Any:
    """The value at a place from 0 to 1."""
    if isinstance(d, CategoricalDistribution):
        return d.choices[min(int(u * len(d.choices)), len(d.choices) - 1)]
    assert isinstance(d, FloatDistribution | IntDistribution)
    low, high = ends(d)
    value = low + u * (high - low)
    value = math.exp(value) if d.log else value
    if d.step:
        value = d.low + round((value - d.low) / d.step) * d.step
    value = min(max(value, d.low), d.high)
    return int(value) if isinstance(d, IntDistribution) else float(value)
