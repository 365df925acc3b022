"""Runs a function in Ray's workers: the trainings of the final script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from text_recognizer.errors import NoResultError, RecogniserError, StorageError
from tuning.run.resources import Slots
from tuning.worker.guard import DISK_ERRORS, describe_error

Call = TypeVar("Call")
Answer = TypeVar("Answer")


def run_tasks(
    function: Callable[..., Answer],
    calls: Sequence[Call],
    shared: Mapping[str, Any],
    slots: Slots,
    on_done: Callable[[Call, Answer], None],
) -> list[Answer]:
    """Run `function(call, **shared)` for each call, as many at once as there is room for.

    Args:
        function: importable by the workers.
        shared: arguments of all calls; large arrays go through the object store once.
        slots: the CPUs and the share of a GPU for each call.
        on_done: called with each call and its result as it comes.

    Returns:
        The results in the order of the calls.

    Raises:
        RecogniserError: the first error of a call, the call named first. The other calls go on
            until the cluster ends.
    """
    # A worker that is killed from outside is tried once more; an exception is not.
    task = ray.remote(num_cpus=slots.cpus, num_gpus=slots.gpus, max_retries=1)(function)
    references = {name: ray.put(value) for name, value in shared.items()}
    waiting = {task.remote(call, **references): place for place, call in enumerate(calls)}
    results: dict[int, Answer] = {}
    while waiting:
        (done, *_), _ = ray.wait(list(waiting))  # one at a time, as soon as it has ended
        place = waiting.pop(done)
        try:
            results[place] = ray.get(done)
        except RayError as error:
            raise task_error(str(calls[place]), error) from None
        on_done(calls[place], results[place])
    return [results[place] for place in range(len(calls))]


def task_error(call: str, error: RayError) -> RecogniserError:
    """The reason for which a call has no result, in one line and without Ray's traceback."""
    if not isinstance(error, RayTaskError):
        return NoResultError(f"{call}: its process died twice ({type(error).__name__}).")
    cause = error.cause  # the exception of the worker
    if isinstance(cause, RecogniserError):
        return type(cause)(f"{call}: {cause}")
    if isinstance(cause, OSError) and cause.errno in DISK_ERRORS:
        return StorageError(f"{call}: the disk cannot be written: {describe_error(cause)}")
    return NoResultError(f"{call}: the training failed: {describe_error(cause)}")
