"""`tune.run` over a study until that has nothing more to hand out, or a signal comes."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from ray import tune
from ray.tune.stopper import Stopper
from ray.tune.trainable import wrap_function

from text_recognizer.errors import RecogniserError
from tuning.ray_backend.local_cluster import Cluster
from tuning.ray_backend.scheduler import RecordingScheduler
from tuning.ray_backend.searcher import StudySearcher
from tuning.run.resources import Slots
from tuning.study.study import Study
from tuning.trials.trial import Outcome


class Interrupt:
    """Turns the first SIGINT or SIGTERM into an orderly end of `tune.run`, and the second into
    an immediate one.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    @contextmanager
    def listening(self, on_first: Callable[[], None]) -> Iterator[None]:
        """Handle signals within the block, and give the old handlers back after it. `on_first`
        says what happens now.
        """

        def handle(number: int, frame: FrameType | None) -> None:
            if self.signal is not None:
                raise KeyboardInterrupt
            self.signal = number
            on_first()

        old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


class SearchStopper(Stopper):
    """Ends `tune.run` where that would not end by itself.

    That is after a signal, and where a limit is reached while trials wait for a node that may never
    come.
    """

    def __init__(self, interrupt: Interrupt, study: Study, slots: Slots, cluster: Cluster) -> None:
        self.interrupt = interrupt
        self.study = study
        self.slots = slots
        self.cluster = cluster

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.interrupt.signal is not None or (
            self.cluster.has_no_room(self.slots) and self.study.must_end()
        )

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its stopper into a file that is never read: nothing of the study goes
        there.
        """
        return {}


@contextmanager
def unwrap_tune_error() -> Iterator[None]:
    """An error of ours that Tune wrapped in its own, with a traceback for a text, is raised as
    it was.
    """
    try:
        yield
    except tune.TuneError as error:
        below: BaseException | None = error
        while below is not None and not isinstance(below, RecogniserError):
            below = below.__cause__ or below.__context__
        raise below or error from None


def run_study(
    study: Study,
    trainable: Callable[..., None],
    slots: Slots,
    folder: Path,
    *,
    logs: Path,
    name: str,
    interrupt: Interrupt,
    cluster: Cluster,
    shared: Mapping[str, Any],
) -> None:
    """Run trials until the study hands out no more, or a signal comes.

    Args:
        trainable: the body of a trial, called as `trainable(assignment, **shared)`.
        folder: for Tune's own files, which are never read.
        logs: where trials that hang leave their stacks.
        name: what the dashboard calls the workers.
        cluster: that runs; trials that end because it or a node died are charged with nothing.
        shared: goes through the object store once, not with each trial.
    """
    # start all workers at once; the searcher holds the slots
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(study.wanted)
    body = tune.with_resources(
        tune.with_parameters(trainable, **shared), {"cpu": slots.cpus, "gpu": slots.gpus}
    )
    tune.register_trainable(name, named(body, name))
    # a dead worker is said in our words, without its traceback
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    ending = SearchStopper(interrupt, study, slots, cluster)
    attempt = 0
    while not interrupt.signal:
        with unwrap_tune_error():
            # and no `Tuner`, which over Ray Client would run on the cluster, without the study
            tune.run(
                name,
                search_alg=StudySearcher(study, slots, logs, cluster, ending.stop_all),
                scheduler=RecordingScheduler(study),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: f"trial-{trial.config['number']}",
                trial_dirname_creator=lambda trial: str(trial.config["number"]),
                name=f"tune-{attempt}",
                storage_path=str(folder),
                stop=ending,
                verbose=0,
                raise_on_failed_trial=False,
                _remote=False,
            )
        attempt += 1
        if study.suspended:
            return
        if study.stop_reason and not interrupt.signal:
            study.close_all()
        lost = [trial.number for trial in study.trials if trial.outcome is None]
        if interrupt.signal or not lost:
            return
        for number in lost:  # Tune ended without saying how these did: a retry, or a failure
            study.close(number, Outcome.FAILED, "Ray Tune lost the trial")


def named(body: Callable[..., Any], name: str) -> type:
    """A trainable that Ray's dashboard, logs and processes call by that name; Tune's own all
    read `ImplicitFunc`.
    """
    trainable: type = wrap_function(body, name=name)
    trainable.__name__ = trainable.__qualname__ = name
    return trainable
