"""Says what a search waits for while no worker starts, and ends the wait."""

import time
from collections.abc import Sequence
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial

from text_recognizer.errors import ClusterError
from tuning.ray_backend.deaths import worker_log
from tuning.ray_backend.searcher import StudySearcher
from tuning.space import seconds_of, shown_duration
from tuning.worker import last_lines

LOOK_EVERY_S = 1
SAY_AFTER_S = 60  # a worker imports torch for 5 seconds, on slow disks for 30


class StartWatch(Callback):
    """Watches that a worker starts for the trials that were handed out. Ray tells nobody that one
    cannot be started, and tries for ever.

    Args:
        limit: how long the search waits before it ends with a `ClusterError`, at least a minute.
            It is not ended on a cluster of others, whose jobs may hold all CPUs.
    """

    def __init__(self, searcher: StudySearcher, limit: str) -> None:
        self.searcher = searcher
        self.limit = max(SAY_AFTER_S, seconds_of(limit))
        self.patience = min(SAY_AFTER_S, self.limit / 2)
        self._looked = self._since = self._said = time.monotonic()

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        if not self._waits(trials):
            self._since = self._said = now
        elif now - self._since > self.limit and self.searcher.cluster.is_own:
            raise ClusterError(self._describe(now))
        elif now - self._said > self.patience:
            self._said = now
            self.searcher.cluster.say(self._describe(now))

    def _waits(self, trials: Sequence[TuneTrial]) -> bool:
        """Whether there is room for trials, some were handed out, and none of them runs."""
        live = self.searcher.live
        if not live or self.searcher.cluster.has_no_room(self.searcher.slots):
            return False
        # The live ones are among the last, and there may be thousands.
        found = (trial for trial in reversed(trials) if trial.trial_id in live)
        return all(trial.status == TuneTrial.PENDING for trial, _ in zip(found, live, strict=False))

    def _describe(self, now: float) -> str:
        lines = last_lines(worker_log())
        said = f": {lines[-1].strip()}" if lines else " (there is none)"
        return (
            f"no worker has started for {shown_duration(now - self._since)}; the last line of the "
            f"newest log of a worker{said}"
        )
