"""The durable record of a search: one Optuna study, the single source of truth.

Every epoch is committed here before its trial may go on. Each trial ends with one outcome, and
Optuna is told that outcome. A resume reads nothing else of a run.
"""

import time
from dataclasses import replace
from functools import partial
from typing import Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from text_recognizer.errors import RunError
from text_recognizer.text import shown
from tuning.space import SearchSettings, SearchSpace, Stop
from tuning.study.epoch_sampler import EpochSampler
from tuning.study.optuna_record import (
    check_direction,
    continued,
    current,
    epoch_to_plain,
    number_of,
    own_trials,
)
from tuning.study.samplers import make_sampler, suggest
from tuning.study.storage import storage_errors
from tuning.trials import (
    ENDINGS,
    RUNNING,
    Epoch,
    Outcome,
    Trial,
    WaitingList,
    limit_reached,
    ranking,
    reranked,
)

SAME_FAILURES = 3  # if the first trials all fail alike, the cause is not in a trial


class Callback(Protocol):
    """Follows a search. Every change of a trial (begun, epoch, wait, retry, end) is passed on after
    its commit, in this order: retention deletes checkpoints, artifacts write the run's files,
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
        record.sampler = make_sampler(space)
        with storage_errors():
            attributes = record.user_attrs
        check_direction(record, self.objective)
        own = own_trials(record, self.objective)
        self._trials = {trial.number: trial for trial in own}
        if strange := {name for trial in own for name in trial.params} - set(space.parameters):
            raise RunError(f"the study is damaged: unknown parameters {shown(sorted(strange))}.")
        # Those that can be best, best first. Kept in order, because sorting takes 4 ms for 1,000
        # trials and 52 ms for 10,000, and the live table asks four times a second, from a thread of
        # its own.
        self.ranked = ranking(own, self.objective)
        self.open = WaitingList(space.search, own)
        self._live: dict[int, optuna.Trial] = {}  # Optuna's handles of unfinished trials
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

    @property
    def limits(self) -> SearchSettings:
        """The settings of the search with the limits that it has now."""
        return self.space.search.model_copy(update={"trials": self.wanted, "stop": self.stop})

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
        """Whether there is a trial to hand out: unfinished, waiting or new."""
        if self.open.unfinished:
            return True
        return not self.stop_reason and (self._may_begin() or self._next() is not None)

    def _may_begin(self) -> bool:
        return len(self._trials) < self.wanted

    def _next(self) -> int | None:
        return self.open.next(may_begin=self._may_begin())

    def is_over(self) -> bool:
        """Whether no trial will be handed out any more."""
        return self.must_end() or not self.has_work()

    def next_trial(self) -> Trial | None:
        """An unfinished trial, else one that waits and is due, else a new one; None if there is
        none, or the search is over.
        """
        if self.is_over():
            return None
        if (number := self._next()) is not None:
            trial = self._trials[number]
            return self._hand_out(trial if trial.status == RUNNING else self._go_on(trial))
        if not self._may_begin():  # a running trial may let another one go on
            return None
        with storage_errors():
            live = self.record.ask()
        self._live[live.number] = live
        return self._hand_out(Trial(live.number, {}))

    def _go_on(self, trial: Trial) -> Trial:
        """End the wait of a trial that is due."""
        trial = self._reopened(trial)
        number, rung = trial.number, trial.waits_after
        with storage_errors():
            self._live_trial(number).set_user_attr("went_on_after", rung)
        self.open.promotion.go_on(number, rung)
        return replace(trial, went_on_after=rung)

    def _reopened(self, trial: Trial) -> Trial:
        """A trial that waits, or was held when the search ended and can go on since it was
        extended. Optuna opens no ended trial again: a new one of its trials takes over.
        """
        if trial.outcome:
            with storage_errors():
                self.record.add_trial(continued(self._newest(trial.number), trial.number))
        return replace(trial, outcome=None, cause="")

    def wait(self, number: int, most: int) -> None:
        """Let a trial wait at the rung that it has come to.

        Args:
            most: how many may wait there. The others end, and their checkpoints are deleted.
        """
        trial = self._trials[number]
        rung = trial.epochs[-1].epoch
        with storage_errors():
            self._live_trial(number).set_user_attr("waits_after", rung)
        self.open.leave(number)
        self._change(replace(trial, waits_after=rung))
        for dropped in self.open.promotion.rivals(number, rung)[most:]:
            self._drop(self._trials[dropped])

    def _drop(self, trial: Trial) -> None:
        """End the wait of a trial for good: its checkpoint goes."""
        trial = self._reopened(trial)
        with storage_errors():
            self._live_trial(trial.number).set_user_attr("waits_after", 0)
        self._end(replace(trial, waits_after=0), Outcome.STOPPED_EARLY, "")

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
        self.open.promotion.record(number, epoch)
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

    def carry_over(self) -> None:
        """Let an extended search begin with the best of those that waited when it ended: one of
        each rung, in advance of the places that new trials bring.
        """
        promotion = self.open.promotion
        for rungs in reversed(promotion.rungs.values()):
            waiting = promotion.best_first(*rungs.values())
            for number in [n for n in waiting if self._trials[n].is_held][:1]:
                self._change(self._go_on(self._trials[number]))
                self.hand_back(number)

    def hand_back(self, number: int) -> None:
        """Put a trial back to be handed out again."""
        self.open.hand_back(number)

    def suspend(self, cause: str) -> None:
        """Hand out no more trials. Running trials stay unfinished for a resume."""
        self.suspended = self.suspended or cause

    def close_all(self) -> None:
        """End every open trial: a search that ended for a reason leaves none unfinished."""
        for trial in self.trials:
            if trial.outcome is None and trial.failures and not trial.epochs:
                self._end(trial, Outcome.FAILED, trial.failures[-1])
            elif trial.outcome is None:
                # ASHA holds a trial that waits, whatever ends the search
                cause = "" if trial.waits else self.stop_reason or ""
                self._end(trial, Outcome.STOPPED_EARLY, cause)

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
            self.record.tell(live, value, state=TrialState[ending.state])
        del self._live[number]
        self.open.leave(number)
        ended = replace(trial, outcome=outcome, cause=cause)
        self.open.promotion.leave(ended)
        self.end_session()
        self._change(ended)

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
        with storage_errors():
            live, sampler = self._live_trial(trial.number), self.record.sampler
            params = self.space.choose(partial(suggest, live))
            # Optuna asks the sampler when the first parameter is suggested.
            if not trial.params and isinstance(sampler, EpochSampler) and sampler.belief:
                trial = replace(trial, proposal=sampler.belief.as_plain(self.objective.sign))
                live.set_user_attr("proposal", trial.proposal)
        self._reported[trial.number] = time.monotonic()
        self.open.begin(trial.number)
        self._change(replace(trial, params=params))
        return self._trials[trial.number]

    def _live_trial(self, number: int) -> optuna.Trial:
        """Optuna's handle of a trial; a new one for a trial that an earlier process asked for."""
        if number not in self._live:
            self._live[number] = optuna.Trial(self.record, self._newest(number)._trial_id)
        return self._live[number]

    def _newest(self, number: int) -> FrozenTrial:
        """Optuna's trial of that number: the newest, if an ended one was continued."""
        trials = current(self.record.get_trials(deepcopy=False))
        (found,) = (trial for trial in trials if number_of(trial) == number)
        return found

    def _change(self, trial: Trial) -> None:
        before = self._trials.get(trial.number)
        self._trials[trial.number] = trial
        self.ranked = reranked(self.ranked, before, trial, self.objective)
        for callback in self.callbacks:
            callback.on_change(trial)
