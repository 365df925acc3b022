"""Checks, before anything is made, that all nodes of a cluster see the same folder."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

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
    probe = folder / f".shared-{secrets.token_hex(8)}"
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        probe.mkdir(parents=True)
        (probe / "driver").write_text(probe.name, encoding="utf-8")
        problems = [
            Problem(where, "a folder that every node sees", f"{folder}; {found}", hint)
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


def ask_nodes(probe: Path, nodes: Mapping[str, str]) -> list[str]:
    """One sentence for each node that does not see the same folder."""
    answers = {
        name: ray.remote(answer_driver)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False))
        .remote(str(probe), name)
        for name in nodes
    }
    found = []
    for name, answer in answers.items():
        try:
            error = ray.get(answer, timeout=PROBE_S)
        except ray.exceptions.RayError as failure:
            error = f"no answer: {str(failure).splitlines()[0]}"
        if not error and (error := read_error(probe / name, probe.name)):
            error = f"what it wrote is not here: {error}"
        if error:
            found.append(f"node {nodes[name]}: {error}")
    return found


def answer_driver(probe: str, name: str) -> str:
    """In a worker: read what the driver wrote, and write beside it. Returns an error, or ""."""
    folder = Path(probe)
    if why := read_error(folder / "driver", folder.name):
        return why
    try:
        (folder / name).write_text(folder.name, encoding="utf-8")
    except OSError as error:
        return str(error.strerror)
    return ""


def read_error(path: Path, text: str) -> str:
    """Why `text` cannot be read from a file, now or soon; "" if it can."""
    end = time.monotonic() + SEEN_S
    while True:
        try:
            if path.read_text(encoding="utf-8") == text:
                return ""
            error = "another file is there"
        except (OSError, ValueError) as failure:
            error = getattr(failure, "strerror", None) or str(failure)
        if time.monotonic() >= end:
            return error
        time.sleep(0.2)
