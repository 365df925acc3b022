"""The options of a search, and the request for a new run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from text_recognizer.errors import InputError
from tuning.run.resources import Node, Slots, idle_gpus, no_room, room


@dataclass(frozen=True)
class Options:
    """The options of a search. The study records them, so a resume uses the same ones.

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
    # A Ray cluster to join. A resume does not reuse it: that cluster may be gone.
    address: str | None = None
    dashboard: bool = True
    keep_alive: bool = False  # Ray and its dashboard stay up until the user ends them
    quiet: bool = False

    def slots(self, nodes: Sequence[Node], trials: int) -> Slots:
        """Plan how many of the `trials` run at once on these nodes, and the resources of each.

        With `address` and `max_concurrent`, trials may wait for nodes that are not there yet.

        Raises:
            InputError: no node can hold a trial, and none is waited for.
        """
        # A trial's share is of one whole GPU, so a node with half a GPU counts as one without.
        any_gpu = any(node.gpus >= 1 for node in nodes)
        waits = bool(self.address and self.max_concurrent)
        problem = "; ".join(node.problem for node in nodes if node.problem)
        if self.require_gpu and not any_gpu and not waits:
            why = f"no GPU here can be used: {problem}" if problem else "no node has a GPU"
            raise InputError(f"--require-gpu: {why}. Leave the flag out to search on the CPUs.")
        share = self.gpus_per_trial
        if share is None:  # GPUs that fail were meant to be used
            share = float(any_gpu or self.require_gpu or bool(problem))
        note = f"not all GPUs can be used: {problem}" if share and problem else ""
        if share and not any_gpu:
            why = f"no GPU here can be used: {problem}" if problem else "no GPU here"
            note = f"{why}: searching on the CPUs"
            if waits:  # a node with a GPU may join later, so the trials keep their share
                note = "no node has a GPU: trials wait for one (--gpus-per-trial 0 uses the CPUs)"
            else:
                share = 0.0
        most = min(self.max_concurrent or trials, trials)
        # `room` needs the resources of a trial, so the slots are counted after they are known
        slots = Slots(0, self.cpus_per_trial or 1, share, note, most, waits)
        count = room(nodes, slots)
        if not count and not waits:
            raise InputError(no_room(nodes, slots))
        slots = replace(slots, count=min(count, most))
        notes = [text for text in (note, idle_gpus(nodes, slots)) if text]
        return replace(slots, note="; ".join(notes))


@dataclass(frozen=True)
class NewRun:
    """The name, the folders and the starting point of a new run.

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
