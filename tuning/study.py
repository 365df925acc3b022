"""The durable record of a search: one Optuna study, the single source of truth.

Every epoch is committed here before its trial may go on, and each trial ends with one outcome that Optuna is told
truthfully. Nothing else of a run is ever read back to continue it.
"""

from __future__ import annotations

import math
import sqlite3
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from text_recognizer.errors import RunError, StorageError
from text_recognizer.metrics import Mode
from text_recognizer.seeds import seed_of
from tuning.budget import reached
from tuning.results import Epoch, Outcome, Trial
from tuning.schema import CategoricalParameter, IntParameter, Parameter, Stop
from tuning.space import SearchSpace

optuna.logging.set_verbosity(optuna.logging.WARNING)

SAME_FAILURES = 3  # the first so many trials failing alike say that it is not the trials

STATES = {
    Outcome.COMPLETE: TrialState.COMPLETE,
    Outcome.STOPPED_EARLY: TrialState.PRUNED,
    Outcome.DIVERGED: TrialState.PRUNED,
    Outcome.OUT_OF_MEMORY: TrialState.PRUNED,
    Outcome.STALLED: TrialState.FAIL,
    Outcome.FAILED: TrialState.FAIL,
}
# The sampler learns that such a region is infeasible; it heeds constraints on COMPLETE and PRUNED trials only.
CONSTRAINTS = {Outcome.DIVERGED: "diverged", Outcome.OUT_OF_MEMORY: "memory"}
RETRIED = (Outcome.FAILED,)
EARLIER = "earlier_run"  # marks the trials of another run that the sampler learns from; they are none of this search's


