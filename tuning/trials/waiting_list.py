"""Which trial is handed out next: an unfinished one, one that waits at a rung, or a new one."""

from collections import deque
from collections.abc import Sequence

from tuning.space import SearchSettings
from tuning.trials.promotion import Promotion
from tuning.trials.trial import RUNNING, Trial


class WaitingList:
    """The open trials of a search: those that run, those to be handed out again, those that wait.

    Args:
        trials: the recorded ones. Of these none runs: an earlier process handed them out.
    """

    def __init__(self, search: SearchSettings, trials: Sequence[Trial]) -> None:
        self.promotion = Promotion(search, trials)
        self.running: set[int] = set()
        self.unfinished = deque(one.number for one in trials if one.status == RUNNING)

    def next(self, *, may_begin: bool) -> int | None:
        """The number of the next trial; None if it is a new one, or there is none.

        Args:
            may_begin: whether a new trial may be begun.
        """
        if self.unfinished:
            return self.unfinished[0]
        # While a trial runs, it may still come to a rung and be better than those that wait.
        return self.promotion.next(last=not may_begin and not self.running)

    def begin(self, number: int) -> None:
        """A trial is handed out."""
        self.leave(number)
        self.running.add(number)

    def hand_back(self, number: int) -> None:
        """A trial is to be handed out again."""
        self.leave(number)
        self.unfinished.append(number)

    def leave(self, number: int) -> None:
        """A trial has ended, or waits."""
        self.running.discard(number)
        if number in self.unfinished:
            self.unfinished.remove(number)
