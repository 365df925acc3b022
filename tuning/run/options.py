"""How a search is run, in contrast to what is searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from text_recognizer.errors import InputError
from tuning.run.resources import Node, Slots, no_room, room


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
    # A resume does not take the address over: the cluster of then may not be there any more.
    address: str | None = None  # of a Ray cluster to join
    dashboard: bool = True
    keep_alive: bool = False  # Ray and its dashboard stay up until the user ends them
    quiet: bool = False

    def slots(self, nodes: Sequence[Node], trials: int) -> Slots:
        """Plan how many of the `trials` run at once on these nodes, and what each of them gets.

        With `address` and `max_concurrent`, trials may wait for nodes that are not there yet.

        Raises:
            InputError: no node can hold a trial, and none is waited for.
        """
        # A node with less than one GPU has none for us: a trial's share is of one whole GPU.
        any_gpu = any(node.gpus >= 1 for node in nodes)
        waits = bool(self.address and self.max_concurrent)
        if self.require_gpu and not any_gpu and not waits:
            raise InputError(
                "--require-gpu: no node has a GPU. Leave the flag out to search on the CPUs."
            )
        share, note = self.gpus_per_trial, ""
        if share is None:
            share = float(any_gpu or self.require_gpu)
        if share and not any_gpu:
            # Trials that wait keep their share: nodes with a GPU may join later.
            note = (
                "no node has a GPU: trials wait for one (--gpus-per-trial 0 searches on the CPUs)"
            )
            if not waits:
                share, note = 0.0, "no GPU here: searching on the CPUs"
        most = min(self.max_concurrent or trials, trials)
        # `room` needs the CPUs and the share of each trial, so the slots are counted after that.
        slots = Slots(0, self.cpus_per_trial or 1, share, note, most, waits)
        count = room(nodes, slots)
        if not count and not waits:
            raise InputError(no_room(nodes, slots))
        return replace(slots, count=min(count, most))


@dataclass(frozen=True)
class NewRun:
    """What a new run is called, where it is kept, and what it starts from.

    Args:
        space_name: of the space file. Ray's workers are called after it.
        runs_dir: the folder of all runs.
        name: of the run; None makes one from `space_name` and the time.
        data_dir: the folder of data sets; None is the usual one.
        warm_start: an older run whose results the sampler learns from.
        storage: a PostgreSQL database for the study; None keeps it in the run's folder.
    """

    space_name: str
    runs_dir: Path = Path("runs")
    name: str | None = None
    data_dir: str | None = None
    warm_start: Path | None = None
    storage: str | None = None