class Study:
    """Hands out trials, records what they report, and says how they ended.

    Args:
        record: the Optuna study.
        space: what is searched.
        trials: how many trials the search is to have.
        retries: how often a failed trial is handed out again.
    """

    def __init__(
        self, record: optuna.Study, space: SearchSpace, *, trials: int, retries: int = 1, stop: Stop | None = None
    ) -> None:
        self.space = space
        self.metric = space.search.metric
        self.mode: Mode = space.search.direction
        self.wanted = trials
        self.retries = retries
        self.stop = stop or space.search.stop
        self.gpu_share = 0.0  # of each trial that runs now
        self.suspended: str | None = None  # why the search cannot go on now, though it has not ended
        self.listeners: list[Callable[[Trial], None]] = []
        self._record = record
        self._live: dict[int, optuna.Trial] = {}
        with storage_errors():
            frozen = record.get_trials(deepcopy=False)
            sessions = list(record.user_attrs.get("sessions", ()))
        own = [trial for trial in frozen if trial.state != TrialState.WAITING and EARLIER not in trial.user_attrs]
        check_direction(record, self.mode)
        self._trials = {trial.number: trial_of(trial, self.metric) for trial in own}
        self._asked = sum(trial.state != TrialState.WAITING for trial in frozen)  # the number that the next trial has
        self._to_do = deque(number for number, trial in self._trials.items() if trial.outcome is None)
        self._seconds_before = worked(sessions, self.trials)
        self._started = time.time()
        self._busy_since: dict[int, float] = {}  # trial -> when it was handed out, or reported last
        self._first_causes: dict[int, str] = {}  # trial -> why it failed first, in this process
        self._measured = False  # whether any trial came to an epoch, in this process
        self.stop_reason = self._limit_reached()

    @property
    def trials(self) -> list[Trial]:
        """All trials handed out so far, by number."""
        return [self._trials[number] for number in sorted(self._trials)]

    def trial(self, number: int) -> Trial:
        return self._trials[number]

    @property
    def seconds(self) -> float:
        """How long the search has worked, over all its processes."""
        return self._seconds_before + time.time() - self._started

    def begin_session(self) -> None:
        """Note that a process starts to work on the search: the clock of its time budget is made of these."""
        self._started = time.time()
        with storage_errors():
            self._record.set_user_attr("sessions", [*self._record.user_attrs.get("sessions", ()), self._started])

    def next_trial(self) -> Trial | None:
        """The next trial to work on: one that is unfinished, else a new one; None when there is none to hand out."""
        self.stop_reason = self.stop_reason or self._limit_reached()
        if self.stop_reason or self.suspended:
            return None
        if self._to_do:
            return self._hand_out(self._trials[self._to_do.popleft()])
        return self._ask() if len(self._trials) < self.wanted else None

    def has_work(self) -> bool:
        """Whether there is a trial to hand out, unfinished or new."""
        return bool(self._to_do) or (not self.stop_reason and len(self._trials) < self.wanted)

    def record_epoch(self, number: int, epoch: Epoch) -> None:
        """Commit one epoch; one that is recorded already (run again after a crash) changes nothing."""
        if self._trials[number].has_epoch(epoch.epoch):
            return
        value = epoch.metrics[self.metric]
        now = time.time()
        epoch = replace(epoch, gpu_seconds=round(self.gpu_share * (now - self._busy_since.get(number, now)), 3))
        with storage_errors():
            live = self._live_trial(number)
            live.set_user_attr(f"epoch:{epoch.epoch}", epoch_to_plain(epoch))
            live.report(value, step=epoch.epoch)  # this is the commit: an epoch without a value does not exist
        self._busy_since[number] = now
        self._measured = True
        self._changed(self._trials[number].with_epoch(epoch))
        self.stop_reason = self.stop_reason or self._limit_reached()

    def close(self, number: int, outcome: Outcome, cause: str = "") -> None:
        """Give a trial its one outcome, or hand it out again where it failed and may be retried."""
        trial = self._trials[number]
        if outcome in RETRIED and len(trial.failures) < self.retries and not self.stop_reason:
            self._retry(trial, cause)
        else:
            self._finish(trial, outcome, cause)
        if outcome == Outcome.FAILED:
            self._first_causes.setdefault(number, cause)
        self.stop_reason = self.stop_reason or self._limit_reached() or self._all_fail_alike()

    def suspend(self, cause: str) -> None:
        """Hand out no more trials; those that run stay unfinished, for a resume, and are charged with nothing."""
        self.suspended = self.suspended or cause

    def close_all(self) -> None:
        """End what is still open when a search has ended for a reason: no trial stays unfinished then."""
        for trial in self.trials:
            if trial.outcome is None and trial.failures and not trial.epochs:
                self._finish(trial, Outcome.FAILED, trial.failures[-1])
            elif trial.outcome is None:
                self._finish(trial, Outcome.STOPPED_EARLY, self.stop_reason or "")

    def _retry(self, trial: Trial, cause: str) -> None:
        failures = (*trial.failures, cause)
        with storage_errors():
            self._live_trial(trial.number).set_user_attr("failures", list(failures))
        self._to_do.append(trial.number)
        self._changed(replace(trial, failures=failures))

    def _finish(self, trial: Trial, outcome: Outcome, cause: str) -> None:
        best = trial.best_epoch(self.metric, self.mode)
        if outcome == Outcome.COMPLETE and best is None:
            outcome, cause = Outcome.FAILED, cause or "no epoch has a finite value"
        with storage_errors():
            live = self._live_trial(trial.number)
            live.set_user_attr("outcome", str(outcome))
            live.set_user_attr("cause", cause)
            if outcome in CONSTRAINTS:
                live.set_constraint(CONSTRAINTS[outcome], 1)
            value = best.metrics[self.metric] if best and outcome == Outcome.COMPLETE else None
            self._record.tell(trial.number, value, state=STATES[outcome])
        self._live.pop(trial.number, None)
        if trial.number in self._to_do:
            self._to_do.remove(trial.number)
        self._changed(replace(trial, outcome=outcome, cause=cause))

    def _limit_reached(self) -> str | None:
        return reached(self.stop, self.trials, self.metric, self.mode, self.seconds)

    def _all_fail_alike(self) -> str | None:
        """The same failure in each of the first trials is no matter of luck. A resume counts anew: the cause may be mended."""
        causes = list(self._first_causes.values())[:SAME_FAILURES]
        if self._measured or len(causes) < SAME_FAILURES or len(set(causes)) > 1:
            return None
        return f"the first {SAME_FAILURES} trials failed alike: {causes[0]}"

    def _ask(self) -> Trial:
        number = self._asked
        with storage_errors():
            self._record.sampler = make_sampler(self.space.search.sampler, self.space.search.seed, number)
            self._live[number] = self._record.ask()
        self._asked += 1
        return self._hand_out(Trial(number, {}))

    def _hand_out(self, trial: Trial) -> Trial:
        """The trial with all its parameters: new ones, or those that were recorded before its process died."""
        with storage_errors():
            live = self._live_trial(trial.number)
            params = self.space.choose(lambda name, parameter: suggest(live, name, parameter))
        self._busy_since[trial.number] = time.time()
        self._changed(replace(trial, params=params))
        return self._trials[trial.number]

    def _live_trial(self, number: int) -> optuna.Trial:
        """Optuna's handle of a trial; made anew for one that an earlier process asked for."""
        if number not in self._live:
            self._record.sampler = make_sampler(self.space.search.sampler, self.space.search.seed, number)
            self._live[number] = optuna.Trial(self._record, self._record.get_trials(deepcopy=False)[number]._trial_id)
        return self._live[number]

    def _changed(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        for listener in self.listeners:
            listener(trial)


def create_record(url: str, space: SearchSpace, name: str, earlier: Sequence[FrozenTrial] = ()) -> optuna.Study:
    """A new study at `url` (`sqlite:///…`, `postgresql://…`) that begins with the space's `start_with` points.

    Args:
        earlier: trials of another run, marked with `EARLIER`; the search's own are numbered on from them.

    Raises:
        StorageError: it cannot be written.
        RunError: there is a study of that name already.
    """
    direction = optuna.study.StudyDirection.MAXIMIZE if space.search.direction == "max" else optuna.study.StudyDirection.MINIMIZE
    with storage_errors():
        try:
            record = optuna.create_study(storage=open_storage(url), study_name=name, direction=direction)
        except optuna.exceptions.DuplicatedStudyError:
            raise RunError(f"{name}: `no study of that name in the storage` must hold. Choose another --name.") from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            record.set_metric_names([space.search.metric])
        record.set_user_attr("space", space.as_plain())
        record.add_trials(earlier)
        for point in space.search.start_with:  # more of them than trials wait for an extension
            record.enqueue_trial(point)
    return record


def load_record(url: str, name: str) -> optuna.Study:
    """The study called `name` at `url`. Raises `RunError` where there is none, `StorageError` where it cannot be read."""
    with storage_errors():
        try:
            return optuna.load_study(storage=open_storage(url), study_name=name)
        except KeyError:
            raise RunError(f"{name}: `a study of that name in the storage` must hold, but there is none.") from None


def remember(record: optuna.Study, key: str, value: Any) -> None:
    """Keep a plain value with the study. Raises `StorageError`."""
    with storage_errors():
        record.set_user_attr(key, value)


def recall(record: optuna.Study, key: str, default: Any = None) -> Any:
    """What was kept. Raises `RunError` where there is nothing and no default."""
    with storage_errors():
        found = record.user_attrs.get(key, default)
    if found is None:
        raise RunError(f"the study has no {key!r}: it was not made by a search of this project, or is damaged.")
    return found


def sqlite_url(path: Path) -> str:
    """The address of a SQLite file, whatever characters its path has."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """SQLite waits a minute for a reader that holds its lock, a dashboard say, instead of five seconds."""
    arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    return optuna.storages.RDBStorage(url, engine_kwargs=arguments)


@contextmanager
def storage_errors() -> Iterator[None]:
    """What the database says when it cannot go on, as a `StorageError`."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError, KeyError) as error:
        cause = getattr(error.__cause__ or error, "orig", None) or error.__cause__ or error
        if type(cause) in (sqlite3.DatabaseError, KeyError):  # the file is none, or its content makes no sense
            raise RunError(f"the study is damaged: {str(cause).strip()}") from error
        raise StorageError(f"the study cannot be used: {str(cause).strip()}") from error


def make_sampler(name: str, seed: int, number: int) -> BaseSampler:
    """A sampler for one trial: what it proposes is a function of (search seed, trial number, what is recorded)."""
    one = seed_of("sampler", seed, number) % 2**32
    match name:
        case "random":
            return RandomSampler(seed=one)
        case "gp":
            return GPSampler(seed=one, warn_independent_sampling=False)
        case _:
            return TPESampler(seed=one)  # multivariate, with constant liar


def suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    """What Optuna proposes for one parameter."""
    if isinstance(parameter, CategoricalParameter):
        return trial.suggest_categorical(name, parameter.choices)
    if isinstance(parameter, IntParameter):
        return trial.suggest_int(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step or 1)
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def check_direction(record: optuna.Study, mode: Mode) -> None:
    """Optuna itself would not mind. Raises `RunError` where the study goes the other way than the search."""
    if record.direction.name[:3].lower() != mode:
        raise RunError(f"the study is damaged: `direction {mode}` must hold, but got {record.direction.name.lower()}.")


def trial_of(frozen: FrozenTrial, metric: str) -> Trial:
    """Optuna's trial as a plain record. Raises `RunError` where it is not one that this project wrote."""
    attributes, values = frozen.user_attrs, frozen.intermediate_values
    try:
        epochs = [epoch_of(step, attributes[f"epoch:{step}"]) for step in sorted(values)]
        outcome = Outcome(attributes["outcome"]) if frozen.state.is_finished() else None
        differing = [e for e in epochs if str(e.metrics[metric]) != str(values[e.epoch])]  # as text: NaN is NaN
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"the study is damaged: trial {frozen.number} has no sound {error}.") from None
    if differing:
        epoch = differing[0]
        rule = f"trial {frozen.number}, epoch {epoch.epoch}: {metric} == {epoch.metrics[metric]}"
        raise RunError(f"the study is damaged: `{rule}` must hold, but got {values[epoch.epoch]}.")
    return Trial(
        frozen.number,
        dict(frozen.params),
        tuple(epochs),
        outcome,
        attributes.get("cause", ""),
        tuple(attributes.get("failures", ())),
    )


def epoch_to_plain(epoch: Epoch) -> dict[str, Any]:
    """JSON has no NaN and no infinity: those go as text, which `float` reads back."""
    metrics = {name: value if math.isfinite(value) else str(value) for name, value in epoch.metrics.items()}
    return {
        "metrics": metrics,
        "checkpoint": epoch.checkpoint,
        "sha256": epoch.sha256,
        "time": epoch.time,
        "gpu_seconds": epoch.gpu_seconds,
    }


def epoch_of(step: int, plain: dict[str, Any]) -> Epoch:
    """The inverse of `epoch_to_plain`."""
    metrics = {name: float(value) for name, value in plain["metrics"].items()}
    return Epoch(step, metrics, plain["checkpoint"], plain["sha256"], plain["time"], plain["gpu_seconds"])


def worked(sessions: Sequence[float], trials: Sequence[Trial]) -> float:
    """Seconds from the start of each session to the last epoch it recorded: what is known also of one that was killed."""
    times = [epoch.time for trial in trials for epoch in trial.epochs]
    ends = [*sessions[1:], math.inf][: len(sessions)]
    last = [max([t for t in times if start <= t < end], default=start) for start, end in zip(sessions, ends, strict=True)]
    return sum(last) - sum(sessions)
