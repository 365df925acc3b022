"""Checks, before anything is made, that all nodes of a cluster see the same folder."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from text_recognizer.errors import InputError, Problem
from tuning.run.reading import unwritable

PROBE_S = 120  # a first worker on a busy node
SEEN_S = 3  # a file system may be slow to show what another node wrote


def check_shared(folder: Path, nodes: Mapping[str, str], where: str, hint: str) -> None:
    """Check that every node reads and writes the same folder as this process.

    Args:
        folder: is created if it is missing, and removed again if it is refused.
        nodes: Ray's id of each node, and its address.
        where, hint: for the message: the flag that names the folder, and what to do.

    Raises:
        InputError: with each node that does not see the folder.
        StorageError: this process cannot write there.
    """
    # no other folder has this name, so that a node that finds it sees the same file system
    probe = folder / f".shared-{secrets.token_hex(8)}"
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        probe.mkdir(parents=True)
        (probe / "driver").touch()
        problems = [
            Problem(where, "a folder that every node sees", f"{folder}, and {found}", hint)
            for found in ask_nodes(probe, nodes)
        ]
    except OSError as error:
        raise unwritable(folder, error) from None
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    if problems:
        with suppress(OSError):  # something else is in it by now
            for path in missing:
                path.rmdir()
        raise InputError(*problems)


def ask_nodes(probe: Path, nodes: Mapping[str, str]) -> Iterator[str]:
    """Each node that does not see the folder, and why."""
    task = ray.remote(num_cpus=0)(copy_in)
    answers = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        answers[node] = task.options(scheduling_strategy=there).remote(probe, node)
    for node, answer in answers.items():
        try:
            error = ray.get(answer, timeout=PROBE_S)
        except ray.exceptions.RayError as failure:
            error = f"no answer: {str(failure).splitlines()[0]}"
        if error := error or error_of((probe / node).read_bytes):
            yield f"node {nodes[node]}: {error}"


def copy_in(probe: Path, node: str) -> str:
    """In a worker: read what the driver wrote and write beside it. Returns an error, or ""."""
    return error_of(partial(shutil.copyfile, probe / "driver", probe / node))


def error_of(step: Callable[[], Any]) -> str:
    """Why the step fails, also when it is tried again for a while; "" if it succeeds."""
    end = time.monotonic() + SEEN_S
    while True:
        try:
            step()
            return ""
        except OSError as error:
            if time.monotonic() >= end:
                return str(error.strerror)
        time.sleep(0.2)
