"""How many trials run at once: what each asks for against what the machine or cluster has. Pure
arithmetic, no Ray.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from text_recognizer.errors import InputError, Problem

# Ray counts in ten-thousandths; below a hundredth a trial has no memory to work in
SMALLEST_SHARE = 0.01


@dataclass(frozen=True)
class Node:
    """What one machine offers to trials."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Slots:
    """What each trial gets, and how many run at once. `note` is for the user where it is not what
    was asked for.

    `most` is how many could run at once if there were more room; None where there will be none.
    """

    count: int
    cpus: int
    gpus: float
    note: str = ""
    most: int | None = None

    @property
    def each(self) -> str:
        return f"{self.cpus} CPU, {self.gpus:g} GPU" if self.gpus else f"{self.cpus} CPU"

    def __str__(self) -> str:
        gpu = f"{self.gpus:g} GPU" if self.gpus else "no GPU"
        at_once = (
            f"{self.count} at once"
            if self.count
            else "as many at once as the cluster grows to hold"
        )
        return f"{at_once} ({self.cpus} CPU each, {gpu})"

    def as_plain(self) -> dict[str, Any]:
        return {"slots": self.count, "cpus_per_trial": self.cpus, "gpus_per_trial": self.gpus}


def request_problems(gpus: float | None, cpus: int | None, concurrent: int | None) -> list[Problem]:
    """What no machine could satisfy, told before anything is started."""
    problems = []
    if gpus is not None and not (gpus == 0 or SMALLEST_SHARE <= gpus <= 1):
        hint = "One trial uses a fraction of a GPU, one whole GPU, or none."
        problems.append(
            Problem(
                "--gpus-per-trial", f"0 or {SMALLEST_SHARE} <= gpus-per-trial <= 1", str(gpus), hint
            )
        )
    for flag, value in (("--cpus-per-trial", cpus), ("--max-concurrent", concurrent)):
        if value is not None and value < 1:
            problems.append(Problem(flag, f"{flag[2:]} >= 1", str(value)))
    return problems


def plan(
    nodes: Sequence[Node],
    *,
    gpus: float | None = None,
    cpus: int | None = None,
    concurrent: int | None = None,
    require_gpu: bool = False,
    grows: bool = False,
) -> Slots:
    """Slots for these requests on these nodes.

    Args:
        gpus: share of a GPU per trial; None is a whole one where there are GPUs, else none.
        cpus: CPUs per trial; None is one.
        concurrent: at most so many trials at once.
        require_gpu: refuse instead of falling back to the CPUs.
        grows: nodes are added where trials wait, so that a request may be for one that is not there
            yet.

    Raises:
        InputError: no node can ever hold a trial.
    """
    any_gpu = any(node.gpus >= 1 for node in nodes)
    if grows:
        share = gpus if gpus is not None else float(any_gpu or require_gpu)
        waits = share and not any_gpu and not require_gpu
        note = (
            (
                "no node has a GPU yet, and the trials wait for one; --gpus-per-trial 0 "
                "searches on "
                "the CPUs"
            )
            if waits
            else ""
        )
        slots = Slots(0, cpus or 1, share, note, most=concurrent)
        count = room(nodes, slots)
        return replace(slots, count=min(count, concurrent or count))
    if require_gpu and not any_gpu:
        raise InputError(
            Problem(
                "--require-gpu",
                "a GPU on some node",
                "none",
                "Leave the flag out to search on the CPUs.",
            )
        )
    wanted_gpus = (1.0 if any_gpu else 0.0) if gpus is None else gpus
    note = "no GPU here: searching on the CPUs" if wanted_gpus and not any_gpu else ""
    share = wanted_gpus if any_gpu else 0.0
    each = cpus or 1
    slots = Slots(0, each, share, note, most=concurrent)
    count = room(nodes, slots)
    if count == 0:
        most = max((node.cpus for node in nodes if node.gpus >= 1 or not share), default=0)
        if not most:
            rule, hint = (
                "a node with a CPU for trials",
                "Start one first: ray start --address=HOST:PORT",
            )
            raise InputError(Problem("--address", rule, "none that is up", hint))
        which = "node with a GPU" if share and len(nodes) > 1 else "node"
        raise InputError(
            Problem(
                "--cpus-per-trial",
                f"cpus-per-trial <= {most:g}, the CPUs of the largest {which}",
                str(each),
            )
        )
    return replace(slots, count=min(count, concurrent or count))


def room(nodes: Sequence[Node], slots: Slots) -> int:
    """How many trials these nodes hold; each has to fit on one."""
    return sum(fits(node, slots.gpus, slots.cpus) for node in nodes)


def fits(node: Node, share: float, cpus: int) -> int:
    """How many trials one node holds."""
    by_cpu = math.floor(node.cpus / cpus)
    per_gpu = math.floor(1 / share + 1e-9) if share else 0
    return min(by_cpu, math.floor(node.gpus) * per_gpu) if share else by_cpu
