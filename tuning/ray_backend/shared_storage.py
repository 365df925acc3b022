"""A folder that all nodes of a cluster are to see: each is asked, by a worker of its own, before
anything is made.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from text_recognizer.errors import InputError, Problem, StorageError

PROBE_S = 120  # a first worker on a busy node
SEEN_S = 3  # a file system may be slow to show what another node wrote


def check_shared(folder: Path, nodes: Mapping[str, str], where: str, hint: str) -> None:
    """See that every node reads and writes the same folder as this process.

    Args:
        folder: is made where it is missing.
        nodes: Ray's id of each, and its address.
        where, hint: for the message: what names the folder, and what to do.

    Raises:
        InputError: with each node that does not.
        StorageError: this process cannot write there.
    """
    probe = folder / f".shared-{secrets.token_hex(8)}"
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        probe.mkdir(parents=True)
        (probe / "driver").write_text(probe.name, encoding="utf-8")
        problems = [
            Problem(
                where,
                "a folder that every node sees",
                f"{folder}, and node {address}: {found}",
                hint,
            )
            for address, found in asked_of_all(probe, nodes)
            if found
        ]
    except OSError as error:
        raise StorageError(
            f"{folder}: `a folder that can be written` must hold, but got: {error.strerror}."
        ) from None
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    if problems:
        with suppress(OSError):  # something else is in it by now
            for path in missing:
                path.rmdir()
        raise InputError(*problems)


def asked_of_all(probe: Path, nodes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each node's address, and what keeps it and this process from seeing the same; nothing
    where all is well.
    """
    there = {name: NodeAffinitySchedulingStrategy(name, soft=False) for name in nodes}
    ask = ray.remote(num_cpus=0)(sees)
    asked = {
        name: ask.options(scheduling_strategy=there[name]).remote(str(probe), name)
        for name in nodes
    }
    for name, answer in asked.items():
        try:
            found = ray.get(answer, timeout=PROBE_S)
        except ray.exceptions.RayError as error:
            found = f"no answer: {str(error).splitlines()[0]}"
        if not found and (why := unread(probe / name, probe.name)):
            found = f"what it wrote is not here: {why}"
        yield nodes[name], found


def sees(probe: str, name: str) -> str:
    """In a worker: what keeps it from reading what the driver wrote and from writing beside it;
    nothing where all is well.
    """
    folder = Path(probe)
    if why := unread(folder / "driver", folder.name):
        return why
    try:
        (folder / name).write_text(folder.name, encoding="utf-8")
    except OSError as error:
        return str(error.strerror)
    return ""


def unread(path: Path, text: str) -> str:
    """What keeps `text` from being read there, now or soon; nothing where it is read."""
    end = time.monotonic() + SEEN_S
    while True:
        try:
            if path.read_text(encoding="utf-8") == text:
                return ""
            why = "another file is there"
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
        if time.monotonic() >= end:
            return why
        time.sleep(0.2)
