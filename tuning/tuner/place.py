"""Where a search runs: on this machine, or on a cluster that is joined; and the folder that its
workers write to.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import optuna

from text_recognizer.errors import InputError, Problem, RunError, StorageError
from tuning.callbacks.console import SearchConsole
from tuning.ray_backend.local_cluster import Cluster, own_cluster
from tuning.run.files import Summary
from tuning.run.folder import RunFolder, name_problem
from tuning.run.options import Options
from tuning.run.reading import check_plain, read_existing, read_whole, write_text
from tuning.run.resources import Slots
from tuning.study.optuna_record import get_attr
from tuning.verification import preflight

MARK = "run"  # the file in a folder for workers that says whose it is


@dataclass(frozen=True)
class Place:
    """How many trials fit, and what has the Ray run that runs them."""

    slots: Slots
    start: Callable[[], AbstractContextManager[Cluster]]


@contextmanager
def place(
    options: Options, trials: int, console: SearchConsole, shared: Path, *, resuming: bool = False
) -> Iterator[Place]:
    """This machine, on which nothing is started yet, or the cluster at `--address`, which is joined
    within the block.

    Args:
        shared: the folder that all workers write to; it is made where it is missing.

    Raises:
        InputError: it cannot hold a trial, cannot be joined, or its nodes do not share the folder.
    """
    if not options.address:
        node = preflight.machine()
        slots = options.slots([node], trials)
        yield Place(
            slots,
            partial(
                own_cluster,
                dashboard=options.dashboard,
                num_cpus=int(node.cpus),
                num_gpus=int(node.gpus),
            ),
        )
        return
    from tuning.ray_backend.remote_cluster import (
        joined_cluster,  # what asks a cluster is of no use on one machine, and takes time to import
    )

    console.tell(f"joining Ray at {options.address} …")
    with joined_cluster(options.address, console.note) as cluster:
        nodes = cluster.nodes()
        slots = options.slots(nodes, trials)
        has = (
            f"{sum(node.cpus for node in nodes):g} CPUs, {sum(node.gpus for node in nodes):g} GPUs"
        )
        console.tell(f"cluster   {len(nodes)} node{'s' * (len(nodes) != 1)}, {has}")
        where = "--checkpoint-dir" if options.checkpoint_dir else "--runs-dir"
        hint = (
            "Name a folder of a shared file system with --checkpoint-dir; it is the same "
            "path on all nodes."
        )
        if resuming:
            where, hint = "--address", "Mount it there under the same path, or leave --address out."
        cluster.check_shared(shared.resolve(), where, hint, slots)
        yield Place(slots, lambda: nullcontext(cluster))


def nowhere(folder: RunFolder) -> Place:
    """Of a search that has no trial to run: the slots that it had, whatever machine this is."""
    try:
        had = read_existing(folder.summary, Summary).resources
        slots = Slots(had.slots, had.cpus_per_trial, had.gpus_per_trial)
    except RunError:
        slots = Slots(1, 1, 0.0)
    return Place(slots, own_cluster)


def begin_shared(folder: RunFolder, shared: Path) -> RunFolder:
    """The run with a folder of its name in `shared` for what its workers write. Raises
    `InputError`, `StorageError`.
    """
    path = shared / folder.name
    try:
        shared.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path):
            rule = "a folder that has none of the run's name"
            raise InputError(Problem("--checkpoint-dir", rule, str(path), "Choose another --name."))
        path.mkdir(mode=0o700)
    except OSError as error:
        raise StorageError(
            f"{path}: `a folder that can be made` must hold, but got: {error.strerror}."
        ) from None
    write_text(path / MARK, secrets.token_hex(16))
    return replace(folder, shared=path)


def find_shared(folder: RunFolder, shared: Path, record: optuna.Study) -> RunFolder:
    """The same at a resume.

    Raises:
        RunError: another folder is there, or none: its file system is not mounted, say, or the
            record is a stranger's.
    """
    path = shared / record.study_name
    if not shared.is_absolute() or name_problem(record.study_name) or path.is_symlink():
        raise RunError(
            f"{path}: `a run's folder in an absolute one` must hold, but it is not. The run is "
            "damaged."
        )
    found = mark_of(path)
    if not found or found != get_attr(record, "mark"):
        raise RunError(
            f"{path}: `the folder of this run's checkpoints` must hold, but it is not. Is its "
            "file system mounted?"
        )
    try:
        check_plain(path)
    except OSError as error:
        raise RunError(
            f"{path}: `a folder that can be read` must hold, but got: {error.strerror}."
        ) from None
    return replace(folder, shared=path)


def mark_of(path: Path) -> str:
    """What says whose the folder is; nothing where it is nobody's."""
    try:
        return read_whole(path / MARK).decode()
    except (OSError, ValueError):
        return ""


def resume_flags(options: Options) -> str:
    """What the command of a resume needs beside the run."""
    return f" --address {options.address}" if options.address else ""
