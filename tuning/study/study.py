"""The durable record of a search: one Optuna study, the single source of truth.

Every epoch is committed here before its trial may go on. Each trial ends with one outcome, and
Optuna is told that outcome. A resume reads nothing else of a run.
"""

import time
from collections import deque
from dataclasses import replace
from typing import Any, Protocol

import optuna
from optuna.trial import TrialState

from text_recognizer.errors import RunError
from text_recognizer.text import shown
from tuning.space import Parameter, SearchSpace, Stop
from tuning.study.optuna_record import check_direction, epoch_to_plain, own_trials
from tuning.study.samplers import make_sampler, suggest
from tuning.study.storage import storage_errors
from tuning.trials import ENDINGS, Epoch, Outcome, Trial, limit_reached, ranking

SAME_FAILURES = 3  # if the first trials all fail alike, the cause is not in a trial


class Callback(Protocol):
    """Follows a search. Every change of a trial (begun, epoch, retry, end) is passed on after its
    commit, in this order: retention deletes checkpoints, artifacts write the run's files,
    TensorBoard's curves follow, and the console comes last: what it announces is on disk.
    """

    def on_change(self, trial: Trial) -> None: ...


class Study:
    """Hands out trials, records what they report, and says how they ended.

    Args:
        record: the Optuna study.
        trials: how many trials the search is to have.
        retries: how often a failed trial is handed out again.
        stop: limits of the search; None takes those of the space.

    Raises:
        RunError: the study is damaged, or belongs to another space.
        StorageError: it cannot be read.
    """

    def __init__(
        self,
        record: optuna.Study,
        space: SearchSpace,
        *,
        trials: int,
        retries: int = 1,
        stop: Stop | None = None,
    ) -> None:
        self.record = record
        self.space = space
        self.objective = space.search.objective
        self.wanted = trials
        self.retries = retries
        self.stop = stop or space.search.stop
        self.callbacks: list[Callback] = []
        self.gpu_share = 0.0  # of each running trial
        self.suspended: str | None = None  # why the search cannot go on, though it has not ended
        with storage_errors():
            frozen = record.get_trials(deepcopy=False)
            attributes = record.user_attrs
        check_direction(record, self.objective)
        own = own_trials(record, self.objective)
        self._trials = {trial.number: trial for trial in own}
        if strange := {name for trial in own for name in trial.params} - set(space.parameters):
            raise RunError(f"the study is damaged: unknown parameters {shown(sorted(strange))}.")
        # Those that can be best, best first. Sorted once for each trial that ends, not for each
        # reader: 4 ms for 1,000 trials, 52 ms for 10,000, and the live table asks four times a
        # second, from a thread of its own.
        self.ranked = ranking(own, self.objective)
        self._live: dict[int, optuna.Trial] = {}  # Optuna's handles of unfinished trials
        self._next_number = sum(trial.state != TrialState.WAITING for trial in frozen)
        self._unfinished = deque(trial.number for trial in own if trial.outcome is None)
        self._reported: dict[int, float] = {}  # when each trial was handed out, or reported last
        # why each trial failed first, in this process: without and with its log
        self._causes: dict[int, tuple[str, str]] = {}
        # A search whose trials come to no epoch and fail alike has a cause outside of its trials.
        self._measured = False  # whether any trial reported an epoch, in this process
        # A killed process did not write `seconds`: its epochs say how long it worked.
        worked = max((epoch.worked for trial in own for epoch in trial.epochs), default=0.0)
        self._seconds_before = max(float(attributes.get("seconds", 0.0)), worked)
        self._started = time.monotonic()  # a clock that does not step
        self._stop_reason: str | None = None

    @property
    def trials(self) -> list[Trial]:
        """All trials handed out so far, by number."""
        return list(self._trials.values())

    def trial(self, number: int) -> Trial:
        return self._trials[number]

    @property
    def seconds(self) -> float:
        """How long the search has worked, over all its processes."""
        return self._seconds_before + time.monotonic() - self._started

    def begin_session(self) -> None:
        """Count the time from now on as work."""
        self._started = time.monotonic()

    def end_session(self) -> None:
        """Record how long the search has worked so far."""
        with storage_errors():
            self.record.set_user_attr("seconds", self.seconds)

    @property
    def stop_reason(self) -> str | None:
        """Why the search ends before its last trial. It stays once a limit is reached."""
        if self._stop_reason is None:
            self._stop_reason = limit_reached(self.stop, self.trials, self.objective, self.seconds)
        return self._stop_reason

    def must_end(self) -> bool:
        """Whether a limit is reached or the search is suspended."""
        return bool(self.stop_reason or self.suspended)

    def has_work(self) -> bool:
        """Whether there is a trial to hand out, unfinished or new."""
        return bool(self._unfinished) or (not self.stop_reason and len(self._trials) < self.wanted)

    def is_over(self) -> bool:
        """Whether no trial will be handed out any more."""
        return self.must_end() or not self.has_work()

    def next_trial(self) -> Trial | None:
        """An unfinished trial, else a new one; None if the search is over."""
        if self.is_over():
            return None
        if self._unfinished:
            return self._hand_out(self._trials[self._unfinished.popleft()])
        number = self._next_number
        with storage_errors():
            self.record.sampler = self._sampler(number)
            self._live[number] = self.record.ask()
        self._next_number += 1
        return self._hand_out(Trial(number, {}))

    def record_epoch(self, number: int, epoch: Epoch) -> None:
        """Commit one epoch. One that is recorded already (run again after a crash) is skipped."""
        trial = self._trials[number]
        if trial.has_epoch(epoch.epoch):
            return
        now = time.monotonic()
        took = now - self._reported.get(number, now)
        gpu_seconds = round(self.gpu_share * took, 3)
        epoch = replace(epoch, gpu_seconds=gpu_seconds, worked=self.seconds)
        with storage_errors():
            live = self._live_trial(number)
            live.set_user_attr(f"epoch:{epoch.epoch}", epoch_to_plain(epoch))
            # This is the commit: an attribute without a value is an epoch that does not exist.
            live.report(epoch.metrics[self.objective.metric], step=epoch.epoch)
        self._reported[number] = now
        self._measured = True
        self._change(replace(trial, epochs=(*trial.epochs, epoch)))

    def close(self, number: int, outcome: Outcome, cause: str = "", log: str = "") -> None:
        """End a trial with its outcome, or hand it out again if it failed and may be retried.

        Args:
            log: the file of the run that says more about a failure; named with the cause.
        """
        trial, plain_cause = self._trials[number], cause
        cause = f"{cause}; see {log}" if log else cause
        may_retry = len(trial.failures) < self.retries and not self.stop_reason
        if ENDINGS[outcome].retried and may_retry:
            failures = (*trial.failures, cause)
            with storage_errors():
                self._live_trial(number).set_user_attr("failures", list(failures))
            self.hand_back(number)
            self._change(replace(trial, failures=failures))
        else:
            self._end(trial, outcome, cause)
        if outcome == Outcome.FAILED:
            self._causes.setdefault(number, (plain_cause, cause))
        self._stop_reason = self.stop_reason or self._same_failure()

    def hand_back(self, number: int) -> None:
        """Put a trial back to be handed out again."""
        self._unfinished.append(number)

    def suspend(self, cause: str) -> None:
        """Hand out no more trials. Running trials stay unfinished for a resume."""
        self.suspended = self.suspended or cause

    def close_all(self) -> None:
        """End every open trial: a search that ended for a reason leaves none unfinished."""
        for trial in self.trials:
            if trial.outcome is None and trial.failures and not trial.epochs:
                self._end(trial, Outcome.FAILED, trial.failures[-1])
            elif trial.outcome is None:
                self._end(trial, Outcome.STOPPED_EARLY, self.stop_reason or "")

    def _end(self, trial: Trial, outcome: Outcome, cause: str) -> None:
        best = trial.best_epoch(self.objective) if outcome == Outcome.COMPLETE else None
        if outcome == Outcome.COMPLETE and best is None:
            outcome, cause = Outcome.FAILED, cause or "no epoch has a finite value"
        ending, number = ENDINGS[outcome], trial.number
        # What is told to Optuna last closes the trial: a kill in between leaves it unfinished.
        with storage_errors():
            live = self._live_trial(number)
            live.set_user_attr("outcome", str(outcome))
            live.set_user_attr("cause", cause)
            if ending.constraint:
                live.set_constraint(ending.constraint, 1)
            value = best.metrics[self.objective.metric] if best else None
            self.record.tell(number, value, state=TrialState[ending.state])
        del self._live[number]
        if number in self._unfinished:
            self._unfinished.remove(number)
        self.end_session()
        self._change(replace(trial, outcome=outcome, cause=cause))

    def _same_failure(self) -> str | None:
        """Why the search ends if its first trials all failed alike. A resume counts anew: the
        cause may have been removed.
        """
        causes = list(self._causes.values())[:SAME_FAILURES]
        alike = len({plain for plain, _ in causes}) == 1
        if self._measured or len(causes) < SAME_FAILURES or not alike:
            return None
        return f"the first {SAME_FAILURES} trials failed alike: {causes[0][1]}"

    def _hand_out(self, trial: Trial) -> Trial:
        """Give a trial its parameters: those recorded before its process died, then new ones."""

        def pick(name: str, parameter: Parameter) -> Any:
            # A sampler for each parameter: a proposal does not depend on which of the others
            # were recorded before a kill.
            self.record.sampler = self._sampler(trial.number, name)
            return suggest(live, name, parameter)

        with storage_errors():
            live = self._live_trial(trial.number)
            params = self.space.choose(pick)
        self._reported[trial.number] = time.monotonic()
        self._change(replace(trial, params=params))
        return self._trials[trial.number]

    def _sampler(self, number: int, parameter: str = "") -> optuna.samplers.BaseSampler:
        search = self.space.search
        return make_sampler(search.sampler, search.seed, number, parameter)

    def _live_trial(self, number: int) -> optuna.Trial:
        """Optuna's handle of a trial; a new one for a trial that an earlier process asked for."""
        if number not in self._live:
            self.record.sampler = self._sampler(number)
            frozen = self.record.get_trials(deepcopy=False)[number]
            self._live[number] = optuna.Trial(self.record, frozen._trial_id)
        return self._live[number]

    def _change(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        if trial.outcome:
            self.ranked = ranking(self.trials, self.objective)
        for callback in self.callbacks:
            callback.on_change(trial)
