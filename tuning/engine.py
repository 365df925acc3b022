"""Ray: a cluster of our own on this machine; `Tuner.fit` over a study until that has nothing more to hand out; plain tasks."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

# Ray and Tune read these when they are imported or started; the workers inherit them.
os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_AUTH_MODE="token",  # the dashboard and the job API ask for the token in ~/.ray
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # keeps 127.0.0.1 as the node's address, so that its agents listen there only
    RAY_CHDIR_TO_TRIAL_DIR="0",
    RAY_AIR_NEW_OUTPUT="0",  # the other output prints a box even when told to be silent
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
    TUNE_DISABLE_SIGINT_HANDLER="1",
    TUNE_FUNCTION_THREAD_TIMEOUT_S="86400",  # a slow teardown must not fail the next trial; one that hangs ends its process
    TUNE_GLOBAL_CHECKPOINT_S="86400",  # Tune's own state is never read
    TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
)

import psutil
import ray
from ray import tune
from ray._private.parameter import RayParams
from ray.exceptions import RayError, RayTaskError
from ray.tune.stopper import Stopper
from ray.tune.trainable import wrap_function

from text_recognizer.errors import NoResultError, RecogniserError, StorageError
from tuning.reporting import DISK, first_line
from tuning.resources import Slots
from tuning.results import Outcome
from tuning.scheduler import RecordingScheduler
from tuning.searcher import StudySearcher
from tuning.study import Study

DAEMONS = ("raylet", "gcs_server")
CHECK_EVERY_S = 0.5

Call = TypeVar("Call")
Result = TypeVar("Result")


class Interrupt(Stopper):
    """Turns the first SIGINT or SIGTERM into an orderly end of `fit`, and the second into an immediate one."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.signal is not None

    @contextmanager
    def listening(self, on_first: Callable[[], None]) -> Iterator[None]:
        """Handle signals within the block, and give the old handlers back after it. `on_first` says what happens now."""

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


@contextmanager
def sigterm_is_an_exit() -> Iterator[None]:
    """Within the block, and after it, SIGTERM ends the work in order; out of the block comes `SystemExit` with its number.

    To be entered when Ray runs: it takes the signal for itself when it starts, and would abort.
    """
    came = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt  # of all exceptions this one gets through where Ray waits

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(int(signal.SIGTERM)) if came else KeyboardInterrupt from None


class Daemons:
    """Ray's own processes under this one. When one of them is dead, what Ray says of a trial is not to be believed."""

    def __init__(self) -> None:
        self._processes = {child.name(): child for child in psutil.Process().children() if child.name() in DAEMONS}

    def dead(self) -> str | None:
        """The name of one that has ended, or None."""
        for name, process in self._processes.items():
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return name
        return None

    @contextmanager
    def watched(self, on_death: Callable[[str], None]) -> Iterator[None]:
        """Call `on_death` from a thread, once, if one ends within the block: Ray itself would take a minute, or hang."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(CHECK_EVERY_S):
                if name := self.dead():
                    on_death(name)
                    return

        thread = threading.Thread(target=watch, name="daemons", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def let_the_agent_choose_its_port() -> None:
    """Ray gives its dashboard's agent port 52365, and `ray.init` takes no other: beside another Ray, or for a minute after one
    was killed, the dashboard could then show no log. 0 lets the agent choose, as the agent itself knows how to.
    """
    parameters = inspect.signature(RayParams.__init__).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    RayParams.__init__.__defaults__ = tuple((defaults | {"dashboard_agent_listen_port": 0}).values())


@contextmanager
def own_cluster(*, dashboard: bool = True, **resources: Any) -> Iterator[str | None]:
    """A Ray cluster of our own, whatever else runs on the machine; yields the dashboard's address, if there is one."""
    let_the_agent_choose_its_port()
    context = ray.init(
        address="local",
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
        **resources,
    )
    try:
        yield f"http://{context.dashboard_url}" if context.dashboard_url else None
    finally:
        ray.shutdown()


