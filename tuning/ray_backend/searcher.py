"""The study as a Ray Tune searcher: hands out a trial when a slot is free, and again when its
process or its node died.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from tuning.ray_backend.deaths import Death, describe_full_memory, oom_kills, read_death
from tuning.ray_backend.local_cluster import Cluster
from tuning.study import Search
from tuning.trials import Outcome, Trial
from tuning.worker import describe_hang, log_name, logged_cause, stall_log, trial_log, write_failure

NODES_PER_TRIAL = 3  # a trial under which more nodes die may be what kills them
MEMORY_DEATHS = 3  # without an epoch in between, before the search is suspended


@dataclass(frozen=True)
class Handed:
    """A trial that was handed out.

    Args:
        number: the study's.
        begun: when, by the monotonic clock.
        log_time: how old the log of its last failure was.
        oom_kills: how many processes Linux had ended by then, for want of memory.
    """

    number: int
    begun: float
    log_time: int
    oom_kills: int


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
        self.live: dict[str, Handed] = {}  # by Tune's trial id
        self._deaths: dict[str, str] = {}  # Tune's trial id -> Ray's error
        # Where memory is short: how many trials may run at once, and for how many deaths in a row
        # no trial came to an epoch.
        self._fitting = math.inf
        self._memory_deaths = (0, 0)  # how many, after how many epochs of the search
        # the study's number -> how many nodes died in a row, and after how many epochs
        self._nodes_lost: dict[int, tuple[int, int]] = {}

    def suggest(self, trial_id: str) -> Any:
        # First, because a cluster without room may never get any: Tune asks for ten minutes.
        if not self.live and (self.must_end() or self.study.is_over()):
            return Searcher.FINISHED
        if len(self.live) >= min(self._fitting, self.cluster.room(self.slots)):
            return None
        trial = self.study.next_trial()
        if trial is None:  # a live trial may still have to be handed out again
            return None if self.live else Searcher.FINISHED
        handed = Handed(trial.number, time.monotonic(), self._log_time(trial.number), oom_kills())
        self.live[trial_id] = handed
        return assignment(trial, self.study.objective.metric)

    def died(self, trial_id: str, error: str) -> None:
        """Why a trial's process died. Tune calls `on_trial_complete` after it."""
        self._deaths[trial_id] = error

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The scheduler has closed the trial, unless its process died."""
        handed = self.live.pop(trial_id)
        number, error_text = handed.number, self._deaths.pop(trial_id, "")
        if not error or self.cluster.dead():
            return
        stalled, log = stall_log(self.logs, number), trial_log(self.logs, number)
        # A process that left its stacks hung, whatever nodes died meanwhile.
        if hang := describe_hang(stalled):
            stacks = stalled.read_text(encoding="utf-8", errors="replace")
            write_failure(log, hang, stacks, read_death(error_text, handed.oom_kills).said)
            stalled.unlink()
            self.study.close(number, Outcome.STALLED, hang, log_name(log))
        elif node := self.cluster.lost_node(handed.begun):
            self._lose(number, node)
        else:
            self._close_dead(handed, read_death(error_text, handed.oom_kills), log)

    def _close_dead(self, handed: Handed, death: Death, log: Path) -> None:
        """A trial's process died alone: it ended itself, or was ended."""
        name, number = log_name(log), handed.number
        if self._log_time(number) != handed.log_time:
            # A worker that must not go on writes why, and ends without a report.
            self.study.close(number, Outcome.FAILED, logged_cause(log) or death.cause, name)
        elif death.memory and not death.is_greedy:
            self._save_memory(number, death.memory)
        else:
            write_failure(log, death.cause, "", death.said)
            outcome = Outcome.OUT_OF_MEMORY if death.is_greedy else Outcome.FAILED
            self.study.close(number, outcome, death.cause, name)

    def _save_memory(self, number: int, memory: str) -> None:
        """The machine's memory is full, whoever filled it: run fewer trials, or suspend the search.
        No trial is charged.
        """
        epochs = sum(len(trial.epochs) for trial in self.study.trials)
        deaths, at = self._memory_deaths
        deaths = deaths + 1 if epochs == at else 1
        self._memory_deaths = (deaths, epochs)
        self.study.hand_back(number)
        if deaths >= MEMORY_DEATHS:
            self.study.suspend(describe_full_memory(memory))
        else:
            self._fitting = max(1, min(self._fitting, len(self.live) + 1) - 1)
            self.cluster.on_capacity(int(self._fitting))
            self.cluster.say(
                f"the memory of the machine is full ({memory}): trial {number} goes on later; "
                f"from now on at most {self._fitting} at once"
            )

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
