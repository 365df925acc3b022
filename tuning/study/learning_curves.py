"""What a trial that has not trained to its end would reach, judged by those that went further."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tuning.study.unit_cube import Floats

# Gains are learned from level to level, about 1.4 times as many epochs each.
LEVELS = (1, 2, 3, 4, 6, 9, 13, 19, 27, 39, 56, 80, 115, 165, 240, 350, 500, 720, 1000)
CAUTION = 3  # trials: so many must have made a step before half of what they say is believed


def running_best(values: Sequence[float]) -> Floats:
    """The best finite value up to each epoch. Empty if none is finite.

    Args:
        values: of the epochs 1, 2, …, to be maximised.
    """
    curve = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(curve)
    if not finite.any():
        return np.empty(0)
    # a value that is not finite counts as the first that is: it never raises the curve
    return np.maximum.accumulate(np.where(finite, curve, curve[finite][0]))


def forecast(curves: Sequence[Floats], max_epochs: int) -> Floats:
    """The best value that each trial would have after the last epoch.

    A trial is given, from level to level, the median gain of the trials that made the step. Where
    better ones gained less, a straight line says how much less; it is drawn towards the median
    while few trials made the step. No trial is promised less than it has.

    Args:
        curves: of `running_best`, none empty. Shape (epochs of the trial,) each.

    Returns:
        Shape (curves,).
    """
    length = np.array([len(curve) for curve in curves])
    value = np.array([curve[-1] for curve in curves])
    levels = [*(level for level in LEVELS if level < max_epochs), max_epochs]
    for low, high in pairwise(levels):
        went = [curve for curve in curves if len(curve) >= high]
        if not went:
            break
        start = np.array([curve[low - 1] for curve in went])
        gain = np.array([curve[high - 1] for curve in went]) - start
        away, usual = start - np.median(start), np.median(gain)
        spread = float(away @ away) * (1 + CAUTION / len(went))
        slope = float(away @ (gain - usual)) / (spread + 1e-12)
        short = length < high
        left = np.clip((high - length[short]) / (high - low), 0, 1)
        less = min(0.0, max(-1.0, slope)) * (value[short] - np.median(start))
        value[short] += left * np.maximum(0, usual + less)
    return value
