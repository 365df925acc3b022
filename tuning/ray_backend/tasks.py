"""A function in Ray's workers, once for each of some calls: the final trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from text_recognizer.errors import NoResultError, RecogniserError, StorageError
from tuning.run.resources import Slots
from tuning.worker.guard import DISK, first_line

Call = TypeVar("Call")
Result = TypeVar("Result")


class Tasks(Generic[Call, Result]):
    """Runs a function in workers, once for each of some calls; what all calls share goes through
    the object store once.

    Args:
        function: called as `function(call, **shared)`; it is imported by the workers.
        slots: what each call gets.
    """

    def __init__(
        self, function: Callable[..., Result], slots: Slots, shared: Mapping[str, Any]
    ) -> None:
        self._body = ray.remote(num_cpus=slots.cpus, num_gpus=slots.gpus, max_retries=1)(function)
        self._shared = {name: ray.put(value) for name, value in shared.items()}

    def run(self, calls: Sequence[Call], on_done: Callable[[Call, Result], None]) -> list[Result]:
        """The results in the order of the calls; each is told to `on_done` when it is there.

        Raises:
            RecogniserError: the first that a call raised, or what became of it, with the call in
                front. The others go on until the cluster ends.
        """
        waiting = {
            self._body.remote(call, **self._shared): place for place, call in enumerate(calls)
        }
        results: dict[int, Result] = {}
        while waiting:
            (done, *_), _ = ray.wait(list(waiting))
            place = waiting.pop(done)
            try:
                results[place] = ray.get(done)
            except RayError as error:
                raise failure(str(calls[place]), error) from None
            on_done(calls[place], results[place])
        return [results[place] for place in range(len(calls))]


def failure(call: str, error: RayError) -> RecogniserError:
    """Why a task has no result, without Ray's traceback: what it raised, or that its process
    died twice.
    """
    if not isinstance(error, RayTaskError):
        return NoResultError(
            f"{call}: `a worker that lives to its end` must hold, but its process died "
            f"({type(error).__name__})."
        )
    cause = error.cause
    if isinstance(cause, RecogniserError):
        return type(cause)(f"{call}: {cause}")
    if isinstance(cause, OSError) and cause.errno in DISK:
        return StorageError(
            f"{call}: `a disk that can be written` must hold, but got {first_line(cause)}"
        )
    return NoResultError(
        f"{call}: `a training that comes to its end` must hold, but got {first_line(cause)}"
    )
