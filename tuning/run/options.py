"""How a search is run, apart from what is searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuning.run.resources import Node, Slots, plan


@dataclass(frozen=True)
class Options:
    """Kept in the study, so that a resume goes on in the same way. Durations are texts such as
    `10m`.
    """

    gpus_per_trial: float | None = None
    cpus_per_trial: int | None = None
    max_concurrent: int | None = None
    require_gpu: bool = False
    retries: int = 1
    keep: int = 3
    stall_limit: str = "10m"
    time_budget: str | None = None  # of a resume; a search's own stands in its space
    checkpoint_dir: str | None = None  # absolute; where the workers of this and other runs write
    # of a Ray cluster to join; of this process alone: clusters come and go
    address: str | None = None
    dashboard: bool = True
    keep_alive: bool = False  # Ray and its dashboard outlive the search until the user ends them
    quiet: bool = False

    def slots(self, nodes: Sequence[Node], trials: int, *, grows: bool = False) -> Slots:
        """How many trials of so many run at once on these nodes; see `plan`. Raises `InputError`
        where none can hold one.
        """
        return plan(
            nodes,
            gpus=self.gpus_per_trial,
            cpus=self.cpus_per_trial,
            concurrent=min(self.max_concurrent or trials, trials),
            require_gpu=self.require_gpu,
            grows=grows,
        )
