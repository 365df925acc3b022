"""Records each epoch, ends trials whose value is not finite, then asks ASHA: in this order, because
Tune asks the scheduler before anything else."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from text_recognizer.metrics import METRICS
from tuning.space.schema import SearchSettings
from tuning.study.study import Study
from tuning.trials.trial import Epoch, Outcome

Result = dict[str, Any]


@dataclass
class StandIn:
    """What ASHA sees of a trial: the study's number, so that a trial which is continued keeps
    its place in the rungs.
    """

    trial_id: str


class RecordingScheduler(FIFOScheduler):
    """Tune's first stop for every result; the study is told before the trial may go on."""

    def __init__(self, study: Study) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.study = study
        self.search = study.space.search
        # its type wants Tune's own trials; it uses their `trial_id` alone
        self.asha: Any = make_asha(self.search)
        self._seen: set[int] = set()
        self._refill()

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its scheduler into a file that is never read: nothing of the study goes
        there.
        """
        return {}

    def on_trial_add(self, tune_controller: Any, trial: TuneTrial) -> None:
        self._add(trial.config["number"])

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: Result) -> str:
        number = trial.config["number"]
        if "disk" in result:
            self.study.suspend(result["disk"])
            return str(TrialScheduler.STOP)
        if "outcome" in result:
            self.study.close(number, Outcome(result["outcome"]), result["cause"])
            return str(TrialScheduler.STOP)
        epoch = epoch_of(result)
        # run again after a crash: recorded and judged before
        if self.study.trial(number).has_epoch(epoch.epoch):
            if self.study.stop_reason:
                self.study.close(number, Outcome.STOPPED_EARLY, self.study.stop_reason)
            over = self.study.stop_reason or self.study.suspended
            return str(TrialScheduler.STOP if over else TrialScheduler.CONTINUE)
        self.study.record_epoch(number, epoch)
        outcome = self._judge(number, epoch)
        if outcome is None:
            return str(TrialScheduler.STOP if self.study.suspended else TrialScheduler.CONTINUE)
        self.study.close(number, outcome, self._cause_of(outcome, epoch))
        return str(TrialScheduler.STOP)

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """No preference: Tune starts waiting trials in their order by itself, without a walk
        over all trials.
        """

    def on_trial_error(self, tune_controller: Any, trial: TuneTrial) -> None:
        """Its process died: the searcher is told next, and decides."""

    def on_trial_complete(self, tune_controller: Any, trial: TuneTrial, result: Result) -> None:
        """Nothing is left to do: the trial was closed when its last result came."""

    def on_trial_remove(self, tune_controller: Any, trial: TuneTrial) -> None:
        """A trial that never ran: it stays unfinished in the study."""

    def _judge(self, number: int, epoch: Epoch) -> Outcome | None:
        """How the trial ends with this epoch, or None where it goes on."""
        value = epoch.metrics[self.search.metric]
        if not math.isfinite(value):
            return Outcome.DIVERGED
        stop = self._ask_asha(number, epoch) == TrialScheduler.STOP
        if epoch.epoch >= self.search.max_epochs:
            return Outcome.COMPLETE
        return Outcome.STOPPED_EARLY if stop or self.study.stop_reason else None

    def _ask_asha(self, number: int, epoch: Epoch) -> str:
        result = {"epoch": epoch.epoch, self.search.metric: epoch.metrics[self.search.metric]}
        return str(self.asha.on_trial_result(None, StandIn(str(number)), result))

    def _add(self, number: int) -> None:
        if number not in self._seen:
            self._seen.add(number)
            self.asha.on_trial_add(None, StandIn(str(number)))

    def _refill(self) -> None:
        """Put what an earlier process recorded back into the rungs, and end a trial that died
        between verdict and end.
        """
        recorded = [(epoch, trial) for trial in self.study.trials for epoch in trial.epochs]
        verdicts = {}
        for trial in self.study.trials:
            self._add(trial.number)
        for epoch, trial in sorted(recorded, key=lambda pair: pair[0].time):
            verdicts[trial.number] = (self._judge(trial.number, epoch), epoch)
        for number, (outcome, epoch) in verdicts.items():
            if outcome and self.study.trial(number).outcome is None:
                self.study.close(number, outcome, self._cause_of(outcome, epoch))

    def _cause_of(self, outcome: Outcome, epoch: Epoch) -> str:
        """Which metrics stopped being numbers, or why the whole search ended; nothing where ASHA
        decided.
        """
        if outcome == Outcome.DIVERGED:
            bad = ", ".join(
                f"{name}={value}"
                for name, value in epoch.metrics.items()
                if not math.isfinite(value)
            )
            return f"{bad} at epoch {epoch.epoch}"
        return self.study.stop_reason or "" if outcome == Outcome.STOPPED_EARLY else ""


def make_asha(search: SearchSettings) -> FIFOScheduler:
    """Ray's ASHA in one bracket, or a scheduler that lets every trial run to its end."""
    if not search.rungs():
        return FIFOScheduler()
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=search.metric,
        mode=search.objective.mode,
        max_t=search.max_epochs,
        grace_period=search.asha.grace_epochs,
        reduction_factor=search.asha.reduction_factor,
    )


def epoch_of(result: Result) -> Epoch:
    """What a worker reported, as a record."""
    metrics = {name: float(result[name]) for name in METRICS if name in result}
    return Epoch(
        result["epoch"], metrics, result.get("checkpoint"), result.get("sha256"), time.time()
    )
