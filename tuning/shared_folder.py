"""A folder that all nodes of a cluster are to see: each is asked, by a worker of its own, before anything is made."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
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
    try:
        probe.mkdir(parents=True)
        (probe / "driver").write_text(probe.name, encoding="utf-8")
        problems = [
            Problem(where, "a folder that every node sees", f"{folder}, and node {address}: {found}", hint)
            for address, found in asked_of_all(probe, nodes)
            if found
        ]
    except OSError as error:
        raise StorageError(f"{folder}: `a folder that can be written` must hold, but got: {error.strerror}.") from None
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    if problems:
        raise InputError(*problems)


def asked_of_all(probe: Path, nodes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each node's address, and what keeps it and this process from seeing the same; nothing where all is well."""
    there = {name: NodeAffinitySchedulingStrategy(name, soft=False) for name in nodes}
    ask = ray.remote(num_cpus=0)(sees)
    asked = {name: ask.options(scheduling_strategy=there[name]).remote(str(probe), name) for name in nodes}
    for name, answer in asked.items():
        try:
            found = ray.get(answer, timeout=PROBE_S)
        except ray.exceptions.RayError as error:
            found = f"no answer: {str(error).splitlines()[0]}"
        if not found and not written_by(probe / name, probe.name):
            found = "what it wrote is not here"
        yield nodes[name], found


def sees(probe: str, name: str) -> str:
    """In a worker: what keeps it from reading what the driver wrote and from writing beside it; nothing where all is well."""
    try:
        if (Path(probe) / "driver").read_text(encoding="utf-8") != Path(probe).name:
            return "another file is there"
        (Path(probe) / name).write_text(Path(probe).name, encoding="utf-8")
    except OSError as error:
        return str(error.strerror)
    return ""


def written_by(path: Path, text: str) -> bool:
    """Whether `text` is to be read there, now or soon."""
    end = time.monotonic() + SEEN_S
    while time.monotonic() < end:
        try:
            if path.read_text(encoding="utf-8") == text:
                return True
        except OSError:
            pass
        time.sleep(0.2)
    return False
