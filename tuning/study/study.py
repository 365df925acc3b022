"""The durable record of a search: one Optuna study, the single source of truth.

Every epoch is committed here before its trial may go on, and each trial ends with one outcome that
Optuna is told truthfully. Nothing else of a run is ever read back to continue it.
"""

from __future__ import annotations

import time
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from text_recognizer.errors import RunError
from text_recognizer.text import shown
from tuning.space.schema import Parameter, Stop
from tuning.space.search_space import SearchSpace
from tuning.study.optuna_record import check_direction, epoch_to_plain, is_own, trial_of
from tuning.study.samplers import make_sampler, suggest
from tuning.study.storage import storage_errors
from tuning.trials.stopping import reached, seconds_worked
from tuning.trials.trial import Epoch, Outcome, Trial, as_best, place_in, ranking

SAME_FAILURES = 3  # the first so many trials failing alike say that it is not the trials

STATES = {
    Outcome.COMPLETE: TrialState.COMPLETE,
    Outcome.STOPPED_EARLY: TrialState.PRUNED,
    Outcome.DIVERGED: TrialState.PRUNED,
    Outcome.OUT_OF_MEMORY: TrialState.PRUNED,
    Outcome.STALLED: TrialState.FAIL,
    Outcome.FAILED: TrialState.FAIL,
}
# The sampler learns that such a region is infeasible; it heeds constraints on COMPLETE and PRUNED
# trials only.
CONSTRAINTS = {Outcome.DIVERGED: "diverged", Outcome.OUT_OF_MEMORY: "memory"}
RETRIED = (Outcome.FAILED,)


