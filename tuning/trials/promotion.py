"""Asynchronous successive halving whose trials wait: which trial may go on after a rung.

At a rung a trial waits. Of `n` trials that came to a rung, `n * quota / reduction_factor` may go on
in all, and each place is given once: to the best of those that wait, the highest rung first. A new
trial is begun only when none may go on. Ray's ASHA stops trials instead: it compares each with the
best third *so far*, so that with a sampler that learns nearly every new trial goes on to its end.

Where less than half of the trials go on, every third trial of the sampler `gp` explores: it is a
random point, and has places of its own. Else the many trials near the best one would take all
places, and a region that is worse after the first rung and better at the end would never be seen.

After the promotions of ASHA (Li et al., 2020), where a place falls free again when a better trial
comes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tuning.space import SearchSettings
from tuning.trials.trial import Epoch, Trial

EXPLORER = 3  # one trial of so many explores


def explores(search: SearchSettings, number: int) -> bool:
    """Whether a trial is a random point, whatever the model of the sampler says."""
    asha = search.asha
    if search.sampler != "gp" or asha.quota is None or not search.promotes:
        return False
    return 2 * asha.quota < asha.reduction_factor and number % EXPLORER == 0


@dataclass
class Rung:
    """The trials that compete with each other after one epoch.

    Args:
        came: those that reached it.
        went: those that went on: the places that are taken.
        waiting: those that wait, with their values there.
    """

    came: set[int] = field(default_factory=set)
    went: set[int] = field(default_factory=set)
    waiting: dict[int, float] = field(default_factory=dict)


class Promotion:
    """The rungs of one search. It has none if trials are stopped.

    It is a function of the recorded trials: a resume builds it again from them.

    Args:
        trials: their epochs are recorded in the order of their commits.
    """

    def __init__(self, search: SearchSettings, trials: Iterable[Trial] = ()) -> None:
        self.search = search
        self.metric, self.sign = search.metric, search.objective.sign
        epochs = search.rungs() if search.promotes else []
        # epoch -> the rung of the trials that explore and that of the others
        self.rungs = {epoch: {True: Rung(), False: Rung()} for epoch in epochs}
        trials = list(trials)
        recorded = [(epoch, trial.number) for trial in trials for epoch in trial.epochs]
        for epoch, number in sorted(recorded, key=lambda pair: pair[0].worked):
            self.record(number, epoch)
        for trial in trials:
            if trial.waits or trial.is_held:
                self.wait(trial.number, trial.epochs[-1])
            elif trial.outcome:
                self.leave(trial)
            elif trial.went_on_after in self.rungs:
                self.go_on(trial.number, trial.went_on_after)

    def _rung(self, number: int, epoch: int) -> Rung:
        return self.rungs[epoch][explores(self.search, number)]

    def record(self, number: int, epoch: Epoch) -> None:
        """Note an epoch of a trial."""
        if epoch.has_diverged(self.metric):
            return
        for at in self.rungs:
            if at < epoch.epoch:
                self.go_on(number, at)
            elif at == epoch.epoch:
                self._rung(number, at).came.add(number)

    def goes_on(self, number: int, epoch: Epoch) -> bool:
        """Whether a trial that has just recorded this epoch keeps its slot. Else it waits."""
        at = epoch.epoch
        if at not in self.rungs or number in self._rung(number, at).went:
            return True
        self.wait(number, epoch)
        if number not in self._due(self._rung(number, at)):
            return False
        self.go_on(number, at)
        return True

    def wait(self, number: int, epoch: Epoch) -> None:
        """A trial waits after its last epoch."""
        self._rung(number, epoch.epoch).waiting[number] = epoch.metrics[self.metric]

    def go_on(self, number: int, epoch: int) -> None:
        """A trial takes a place of the rung at this epoch."""
        rung = self._rung(number, epoch)
        rung.waiting.pop(number, None)
        rung.went.add(number)

    def leave(self, trial: Trial) -> None:
        """A trial has ended. One that diverged or failed gives its places back."""
        for epoch in self.rungs:
            rung = self._rung(trial.number, epoch)
            rung.waiting.pop(trial.number, None)
            if not trial.can_be_best:
                rung.went.discard(trial.number)

    def next(self, *, last: bool = False) -> int | None:
        """The waiting trial that is due, or None.

        Args:
            last: no new trial will come: at an epoch after which nobody went on, the best of all
                that wait does, so that a search trains one trial to its end.
        """
        for rungs in reversed(self.rungs.values()):
            due = [number for rung in rungs.values() for number in self._due(rung)]
            if not due and last and not any(rung.went for rung in rungs.values()):
                due = self.best_first(*rungs.values())
            if due:
                return due[0]
        return None

    def best_first(self, *rungs: Rung) -> list[int]:
        """Those that wait at rungs, best first; of equals the earlier trial first."""
        waiting = {number: value for rung in rungs for number, value in rung.waiting.items()}
        return sorted(waiting, key=lambda number: (-self.sign * waiting[number], number))

    def rivals(self, number: int, epoch: int) -> list[int]:
        """Those that wait at the rung of a trial, best first."""
        return self.best_first(self._rung(number, epoch))

    def _due(self, rung: Rung) -> list[int]:
        """Those that wait at a rung and may go on, best first."""
        asha = self.search.asha
        places = len(rung.came) * (asha.quota or 1) // asha.reduction_factor
        return self.best_first(rung)[: max(0, places - len(rung.went))]
