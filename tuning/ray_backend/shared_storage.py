"""Checks that all nodes of a cluster see the same folder, before a run is created."""

import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from text_recognizer.errors import InputError, Problem
from tuning.ray_backend.address import attempts
from tuning.run import Node, Slots, room, unwritable
from tuning.worker import describe_error

PROBE_S = 120  # a busy node takes long to start its first worker
SEEN_S = 3  # a file system may be slow to show what another node wrote


def check_shared(folder: Path, nodes: Sequence[Node], slots: Slots, where: str, hint: str) -> None:
    """Check that every node with room for a trial reads and writes the same folder as this process.

    Args:
        folder: is created if it is missing, and removed again if a node does not see it.
        where, hint: for the message: the flag that names the folder, and what to do.

    Raises:
        InputError: one problem for each node that does not see the folder.
        StorageError: this process cannot write there.
    """
    # No other folder has this name, so a node that finds it sees the same file system.
    probe = folder / f".shared-{secrets.token_hex(8)}"
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        probe.mkdir(parents=True)
        problems = [
            Problem(where, "a folder that every node sees", f"{folder}, and {found}", hint)
            for found in ask_nodes(probe, [node for node in nodes if room([node], slots)])
        ]
    except OSError as error:
        raise unwritable(folder, error) from None
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    if problems:
        with suppress(OSError):  # another process has written to the folder by now
            for path in missing:
                path.rmdir()
        raise InputError(*problems)


def ask_nodes(probe: Path, nodes: Sequence[Node]) -> Iterator[str]:
    """One line for each node that does not see the folder, with the reason."""
    # Without CPUs of its own the task also runs where trials of others use all of them.
    task = ray.remote(num_cpus=0)(error_of)
    answers = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        answers.append(task.options(scheduling_strategy=there).remote((probe / node.id).touch))
    for node, answer in zip(nodes, answers, strict=True):  # all nodes work on it at once
        try:
            error = ray.get(answer, timeout=PROBE_S)
        except ray.exceptions.RayError as failure:
            error = f"no answer: {describe_error(failure)}"
        # This process must see the node's file, too.
        if error := error or error_of((probe / node.id).stat):
            yield f"node {node.address}: {error}"


def error_of(step: Callable[[], Any]) -> str:
    """Try a step for a while. Returns its last error, or "" if it succeeds."""
    reason = ""
    for _ in attempts(SEEN_S):
        try:
            step()
            return ""
        except OSError as error:
            reason = str(error.strerror)
    return reason