class Study:
    """Hands out trials, records what they report, and says how they ended.

    Args:
        record: the Optuna study.
        space: what is searched.
        trials: how many trials the search is to have.
        retries: how often a failed trial is handed out again.
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
        self.space = space
        self.objective = space.search.objective
        self.wanted = trials
        self.retries = retries
        self.stop = stop or space.search.stop
        self.gpu_share = 0.0  # of each trial that runs now
        # why the search cannot go on now, though it has not ended
        self.suspended: str | None = None
        self.listeners: list[Callable[[Trial], None]] = []
        self.record = record
        self._live: dict[int, optuna.Trial] = {}
        with storage_errors():
            frozen = record.get_trials(deepcopy=False)
            attributes = record.user_attrs
        own = [trial for trial in frozen if is_own(trial)]
        check_direction(record, self.objective.mode)
        self._trials = {trial.number: trial_of(trial, self.objective.metric) for trial in own}
        if strange := {name for trial in self.trials for name in trial.params} - set(
            space.parameters
        ):
            raise RunError(
                "the study is damaged: `parameters of the space` must hold, but got "
                f"{shown(sorted(strange))}."
            )
        # the number that the next trial has
        self._asked = sum(trial.state != TrialState.WAITING for trial in frozen)
        # those that can be best, best first
        self.ranked = ranking(self._trials.values(), self.objective)
        self._to_do = deque(
            number for number, trial in self._trials.items() if trial.outcome is None
        )
        # when each began, seconds since 1970
        self.sessions: list[float] = list(attributes.get("sessions", ()))
        times = sorted(epoch.time for trial in self.trials for epoch in trial.epochs)
        # known also of one that was killed
        worked = seconds_worked(times, self.sessions)[-1] if times and self.sessions else 0.0
        self._seconds_before = max(attributes.get("seconds", 0.0), worked)
        self._started = time.time()
        self._busy_since: dict[int, float] = {}  # trial -> when it was handed out, or reported last
        self._first_causes: dict[int, str] = {}  # trial -> why it failed first, in this process
        self._measured = False  # whether any trial came to an epoch, in this process
        self.stop_reason = self._limit_reached()

    @property
    def trials(self) -> list[Trial]:
        """All trials handed out so far, by number."""
        return list(self._trials.values())  # asked for, and loaded, in this order

    def trial(self, number: int) -> Trial:
        return self._trials[number]

    @property
    def seconds(self) -> float:
        """How long the search has worked, over all its processes."""
        return float(self._seconds_before + time.time() - self._started)

    def begin_session(self) -> None:
        """Note that a process starts to work on the search: the clock of its time budget is made
        of these.
        """
        self._started = time.time()
        self.sessions.append(self._started)
        with storage_errors():
            self.record.set_user_attr("sessions", self.sessions)

    def end_session(self) -> None:
        """Note how long the search has worked so far; also done whenever a trial ends."""
        with storage_errors():
            self.record.set_user_attr("seconds", self.seconds)

    def must_end(self) -> bool:
        """Whether a limit is reached, or the search is suspended: trials that wait are waited
        for no longer.
        """
        self.stop_reason = self.stop_reason or self._limit_reached()
        return bool(self.stop_reason or self.suspended)

    def is_over(self) -> bool:
        """Whether no trial is handed out any more: it must end, or all of them are handed out."""
        return self.must_end() or not (self._to_do or len(self._trials) < self.wanted)

    def next_trial(self) -> Trial | None:
        """The next trial to work on: one that is unfinished, else a new one; None where
        `is_over`.
        """
        if self.is_over():
            return None
        return self._hand_out(self._trials[self._to_do.popleft()]) if self._to_do else self._ask()

    def has_work(self) -> bool:
        """Whether there is a trial to hand out, unfinished or new."""
        return bool(self._to_do) or (not self.stop_reason and len(self._trials) < self.wanted)

    def record_epoch(self, number: int, epoch: Epoch) -> None:
        """Commit one epoch; one that is recorded already (run again after a crash) changes
        nothing.
        """
        if self._trials[number].has_epoch(epoch.epoch):
            return
        value = epoch.metrics[self.objective.metric]
        now = time.time()
        epoch = replace(
            epoch, gpu_seconds=round(self.gpu_share * (now - self._busy_since.get(number, now)), 3)
        )
        with storage_errors():
            live = self._live_trial(number)
            live.set_user_attr(f"epoch:{epoch.epoch}", epoch_to_plain(epoch))
            # this is the commit: an epoch without a value does not exist
            live.report(value, step=epoch.epoch)
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

    def hand_back(self, number: int) -> None:
        """Have a trial handed out again, charged with nothing: the machine under it died."""
        self._to_do.append(number)

    def suspend(self, cause: str) -> None:
        """Hand out no more trials; those that run stay unfinished, for a resume, and are charged
        with nothing.
        """
        self.suspended = self.suspended or cause

    def close_all(self) -> None:
        """End what is still open when a search has ended for a reason: no trial stays unfinished
        then.
        """
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
        best = trial.best_epoch(self.objective)
        if outcome == Outcome.COMPLETE and best is None:
            outcome, cause = Outcome.FAILED, cause or "no epoch has a finite value"
        with storage_errors():
            live = self._live_trial(trial.number)
            live.set_user_attr("outcome", str(outcome))
            live.set_user_attr("cause", cause)
            if outcome in CONSTRAINTS:
                live.set_constraint(CONSTRAINTS[outcome], 1)
            value = (
                best.metrics[self.objective.metric]
                if best and outcome == Outcome.COMPLETE
                else None
            )
            self.record.tell(trial.number, value, state=STATES[outcome])
        self._live.pop(trial.number, None)
        if trial.number in self._to_do:
            self._to_do.remove(trial.number)
        ended = replace(trial, outcome=outcome, cause=cause)
        if standing_now := as_best(ended, self.objective):
            insort(self.ranked, standing_now, key=place_in(self.objective))
        self.end_session()
        self._changed(ended)

    def _limit_reached(self) -> str | None:
        return reached(self.stop, self.trials, self.objective, self.seconds)

    def _all_fail_alike(self) -> str | None:
        """The same failure in each of the first trials is no matter of luck. A resume counts
        anew: the cause may be mended.
        """
        causes = list(self._first_causes.values())[:SAME_FAILURES]
        if self._measured or len(causes) < SAME_FAILURES or len(set(causes)) > 1:
            return None
        return f"the first {SAME_FAILURES} trials failed alike: {causes[0]}"

    def _ask(self) -> Trial:
        number = self._asked
        with storage_errors():
            self.record.sampler = self._sampler(number)
            self._live[number] = self.record.ask()
        self._asked += 1
        return self._hand_out(Trial(number, {}))

    def _hand_out(self, trial: Trial) -> Trial:
        """The trial with all its parameters: new ones, or those that were recorded before its
        process died.
        """
        with storage_errors():
            live = self._live_trial(trial.number)
            params = self.space.choose(
                lambda name, parameter: self._suggest(live, trial.number, name, parameter)
            )
        self._busy_since[trial.number] = time.time()
        self._changed(replace(trial, params=params))
        return self._trials[trial.number]

    def _suggest(self, live: optuna.Trial, number: int, name: str, parameter: Parameter) -> Any:
        """A value from a sampler of its own: it does not depend on which of the others were
        recorded before a kill.
        """
        self.record.sampler = self._sampler(number, name)
        return suggest(live, name, parameter)

    def _sampler(self, number: int, parameter: str = "") -> BaseSampler:
        return make_sampler(self.space.search.sampler, self.space.search.seed, number, parameter)

    def _live_trial(self, number: int) -> optuna.Trial:
        """Optuna's handle of a trial; made anew for one that an earlier process asked for."""
        if number not in self._live:
            self.record.sampler = self._sampler(number)
            self._live[number] = optuna.Trial(
                self.record, self.record.get_trials(deepcopy=False)[number]._trial_id
            )
        return self._live[number]

    def _changed(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        for listener in self.listeners:
            listener(trial)
