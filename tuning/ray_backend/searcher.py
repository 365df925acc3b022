"""The study as a Ray Tune searcher: hands out a trial when a slot is free, and again when its
process or its node died.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from tuning.ray_backend.local_cluster import Cluster
from tuning.run.resources import Slots
from tuning.study.study import Study
from tuning.trials.trial import Outcome, Trial
from tuning.worker.guard import describe_hang, stall_log

NODES_PER_TRIAL = 3  # a trial that dies with more of them may be what kills them


class StudySearcher(Searcher):
    """Nothing is drawn ahead: the sampler sees every result that exists when a slot is free.

    Args:
        slots: what each trial gets.
        logs: where trials that hang leave their stacks.
        cluster: says how many run at once; a trial that ended because Ray or its node died is not
            charged with it.
        ending: whether the search is to end now, whatever there is to hand out.
    """

    def __init__(
        self,
        study: Study,
        slots: Slots,
        logs: Path,
        cluster: Cluster,
        ending: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self.study = study
        self.slots = slots
        self.logs = logs
        self.cluster = cluster
        self.ending = ending
        # Tune's trial id -> the study's number, and when it was handed out
        self._live: dict[str, tuple[int, float]] = {}
        # the study's number -> how many died in a row, at which epoch
        self._nodes_lost: dict[int, tuple[int, int]] = {}

    def suggest(self, trial_id: str) -> Any:
        # before a room is waited for that may never come
        if not self._live and (self.ending() or self.study.is_over()):
            return str(Searcher.FINISHED)
        if len(self._live) >= self.cluster.room(self.slots):
            return None
        trial = self.study.next_trial()
        if trial is None:  # a live trial may yet have to be handed out again
            return None if self._live else str(Searcher.FINISHED)
        self._live[trial_id] = (trial.number, time.time())
        return assignment(trial, self.study.objective.metric)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The scheduler closed the trial already, unless its process died."""
        number, begun = self._live.pop(trial_id)
        if not error or self.cluster.dead():
            return
        # it ended itself, whatever nodes died meanwhile
        if hang := describe_hang(stall_log(self.logs, number)):
            self.study.close(number, Outcome.STALLED, hang)
        elif node := self.cluster.lost_node(begun):
            self._lose(number, node)
        else:
            self.study.close(number, Outcome.FAILED, "the trial's process died")

    def _lose(self, number: int, node: str) -> None:
        """Hand the trial out again, unless node after node dies without an epoch of it in
        between.
        """
        epochs = len(self.study.trial(number).epochs)
        lost, at = self._nodes_lost.get(number, (0, epochs))
        lost = lost + 1 if epochs == at else 1
        self._nodes_lost[number] = (lost, epochs)
        if lost <= NODES_PER_TRIAL:
            self.study.hand_back(number)
        else:
            self.study.close(number, Outcome.FAILED, f"{lost} nodes died under it, the last {node}")

    # Tune keeps copies of its searcher; ours are empty, because the study has it all and Tune's
    # copies are never read.
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
        {
            "epoch": epoch.epoch,
            "value": epoch.metrics[metric],
            "checkpoint": epoch.checkpoint,
            "sha256": epoch.sha256,
        }
        for epoch in trial.epochs
        if epoch.checkpoint
    ]
    return {"number": trial.number, "params": trial.params, "history": history}
