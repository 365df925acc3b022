"""The study as a Ray Tune searcher: hands out a trial when a slot is free, and again when its
process or its node died.
"""

import time
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from tuning.ray_backend.local_cluster import Cluster
from tuning.study import Search
from tuning.trials import Outcome, Trial
from tuning.worker import describe_hang, logged_cause, stall_log, trial_log

NODES_PER_TRIAL = 3  # a trial under which more nodes die may be what kills them


class StudySearcher(Searcher):
    """Asks the sampler only when a slot is free, so a proposal uses every result so far.

    Slots are counted here and not by Tune's `ConcurrencyLimiter`, which keeps a slot for ever if a
    trial ends in a way that it is not told of.

    Args:
        cluster: says how many trials fit now, and whether Ray or a node died.
        must_end: whether the search is to end now, whatever there is to hand out.
    """

    def __init__(self, search: Search, cluster: Cluster, must_end: Callable[[], bool]) -> None:
        super().__init__()
        self.study = search.study
        self.slots = search.slots
        self.logs = search.folder.logs
        self.cluster = cluster
        self.must_end = must_end
        # Tune's trial id -> the study's number, when the trial was handed out, and how old the log
        # of its last failure was
        self._live: dict[str, tuple[int, float, int]] = {}
        # the study's number -> how many nodes died in a row, and after how many epochs
        self._nodes_lost: dict[int, tuple[int, int]] = {}

    def suggest(self, trial_id: str) -> Any:
        # First, because a cluster without room may never get any: Tune asks for ten minutes.
        if not self._live and (self.must_end() or self.study.is_over()):
            return Searcher.FINISHED
        if len(self._live) >= self.cluster.room(self.slots):
            return None
        trial = self.study.next_trial()
        if trial is None:  # a live trial may still have to be handed out again
            return None if self._live else Searcher.FINISHED
        self._live[trial_id] = (trial.number, time.monotonic(), self._log_time(trial.number))
        return assignment(trial, self.study.objective.metric)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The scheduler has closed the trial, unless its process died."""
        number, begun, log_time = self._live.pop(trial_id)
        if not error or self.cluster.dead():
            return
        # A process that left its stacks hung, whatever nodes died meanwhile.
        if hang := describe_hang(stall_log(self.logs, number)):
            self.study.close(number, Outcome.STALLED, hang)
        elif node := self.cluster.lost_node(begun):
            self._lose(number, node)
        else:
            # A worker that must not go on writes why, and ends without a report.
            wrote = self._log_time(number) != log_time
            cause = logged_cause(trial_log(self.logs, number)) if wrote else None
            self.study.close(number, Outcome.FAILED, cause or "the trial's process died")

    def _log_time(self, number: int) -> int:
        """When the trial's log was written, by the file system's clock; 0 if there is none."""
        log = trial_log(self.logs, number)
        return log.stat().st_mtime_ns if log.exists() else 0

    def _lose(self, number: int, node: str) -> None:
        """Hand the trial out again, unless node after node dies without an epoch in between."""
        epochs = len(self.study.trial(number).epochs)
        lost, at = self._nodes_lost.get(number, (0, epochs))
        lost = lost + 1 if epochs == at else 1
        self._nodes_lost[number] = (lost, epochs)
        if lost <= NODES_PER_TRIAL:
            self.study.hand_back(number)
        else:
            cause = f"{lost} nodes died under it, the last {node}"
            self.study.close(number, Outcome.FAILED, cause)

    # Tune saves copies of its searcher and never reads them; the study holds the state.
    def __getstate__(self) -> dict[str, Any]:
        return {}

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        pass


def assignment(trial: Trial, metric: str) -> dict[str, Any]:
    """What a worker is told of its trial: parameters, and the epochs it may continue from."""
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
