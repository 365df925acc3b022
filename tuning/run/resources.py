"""Counts how many trials fit on the machine or the cluster."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from text_recognizer.errors import Problem

# Ray allows ten-thousandths of a GPU, but with less than a hundredth a trial has too little memory.
SMALLEST_SHARE = 0.01


@dataclass(frozen=True)
class Node:
    """The CPUs and GPUs that trials may use on one machine; in a cluster, its id and address.

    `problem` says which further GPUs cannot be used, and why.
    """

    cpus: float
    gpus: float
    id: str = ""
    address: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Slots:
    """How many trials run at once, and the resources of each.

    Args:
        count: how many trials run at once.
        cpus: CPUs of each trial.
        gpus: share of a GPU of each trial, in [0, 1].
        note: tells the user where the slots differ from the request.
        most: how many may run at once if nodes join; None means no limit.
        waits: whether up to `most` trials are handed out that wait for nodes to join.
    """

    count: int
    cpus: int
    gpus: float
    note: str = ""
    most: int | None = None
    waits: bool = False

    def __str__(self) -> str:
        gpu = f"{self.gpus:g} GPU" if self.gpus else "no GPU"
        at_once = self.count or f"up to {self.most}"
        return f"{at_once} at once ({self.cpus} CPU each, {gpu})"


def request_problems(gpus: float | None, cpus: int | None, concurrent: int | None) -> list[Problem]:
    """The problems of values that no machine can serve. They are found before anything starts."""
    problems = []
    # `not` around the whole rule, because NaN makes each comparison false
    if gpus is not None and not (gpus == 0 or SMALLEST_SHARE <= gpus <= 1):
        rule = f"0 or {SMALLEST_SHARE} <= gpus-per-trial <= 1"
        hint = "One trial uses a fraction of a GPU, one whole GPU, or none."
        problems.append(Problem("--gpus-per-trial", rule, str(gpus), hint))
    for name, value in (("cpus-per-trial", cpus), ("max-concurrent", concurrent)):
        if value is not None and value < 1:
            problems.append(Problem(f"--{name}", f"{name} >= 1", str(value)))
    return problems


def no_room(nodes: Sequence[Node], slots: Slots) -> Problem | str:
    """The reason why no node can hold a trial."""
    # Only nodes that have a GPU count if trials need one, so the rule names the largest of those.
    most = max((node.cpus for node in nodes if node.gpus >= 1 or not slots.gpus), default=0)
    if not most:
        return (
            "--address: no node that is up has a CPU for trials. Start one (ray start "
            "--address=HOST:PORT), or wait for one with --max-concurrent N."
        )
    which = "node with a GPU" if slots.gpus and len(nodes) > 1 else "node"
    rule = f"cpus-per-trial <= {most:g}, the CPUs of the largest {which}"
    return Problem("--cpus-per-trial", rule, str(slots.cpus))


def room(nodes: Sequence[Node], slots: Slots) -> int:
    """How many trials these nodes hold. Each trial runs on one node and uses one GPU at most."""
    count = 0
    for node in nodes:
        fit = math.floor(node.cpus / slots.cpus)
        if slots.gpus:
            fit = min(fit, gpu_places(node, slots.gpus))
        count += fit
    return count


def gpu_places(node: Node, share: float) -> int:
    """How many trials with this share of a GPU, above 0, the node's GPUs hold."""
    # Whole trials per GPU, because a trial cannot use what is left of two GPUs. Without the 1e-9
    # only 5 trials would fit with a share of 0.166666666666667.
    return math.floor(node.gpus) * math.floor(1 / share + 1e-9)


def idle_gpus(nodes: Sequence[Node], slots: Slots) -> str:
    """What to do if the GPUs hold more trials than the CPUs; empty if the CPUs are no limit."""
    places = sum(gpu_places(node, slots.gpus) for node in nodes) if slots.gpus else 0
    if not 0 < slots.count < min(places, slots.most or places):
        return ""
    # Rounded down, so that as many still fit.
    each = math.floor(1000 / math.ceil(slots.count / sum(int(node.gpus) for node in nodes))) / 1000
    advice = "more CPUs would use all GPUs"
    if slots.cpus > 1:
        advice = f"--cpus-per-trial {slots.cpus - 1} or less runs more"
    elif each > slots.gpus:
        advice = f"--gpus-per-trial {each:g} gives each more of a GPU"
    return f"the CPUs hold {slots.count} at once, the GPUs {places}: {advice}"
