"""Follows a search with a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tuning.trials.trial import Trial


@dataclass(frozen=True)
class Calls:
    """A callback of a study that calls a function with each change of a trial."""

    function: Callable[[Trial], object]

    def on_change(self, trial: Trial) -> None:
        self.function(trial)
