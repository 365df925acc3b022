"""How a search is run, in contrast to what is searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuning.run.resources import Node, Slots, plan


@dataclass(frozen=True)
class Options:
    """The options of a search. The study records them, so that a resume goes on in the same way.

    Durations are texts such as `10m`.
    """

    gpus_per_trial: float | None = None
    cpus_per_trial: int | None = None
    max_concurrent: int | None = None
    require_gpu: bool = False
    retries: int = 1
    keep: int = 3
    stall_limit: str = "10m"
    time_budget: str | None = None  # of a resume; a new search has it in its space
    checkpoint_dir: str | None = None  # absolute; workers write to a folder in it
    address: str | None = None  # of a Ray cluster to join; not taken over by a resume
    dashboard: bool = True
    keep_alive: bool = False  # Ray and its dashboard stay up until the user ends them
    quiet: bool = False

    def slots(self, nodes: Sequence[Node], trials: int) -> Slots:
        """How many trials of so many run at once on these nodes; see `plan`. Raises `InputError`
        where none can hold one.
        """
        return plan(
            nodes,
            gpus=self.gpus_per_trial,
            cpus=self.cpus_per_trial,
            concurrent=min(self.max_concurrent or trials, trials),
            require_gpu=self.require_gpu,
            waits=bool(self.address and self.max_concurrent),
        )