@contextmanager
def own_errors() -> Iterator[None]:
    """An error of ours that Tune wrapped in its own, with a traceback for a text, is raised as it was."""
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
    daemons: Daemons,
    shared: Mapping[str, Any],
) -> None:
    """Run trials until the study hands out no more, or a signal comes.

    Args:
        trainable: the body of a trial, called as `trainable(assignment, **shared)`.
        folder: for Tune's own files, which are never read.
        logs: where trials that hang leave their stacks.
        name: what the dashboard calls the workers.
        daemons: trials that end because one of these died stay unfinished.
        shared: goes through the object store once, not with each trial.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots.count)  # start all workers at once
    body = tune.with_resources(tune.with_parameters(trainable, **shared), {"cpu": slots.cpus, "gpu": slots.gpus})
    tune.register_trainable(name, named(body, name))
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a dead worker is said in our words, without its traceback
    attempt = 0
    while not interrupt.stop_all():
        tuner = tune.Tuner(
            name,
            tune_config=tune.TuneConfig(
                search_alg=StudySearcher(study, slots.count, logs, cluster_lives=lambda: not daemons.dead()),
                scheduler=RecordingScheduler(study),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: f"trial-{trial.config['number']}",
                trial_dirname_creator=lambda trial: str(trial.config["number"]),
            ),
            run_config=tune.RunConfig(name=f"tune-{attempt}", storage_path=str(folder), stop=interrupt, verbose=0),
        )
        with own_errors():
            tuner.fit()
        attempt += 1
        if study.suspended:
            return
        if study.stop_reason and not interrupt.stop_all():
            study.close_all()
        lost = [trial.number for trial in study.trials if trial.outcome is None]
        if interrupt.stop_all() or not lost:
            return
        for number in lost:  # Tune ended without saying how these did: a retry, or a failure
            study.close(number, Outcome.FAILED, "Ray Tune lost the trial")


def named(body: Callable[..., Any], name: str) -> type:
    """A trainable that Ray's dashboard, logs and processes call by that name; Tune's own all read `ImplicitFunc`."""
    trainable: type = wrap_function(body, name=name)
    trainable.__name__ = trainable.__qualname__ = name
    return trainable


class Tasks(Generic[Call, Result]):
    """Runs a function in workers, once for each of some calls; what all calls share goes through the object store once.

    Args:
        function: called as `function(call, **shared)`; it is imported by the workers.
        slots: what each call gets.
    """

    def __init__(self, function: Callable[..., Result], slots: Slots, shared: Mapping[str, Any]) -> None:
        self._body = ray.remote(num_cpus=slots.cpus, num_gpus=slots.gpus, max_retries=1)(function)
        self._shared = {name: ray.put(value) for name, value in shared.items()}

    def run(self, calls: Sequence[Call], on_done: Callable[[Call, Result], None]) -> list[Result]:
        """The results in the order of the calls; each is told to `on_done` when it is there.

        Raises:
            RecogniserError: the first that a call raised, or what became of it, with the call in front. The others go on
                until the cluster ends.
        """
        waiting = {self._body.remote(call, **self._shared): place for place, call in enumerate(calls)}
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
    """Why a task has no result, without Ray's traceback: what it raised, or that its process died twice."""
    if not isinstance(error, RayTaskError):
        return NoResultError(
            f"{call}: `a worker that lives to its end` must hold, but its process died ({type(error).__name__})."
        )
    cause = error.cause
    if isinstance(cause, RecogniserError):
        return type(cause)(f"{call}: {cause}")
    if isinstance(cause, OSError) and cause.errno in DISK:
        return StorageError(f"{call}: `a disk that can be written` must hold, but got {first_line(cause)}")
    return NoResultError(f"{call}: `a training that comes to its end` must hold, but got {first_line(cause)}")
