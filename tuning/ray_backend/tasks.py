"""Runs a function in Ray's workers: the trainings of the final script."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from text_recognizer.errors import NoResultError, RecogniserError, StorageError
from tuning.ray_backend.deaths import describe_full_memory, oom_kills, read_death
from tuning.run import Slots
from tuning.worker import DISK_ERRORS, describe_error

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
        shared: arguments of all calls. The workers share the memory of large arrays.
        slots: the CPUs and the share of a GPU for each call.
        on_done: called with each call and its result as it comes.

    Returns:
        The results in the order of the calls.

    Raises:
        RecogniserError: the first error of a call; its message begins with the call. The other
            calls go on until the cluster ends.
    """
    # Ray ends a process after one call on a GPU, unless told not to, and the next has to import
    # torch again. But a process stays on its first card, and Ray may give its next call another one
    # (ray-project/ray#3245). So processes are reused where there is one card.
    several = ray.cluster_resources().get("GPU", 0) > 1
    task = ray.remote(
        num_cpus=slots.cpus,
        num_gpus=slots.gpus,
        max_calls=1 if slots.gpus and several else 0,
        max_retries=1,  # if its process died, not if it raised
    )(function)
    references = {name: ray.put(value) for name, value in shared.items()}
    started = {task.remote(call, **references): call for call in calls}
    results: dict[ray.ObjectRef[Answer], Answer] = {}
    waiting, kills = list(started), oom_kills()
    while waiting:
        (done,), waiting = ray.wait(waiting)  # returns as soon as one call has ended
        try:
            results[done] = ray.get(done)
        except RayError as error:
            raise task_error(str(started[done]), error, kills) from None
        on_done(started[done], results[done])
    return [results[one] for one in started]


def task_error(call: str, error: RayError, kills: int = 0) -> RecogniserError:
    """The error of a call as one line, without Ray's traceback.

    Args:
        kills: `oom_kills()` when the calls began.
    """
    if not isinstance(error, RayTaskError):
        if memory := read_death(str(error), kills).memory:
            return StorageError(f"{call}: {describe_full_memory(memory)}.")
        return NoResultError(f"{call}: its process died twice ({type(error).__name__}).")
    cause = error.cause  # the exception of the worker
    if isinstance(cause, RecogniserError):
        return type(cause)(f"{call}: {cause}")
    if isinstance(cause, OSError) and cause.errno in DISK_ERRORS:
        return StorageError(f"{call}: the disk cannot be written: {describe_error(cause)}")
    return NoResultError(f"{call}: the training failed: {describe_error(cause)}")
