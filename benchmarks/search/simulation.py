"""Spends a budget of epochs on a task: what decides is a real policy, only training is replaced."""

from __future__ import annotations

import importlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, Protocol

from benchmarks.search.tasks import Floats, Params, Task, tasks
from text_recognizer.seeds import seed_of

BUDGETS = (5, 10, 20)  # full trainings, of all slots together


@dataclass
class Turn:
    """A trial that is handed to a slot: a new one, or one that goes on.

    Args:
        number: the same each time that the trial is handed out.
        epochs: what it has been trained for.
    """

    number: int
    params: Params
    epochs: int = 0


class Policy(Protocol):
    """Decides which trial a free slot trains, and for how long."""

    def next(self) -> Turn:
        """The trial for a free slot; there always is one."""

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Take the value of an epoch. Returns whether the trial keeps its slot; after the last
        epoch it does not, whatever is returned.
        """


Make = Callable[[Task, int, int], Policy]  # of the task, the slots and the seed


@dataclass(frozen=True)
class Job:
    """One simulation."""

    arm: str
    suite: str
    task: str
    slots: int
    seed: int


@dataclass
class Outcome:
    """What was seen.

    Args:
        best: the best value at each budget.
        configs: points that had an epoch.
        full: trials that were trained to their last epoch.
    """

    best: list[float]
    configs: int
    full: int


def simulate(task: Task, policy: Policy, slots: int) -> Outcome:
    """Spend the largest budget. Epochs are equally long, so that slots report in turn: first in,
    first out.
    """
    lookup, curves, lengths = task.curves(), dict[int, Floats](), dict[int, int]()
    objective, best, seen = task.objective, None, []
    working = deque(policy.next() for _ in range(slots))
    for _ in range(max(BUDGETS) * task.max_epochs):
        turn = working.popleft()
        if turn.number not in curves:
            curves[turn.number] = lookup(turn.params)
        turn.epochs += 1
        lengths[turn.number] = turn.epochs
        value = float(curves[turn.number][turn.epochs - 1])
        best = value if objective.is_better(value, best) else best
        seen.append(best)
        goes_on = policy.report(turn.number, turn.epochs, value)
        working.append(turn if goes_on and turn.epochs < task.max_epochs else policy.next())
    found = [seen[budget * task.max_epochs - 1] for budget in BUDGETS]
    full = sum(epochs == task.max_epochs for epochs in lengths.values())
    return Outcome([value for value in found if value is not None], len(lengths), full)


def arms() -> dict[str, Make]:
    """The policies of this environment: Syne Tune's, or all others."""
    module = "syne_tune_arms" if find_spec("syne_tune") else "arms"
    found = importlib.import_module(f"benchmarks.search.{module}")
    found.quiet()
    made: dict[str, Make] = found.ARMS
    return made


def run(job: Job) -> dict[str, Any]:
    """Simulate. Returns the job, its outcome and the CPU seconds as plain values."""
    task = tasks(job.suite)[job.task]
    # not of the arm, so that all have the same seed; Syne Tune takes 31 bits
    policy = arms()[job.arm](task, job.slots, seed_of("search", job.task, job.seed) % 2**31)
    begun = time.process_time()
    outcome = simulate(task, policy, job.slots)
    return asdict(job) | asdict(outcome) | {"cpu": round(time.process_time() - begun, 2)}
