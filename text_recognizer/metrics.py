"""The metrics a choice may be made by, and which way is better. Imports nothing, so that reading
a file stays fast.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

Mode = Literal["max", "min"]

# never test_*: no choice is made by the test set
Metric = Literal["train_loss", "train_acc", "val_loss", "val_acc"]
METRICS: tuple[str, ...] = get_args(Metric)


def mode_of(metric: str) -> Mode:
    """Accuracies are maximised, losses minimised."""
    return "max" if metric.endswith("acc") else "min"


def is_better(value: float, other: float | None, mode: Mode) -> bool:
    """Whether `value` is finite and strictly better than `other`, so that of equals the first
    stays best.
    """
    if not math.isfinite(value):
        return False
    return other is None or (value > other if mode == "max" else value < other)
