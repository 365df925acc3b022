"""The metrics a choice may be made by, and which way is better. Imports nothing, so that reading
a file stays fast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Mode = Literal["max", "min"]

# never test_*: no choice is made by the test set
Metric = Literal["train_loss", "train_acc", "val_loss", "val_acc"]
METRICS: tuple[str, ...] = get_args(Metric)


def mode_of(metric: str) -> Mode:
    """Accuracies are maximised, losses minimised."""
    return "max" if metric.endswith("acc") else "min"


@dataclass(frozen=True)
class Objective:
    """What a choice is made by: a metric, and whether its largest or its smallest value is best."""

    metric: str
    mode: Mode

    @property
    def sign(self) -> int:
        """1 or -1: `sign * value` is larger for a better value."""
        return 1 if self.mode == "max" else -1

    def is_better(self, value: float, other: float | None) -> bool:
        """True if `value` is finite and strictly better than `other`; a tie is not better."""
        return math.isfinite(value) and (other is None or self.sign * value > self.sign * other)
