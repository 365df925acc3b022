"""Prints messages and the table of trials: live in a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from text_recognizer.text import printable_lines
from tuning.run.forecast import time_left
from tuning.space.durations import shown_duration
from tuning.space.schema import FloatParameter, Parameter
from tuning.study.study import Study
from tuning.trials.table import score, short
from tuning.trials.trial import (
    RANKED,
    Best,
    Outcome,
    Trial,
    ahead,
    counts,
    epochs_saved,
    epochs_trained,
)

ROW_STYLES = {Outcome.COMPLETE: "green", Outcome.STOPPED_EARLY: "yellow"}  # others are red
LAST_FAILURES = 3  # shown below the table
MAX_COLUMN = 20  # characters of a parameter
FLOAT_COLUMN = 9  # characters: `1.893e-05`


class SearchConsole:
    """Prints messages. Nothing in them is taken for markup or obeyed by the terminal.

    Args:
        quiet: print only messages, notes and the result, no table.
        rich: where to print, if not to stdout.
    """

    def __init__(self, *, quiet: bool = False, rich: Console | None = None) -> None:
        self.quiet = quiet
        self.rich = rich or Console(highlight=False, soft_wrap=True)

    def say(self, text: str, style: str = "") -> None:
        """Print a message."""
        self.rich.print(line(text, style))

    def tell(self, text: str) -> None:
        """Print a message unless `--quiet` was given."""
        if not self.quiet:
            self.say(text)

    def note(self, text: str) -> None:
        """Print something that the user should not miss."""
        self.say(f"note: {text}", "bold yellow")


class TrialTable:
    """Follows the study: prints a row for each trial that ends. In a terminal it also shows the
    running trials and the totals. Use it as a context manager around the search.

    Args:
        slots: how many trials run at once.
    """

    def __init__(self, console: SearchConsole, study: Study, slots: int) -> None:
        self.console = console
        self.study = study
        self.slots = slots
        self.objective = study.objective
        self.search = study.space.search.model_copy(
            update={"trials": study.wanted, "stop": study.stop}
        )
        self.failures: list[str] = []
        self.retries = {trial.number: len(trial.failures) for trial in study.trials}
        self.formats = [">6", ">7", f">{max(8, len(self.objective.metric))}", "<14"]
        for name, parameter in study.space.parameters.items():
            self.formats.append(f"<{max(len(name), width_of(parameter))}")
        self.started = time.time()
        self.live: Live | None = None

    def __enter__(self) -> TrialTable:
        self.started = time.time()
        if self.console.rich.is_terminal and not self.console.quiet:
            self.live = Live(get_renderable=self._now, console=self.console.rich, transient=True)
            self.live.start()
        else:
            self.console.tell(self._head())
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def on_change(self, trial: Trial) -> None:
        """Print that a trial failed and is tried again, or that it has ended."""
        if len(trial.failures) > self.retries.get(trial.number, 0):
            self.retries[trial.number] = len(trial.failures)
            self.failures.append(
                f"trial {trial.number} failed and is tried again: {trial.failures[-1]}"
            )
            self.console.note(self.failures[-1])
        if trial.outcome is None:
            return
        if trial.outcome not in RANKED:
            self.failures.append(f"trial {trial.number} {words(trial.status)}: {trial.cause}")
        if not self.console.quiet:
            best = self._best()
            is_best = "<- best so far" if best and best.trial.number == trial.number else ""
            remark = "; ".join(part for part in (is_best, trial.cause) if part)
            style = ROW_STYLES.get(trial.outcome, "red")
            # a row has one line, unless it says why a trial failed
            self.console.rich.print(
                line(f"{self._row(trial)}  {remark}".rstrip(), style),
                soft_wrap=bool(trial.cause) or not self.console.rich.is_terminal,
            )

    def _best(self) -> Best | None:
        return self.study.ranked[0] if self.study.ranked else None

    def _head(self) -> str:
        return self._columns(
            ["trial", "epoch", self.objective.metric, "status", *self.study.space.parameters]
        )

    def _row(self, trial: Trial) -> str:
        epoch = trial.best_epoch(self.objective)
        return self._columns(
            [
                str(trial.number),
                f"{len(trial.epochs)}/{self.search.max_epochs}",
                score(epoch.metrics[self.objective.metric]) if epoch else "",
                words(trial.status),
                *(short(trial.params.get(name, "")) for name in self.study.space.parameters),
            ]
        )

    def _columns(self, cells: Iterable[str]) -> str:
        columns = zip(cells, self.formats, strict=True)
        return "  ".join(f"{cell:{column}}" for cell, column in columns).rstrip()

    def _now(self) -> Group:
        """What changes: the running trials, the totals, the last failures."""
        running = [trial for trial in self.study.trials if trial.outcome is None]
        return Group(
            line(self._head(), "bold"),
            *(line(self._row(trial), "cyan") for trial in running),
            *(line(f"  {text}") for text in self._totals(running)),
            *(line(f"  {text}", "red") for text in self.failures[-LAST_FAILURES:]),
        )

    def _totals(self, running: Sequence[Trial]) -> list[str]:
        """The search so far, in lines that fit a narrow terminal."""
        trials = self.study.trials
        best = self._best()
        standing = (
            f"best {score(best.value)} (trial {best.trial.number})" if best else "no best yet"
        )
        if lead := ahead(running, best.value if best else None, self.objective):
            standing += f", trial {lead[0]} runs at {score(lead[1])}"
        left = describe_time_left(time_left(trials, self.search, self.started, self.study.seconds))
        return [
            f"{len(trials) - len(running)} of {self.search.trials} trials ended  ·  {standing}",
            describe_epochs(trials, self.search.max_epochs),
            f"{min(len(running), self.slots)} of {self.slots} slots in use  ·  "
            f"{shown_duration(time.time() - self.started)} gone, {left}",
        ]


def line(text: str, style: str = "") -> Text:
    """A text that a live display cuts at the width of the terminal."""
    return Text(printable_lines(text), style=style, no_wrap=True, overflow="ellipsis")


def words(status: str) -> str:
    """A trial's status as words."""
    return status.replace("_", " ")


def width_of(parameter: Parameter) -> int:
    """How many characters a parameter's values take."""
    if isinstance(parameter, FloatParameter):
        return FLOAT_COLUMN
    return min(MAX_COLUMN, max(len(short(value)) for value in parameter.corner_values()))


def describe_time_left(left: tuple[float, float] | None) -> str:
    """An estimate in words, no more exact than it is.

    Args:
        left: the shortest and the longest time in seconds, or None.
    """
    if left is None:
        return "time left not known yet"
    if left[1] < 10:
        return "less than 10s left"
    # in steps of 10 seconds below 2 minutes, of minutes below 2 hours, else of 10 minutes
    unit = 10 if left[1] < 120 else 60 if left[1] < 7200 else 600
    low, high = (shown_duration(round(seconds / unit) * unit) for seconds in left)
    return f"about {high} left" if low == high else f"{low} to {high} left"


def describe_epochs(trials: Sequence[Trial], max_epochs: int) -> str:
    """Where the epochs went. "Up to", because a trial may have ended before `max_epochs` anyway."""
    saved = epochs_saved(trials, max_epochs)
    return f"{epochs_trained(trials)} epochs trained, up to {saved} skipped by early stopping"


def tally(trials: Sequence[Trial], max_epochs: int) -> str:
    """The search in one line: how the trials ended and where the epochs went."""
    ended = ", ".join(f"{n} {words(status)}" for status, n in counts(trials).items() if n)
    return f"{ended or 'no trial'}; {describe_epochs(trials, max_epochs)}"
