"""The study as a Ray Tune searcher: hands out a trial when a slot is free, and again when its process died."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from tuning.reporting import hang_of, stall_log
from tuning.results import Outcome, Trial
from tuning.study import Study


class StudySearcher(Searcher):
    """Nothing is drawn ahead: the sampler sees every result that exists when a slot is free.

    Args:
        slots: how many trials run at once.
        logs: where trials that hang leave their stacks.
        cluster_lives: a trial that ended because Ray itself died is not charged with it.
    """

    def __init__(self, study: Study, slots: int, logs: Path, cluster_lives: Callable[[], bool]) -> None:
        super().__init__()
        self.study = study
        self.slots = slots
        self.logs = logs
        self.cluster_lives = cluster_lives
        self._live: dict[str, int] = {}  # Tune's trial id -> the study's number

    def suggest(self, trial_id: str) -> Any:
        if len(self._live) >= self.slots:
            return None
        trial = self.study.next_trial()
        if trial is None:  # a live trial may yet have to be handed out again
            return None if self._live else str(Searcher.FINISHED)
        self._live[trial_id] = trial.number
        return assignment(trial, self.study.metric)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The scheduler closed the trial already, unless its process died."""
        number = self._live.pop(trial_id)
        if error and self.cluster_lives():
            hang = hang_of(stall_log(self.logs, number))
            outcome = Outcome.STALLED if hang else Outcome.FAILED
            self.study.close(number, outcome, hang or "the trial's process died")

    # Tune keeps copies of its searcher; ours are empty, because the study has it all and Tune's copies are never read.
    def __getstate__(self) -> dict[str, Any]:
        return {}

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass


def assignment(trial: Trial, metric: str) -> dict[str, Any]:
    """What a worker needs to know: the parameters, and the recorded epochs it may go on from."""
    history = [
        {"epoch": epoch.epoch, "value": epoch.metrics[metric], "checkpoint": epoch.checkpoint, "sha256": epoch.sha256}
        for epoch in trial.epochs
        if epoch.checkpoint
    ]
    return {"number": trial.number, "params": trial.params, "history": history}
