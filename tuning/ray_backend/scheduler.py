"""Records each epoch in the study, ends a trial whose value is not finite, then asks ASHA: the
study's promotion, or Ray's, which stops trials.

Tune asks its scheduler before anything else, so the epoch is durable before the trial may go on.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from text_recognizer.metrics import METRICS
from tuning.run import waiting_kept
from tuning.space import SearchSettings
from tuning.study import Study
from tuning.trials import RUNNING, WAITING, Epoch, Outcome

CONTINUE, STOP = str(TrialScheduler.CONTINUE), str(TrialScheduler.STOP)


@dataclass
class StandIn:
    """What ASHA sees of a trial: the study's number, so that a continued trial keeps its place in
    the rungs.
    """

    trial_id: str


class RecordingScheduler(FIFOScheduler):
    """Commits every result to the study before the trial may go on. ASHA decides after that.

    Args:
        on_death: called with Tune's id of a trial whose process died, and with Ray's error.
    """

    def __init__(self, study: Study, on_death: Callable[[str, str], None] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.on_death = on_death
        self.study = study
        self.search = study.space.search
        self.waiting = waiting_kept(study.limits)
        self.asha: Any = make_asha(self.search)  # it uses nothing of a trial but its `trial_id`
        self._refill()

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its scheduler into a file that is never read."""
        return {}

    # Rungs are filled by the study's numbers: Tune's trial ids are new after a resume.
    def on_trial_add(self, tune_controller: Any, trial: TuneTrial) -> None:
        self._add(trial.config["number"])

    def on_trial_result(
        self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]
    ) -> str:
        number, study = trial.config["number"], self.study
        # The last report of a trial says how it ended; all others are epochs.
        if "disk" in result:
            study.suspend(result["disk"])
        elif "outcome" in result:
            outcome, log = Outcome(result["outcome"]), result.get("log", "")
            study.close(number, outcome, result["cause"], log)
        elif self._take(number, reported_epoch(result)):
            return STOP if study.suspended else CONTINUE
        return STOP

    def on_trial_error(self, tune_controller: Any, trial: TuneTrial) -> None:
        """Tune tells its searcher that a trial died, but not why."""
        if self.on_death and trial.error_file:
            error = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
            self.on_death(trial.trial_id, error)

    def _take(self, number: int, epoch: Epoch) -> bool:
        """Record and judge an epoch. Returns whether the trial goes on."""
        study = self.study
        if not study.trial(number).has_epoch(epoch.epoch):
            study.record_epoch(number, epoch)
            return self._apply(number, self._judge(number, epoch), epoch)
        # run again after a crash, and judged before
        return self._apply(number, Outcome.STOPPED_EARLY if study.stop_reason else None, epoch)

    def _apply(self, number: int, verdict: str | None, epoch: Epoch) -> bool:
        """Tell the study a verdict. Returns whether the trial goes on."""
        if verdict == WAITING:
            self.study.wait(number, self.waiting)
        elif verdict:
            outcome = Outcome(verdict)
            self.study.close(number, outcome, self._cause(outcome, epoch))
        return verdict is None

    def _judge(self, number: int, epoch: Epoch) -> str | None:
        """How the trial ends with this epoch, `waiting`, or None if it goes on."""
        if epoch.has_diverged(self.search.metric):
            return Outcome.DIVERGED
        verdict = self._ask_asha(number, epoch)
        # Before the verdict: ASHA says STOP at its own `max_t`, too.
        if epoch.epoch >= self.search.max_epochs:
            return Outcome.COMPLETE
        if verdict == STOP or self.study.stop_reason:
            return Outcome.STOPPED_EARLY
        return None if self.study.open.promotion.goes_on(number, epoch) else WAITING

    def _ask_asha(self, number: int, epoch: Epoch) -> str:
        """Ray's verdict. It always goes on where trials are promoted, and without ASHA."""
        result = {"epoch": epoch.epoch, self.search.metric: epoch.metrics[self.search.metric]}
        return str(self.asha.on_trial_result(None, StandIn(str(number)), result))

    def _cause(self, outcome: Outcome, epoch: Epoch) -> str:
        """Which metrics are not finite, or why the search ended. No cause if ASHA decided."""
        if outcome == Outcome.DIVERGED:
            metrics = epoch.metrics.items()
            bad = [f"{name}={value}" for name, value in metrics if not math.isfinite(value)]
            return f"{', '.join(bad)} at epoch {epoch.epoch}"
        return self.study.stop_reason or "" if outcome == Outcome.STOPPED_EARLY else ""

    def _add(self, number: int) -> None:
        """Give a trial its rungs. Once more does nothing: there is one bracket."""
        self.asha.on_trial_add(None, StandIn(str(number)))

    def _refill(self) -> None:
        """Put the recorded epochs back into ASHA's rungs, in the order of their commits.

        A process may have died between an epoch's commit and its verdict: such a trial ends now.
        """
        recorded = [(epoch, trial.number) for trial in self.study.trials for epoch in trial.epochs]
        for trial in self.study.trials:
            self._add(trial.number)
        for epoch, number in sorted(recorded, key=lambda pair: pair[0].worked):
            trial = self.study.trial(number)
            # only the last epoch of a running trial may be without its verdict
            if trial.status == RUNNING and epoch == trial.epochs[-1]:
                self._apply(number, self._judge(number, epoch), epoch)
            elif not epoch.has_diverged(self.search.metric):
                self._ask_asha(number, epoch)

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Let Tune start trials in their order: FIFO's own choice walks over all of them."""


def make_asha(search: SearchSettings) -> FIFOScheduler:
    """Ray's ASHA (Li et al., 2020) in one bracket, or a scheduler that ends no trial early.

    More brackets would draw from NumPy's global random state.
    """
    if search.promotes or not search.rungs():
        return FIFOScheduler()
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=search.metric,
        mode=search.objective.mode,
        max_t=search.max_epochs,
        grace_period=search.asha.grace_epochs,
        reduction_factor=search.asha.reduction_factor,
    )


def reported_epoch(result: dict[str, Any]) -> Epoch:
    """What a worker reported, as a record."""
    metrics = {name: float(result[name]) for name in METRICS if name in result}
    return Epoch(
        result["epoch"], metrics, result.get("checkpoint"), result.get("sha256"), time.time()
    )
