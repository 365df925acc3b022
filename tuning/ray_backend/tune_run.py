"""Runs trials with `tune.run` until the study hands out no more, or a signal comes."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray import tune
from ray.tune.stopper import Stopper
from ray.tune.trainable import wrap_function

from text_recognizer.errors import RecogniserError
from tuning.ray_backend.local_cluster import Cluster
from tuning.ray_backend.scheduler import RecordingScheduler
from tuning.ray_backend.searcher import StudySearcher
from tuning.ray_backend.signals import Interruptions
from tuning.ray_backend.waiting import StartWatch
from tuning.study import Search
from tuning.trials import RUNNING, Outcome


class SearchStopper(Stopper):
    """Ends `tune.run` where it would not end by itself: after a signal, and when a limit is reached
    while trials wait for a node that may never come.
    """

    def __init__(self, search: Search, cluster: Cluster, interruptions: Interruptions) -> None:
        self.search = search
        self.cluster = cluster
        self.interruptions = interruptions

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.interruptions.number is not None or (
            self.cluster.has_no_room(self.search.slots) and self.search.study.must_end()
        )

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its stopper into a file that is never read."""
        return {}


def run_trials(
    search: Search,
    trainable: Callable[..., None],
    shared: Mapping[str, Any],
    cluster: Cluster,
    interruptions: Interruptions,
) -> None:
    """Run trials until the study hands out no more, or a signal comes.

    Args:
        trainable: the body of a trial, called in a worker as `trainable(assignment, **shared)`.
        shared: arguments of every trial. They go through Ray's object store once.
        cluster: trials that end because it or a node died are not charged.
    """
    study = search.study
    register(search, tune.with_parameters(trainable, **shared))
    stopper = SearchStopper(search, cluster, interruptions)
    attempt = 0
    while interruptions.number is None:  # each attempt is a fresh experiment of Tune's
        run_tune(search, cluster, stopper, attempt)
        attempt += 1
        if study.suspended or interruptions.number is not None:
            return
        if study.stop_reason:
            study.close_all()
        # Tune may end without saying how a trial did: such a trial is retried, or has failed.
        lost = [trial.number for trial in study.trials if trial.status == RUNNING]
        for number in lost:
            study.close(number, Outcome.FAILED, "Ray Tune lost the trial")
        if not lost:
            return


def run_tune(search: Search, cluster: Cluster, stopper: SearchStopper, attempt: int) -> None:
    """One experiment of Tune's, with the study as its searcher and its scheduler."""
    searcher = StudySearcher(search, cluster, stopper.stop_all)
    with unwrap_tune_error():
        tune.run(
            search.name,
            search_alg=searcher,
            scheduler=RecordingScheduler(search.study, searcher.died),
            callbacks=[StartWatch(searcher, search.options.stall_limit)],
            num_samples=-1,  # the searcher says when there is nothing more
            reuse_actors=True,  # a new worker imports torch for ten seconds
            trial_name_creator=lambda trial: f"trial-{trial.config['number']}",
            trial_dirname_creator=lambda trial: str(trial.config["number"]),
            name=f"tune-{attempt}",
            storage_path=str(search.folder.ray),
            stop=stopper,
            verbose=0,
            raise_on_failed_trial=False,  # the searcher decides about a dead worker
        )


def register(search: Search, body: Callable[..., Any]) -> None:
    """Register a trainable with Tune under the search's name, and prepare Tune for it.

    Ray's dashboard, logs and processes show the name of its class: Tune's own are all called
    `ImplicitFunc`.
    """
    slots = search.slots
    body = tune.with_resources(body, {"cpu": slots.cpus, "gpu": slots.gpus})
    trainable: type = wrap_function(body, name=search.name)
    trainable.__name__ = trainable.__qualname__ = search.name
    tune.register_trainable(search.name, trainable)
    # Tune starts workers one by one unless told how many may be pending. The searcher holds the
    # slots.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(search.study.wanted)
    # The searcher says in one line that a worker died; Tune would print its traceback.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


@contextmanager
def unwrap_tune_error() -> Iterator[None]:
    """Raise our own error instead of the TuneError that Tune wraps it in: the text of that one is a
    traceback.
    """
    try:
        yield
    except tune.TuneError as error:
        below: BaseException | None = error
        while below is not None and not isinstance(below, RecogniserError):
            below = below.__cause__ or below.__context__
        raise below or error from None
