"""What a search says in the terminal: a row for each trial that ends, and below them what goes
on now; plain lines in a pipe.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from text_recognizer.text import printable_lines
from tuning.run.forecast import TimeLeft, time_left
from tuning.space.durations import shown_duration
from tuning.space.schema import CategoricalParameter, IntParameter, Parameter, Stop
from tuning.space.search_space import SearchSpace
from tuning.trials.table import score, short
from tuning.trials.trial import Outcome, Trial, ahead, counts, epochs_saved, epochs_trained, ranking

COLOURS = {Outcome.COMPLETE: "green", Outcome.STOPPED_EARLY: "yellow"}
LAST_FAILURES = 3
WIDEST = 20  # of a parameter's column
FLOAT_WIDTH = 9  # `1.893e-05`


class SearchConsole:
    """Follows a study's changes. Use as a context manager around the search.

    Args:
        wanted: trials that the search is to have.
        quiet: say only the notes and the result.
    """

    def __init__(
        self,
        space: SearchSpace,
        wanted: int,
        *,
        quiet: bool = False,
        console: Console | None = None,
    ) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.quiet = quiet
        self.space = space
        self.wanted = wanted
        self.objective = space.search.objective
        self.best: tuple[float, int] | None = None  # value, trial
        self.trials: dict[int, Trial] = {}
        self.failures: list[str] = []
        self.widths = [
            max(len(name), width_of(parameter)) for name, parameter in space.parameters.items()
        ]
        self.started = time.time()
        self.slots = 1
        self.stop = space.search.stop
        self.worked_before = 0.0  # seconds, by earlier processes
        self.live: Live | None = None

    def catch_up(self, trials: list[Trial], slots: int, stop: Stop, worked_before: float) -> None:
        """Know what an earlier process recorded, without saying it again, and what this one has
        to work with.
        """
        self.trials = {trial.number: trial for trial in trials}
        best = ranking(trials, self.objective)
        self.best = (best[0].value, best[0].trial.number) if best else None
        self.slots, self.stop, self.worked_before = slots, stop, worked_before

    def say(self, text: str, style: str = "") -> None:
        """One line, whatever else is on the screen. Nothing in it is taken for markup."""
        self.console.print(Text(printable_lines(text), style=style))

    def tell(self, text: str) -> None:
        """The same for what `--quiet` leaves out."""
        if not self.quiet:
            self.say(text)

    def note(self, text: str) -> None:
        """Something the user should not miss."""
        self.say(f"note: {text}", "bold yellow")

    def __enter__(self) -> SearchConsole:
        self.started = time.time()
        if self.console.is_terminal and not self.quiet:
            self.live = Live(
                get_renderable=self._now, console=self.console, transient=True, refresh_per_second=4
            )
            self.live.start()
        elif not self.quiet:
            self.say(self._head().rstrip())
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def on_change(self, trial: Trial) -> None:
        """A listener for the study."""
        before = self.trials.get(trial.number)
        self.trials[trial.number] = trial
        if len(trial.failures) > (len(before.failures) if before else 0):
            self.failures.append(f"trial {trial.number} is tried again: {trial.failures[-1]}")
            self.note(f"trial {trial.number} failed and is tried again: {trial.failures[-1]}")
        if trial.outcome:
            self._end(trial)

    def _end(self, trial: Trial) -> None:
        epoch = trial.best_epoch(self.objective)
        value = epoch.metrics[self.objective.metric] if epoch else None
        counted = trial.outcome in COLOURS
        new_best = (
            counted
            and value is not None
            and self.objective.is_better(value, self.best[0] if self.best else None)
        )
        if new_best and value is not None:
            self.best = (value, trial.number)
        if not counted:
            self.failures.append(
                f"trial {trial.number} {trial.status.replace('_', ' ')}: {trial.cause}"
            )
        if not self.quiet:
            remark = "; ".join(
                part for part in ("<- best so far" if new_best else "", trial.cause) if part
            )
            row = self._row(trial)
            line = Text(
                printable_lines(f"{row}  {remark}".rstrip()),
                style=COLOURS.get(trial.outcome or Outcome.FAILED, "red"),
            )
            # a cause is worth its lines; the rest stands in the report
            cut = self.console.is_terminal and not trial.cause
            self.console.print(
                line, no_wrap=cut, overflow="ellipsis" if cut else None, crop=cut, soft_wrap=not cut
            )

    def _head(self) -> str:
        return self._columns(
            "trial", "epoch", self.objective.metric, "status", list(self.space.parameters)
        )

    def _row(self, trial: Trial) -> str:
        epoch = trial.best_epoch(self.objective)
        return self._columns(
            str(trial.number),
            f"{len(trial.epochs)}/{self.space.search.max_epochs}",
            score(epoch.metrics[self.objective.metric]) if epoch else "",
            trial.status.replace("_", " "),
            [short(trial.params.get(name, "")) for name in self.space.parameters],
        )

    def _columns(
        self, trial: str, epoch: str, value: str, status: str, params: Sequence[str]
    ) -> str:
        columns = [
            f"{trial:>6}",
            f"{epoch:>7}",
            f"{value:>{max(8, len(self.objective.metric))}}",
            f"{status:<14}",
        ]
        return "  ".join(
            columns
            + [f"{param:<{width}}" for param, width in zip(params, self.widths, strict=True)]
        )

    def _now(self) -> Group:
        """What moves: the trials that run, the search as a whole, the last failures."""
        lines = [Text(self._head(), style="bold")]
        lines += [Text(self._row(trial), style="cyan") for trial in self._running()]
        lines += [Text(f"  {line}") for line in self._totals()]
        lines += [
            Text(printable_lines(f"  {line}"), style="red")
            for line in self.failures[-LAST_FAILURES:]
        ]
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*lines)

    def _running(self) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.outcome is None]

    def _totals(self) -> list[str]:
        """The search so far, in lines that fit a narrow terminal."""
        trials, running = list(self.trials.values()), self._running()
        best = f"best {score(self.best[0])} (trial {self.best[1]})" if self.best else "no best yet"
        if lead := ahead(running, self.best[0] if self.best else None, self.objective):
            best += f", trial {lead[0]} runs at {score(lead[1])}"
        saved = epochs_saved(trials, self.space.search.max_epochs)
        gone = time.time() - self.started
        left = time_left(
            trials,
            self.wanted,
            self.space.search.max_epochs,
            self.started,
            self.stop,
            self.worked_before + gone,
        )
        return [
            f"{len(trials) - len(running)} of {self.wanted} trials ended  ·  {best}",
            f"{epochs_trained(trials)} epochs trained, {saved} saved by ASHA",
            (
                f"{min(len(running), self.slots)} of {self.slots} slots in use  ·  "
                f"{shown_duration(gone)} gone, {told(left)}"
            ),
        ]


def width_of(parameter: Parameter) -> int:
    """Characters that a parameter's values take."""
    if isinstance(parameter, CategoricalParameter):
        return min(WIDEST, max(len(short(choice)) for choice in parameter.choices))
    if isinstance(parameter, IntParameter):
        return max(len(str(end)) for end in parameter.ends())
    return FLOAT_WIDTH


def told(left: TimeLeft | None) -> str:
    """An estimate in words, no more exact than it is."""
    if left is None:
        return "time left not known yet"
    if left.high < 10:
        return "less than 10s left"
    low, high = (shown_duration(coarse(seconds)) for seconds in (left.low, left.high))
    return f"about {high} left" if low == high else f"{low} to {high} left"


def coarse(seconds: float) -> float:
    """Rounded to ten seconds below two minutes, to minutes below two hours, to ten minutes
    above.
    """
    unit = 10 if seconds < 120 else 60 if seconds < 7200 else 600
    return round(seconds / unit) * unit


def tally(trials: list[Trial], max_epochs: int) -> str:
    """The search in one line: how the trials ended and where the epochs went."""
    ended = (
        ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in counts(trials).items() if n)
        or "no trial"
    )
    return (
        f"{ended}; {epochs_trained(trials)} epochs trained, "
        f"{epochs_saved(trials, max_epochs)} saved"
    )
