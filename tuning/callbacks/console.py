"""Prints messages and the table of trials: live in a terminal, plain lines in a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from text_recognizer.text import printable_lines
from tuning.run import time_left
from tuning.space import FloatParameter, Parameter, shown_duration
from tuning.study import Study
from tuning.trials import (
    RANKED,
    RUNNING,
    WAITING,
    Outcome,
    Trial,
    ahead,
    counts,
    epochs_saved,
    epochs_trained,
    score,
    short,
)

ROW_STYLES = {  # others are red
    Outcome.COMPLETE: "green",
    Outcome.STOPPED_EARLY: "yellow",
    WAITING: "dim",
}
LAST_FAILURES = 3  # shown below the table
MAX_COLUMN = 20  # characters of a parameter
FLOAT_COLUMN = 9  # characters: `1.893e-05`


class SearchConsole:
    """Prints messages. Markup and control characters in them have no effect.

    Args:
        quiet: no table, and no message that `tell` prints.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        # soft_wrap: in a pipe rich would break lines at 80 columns
        self.rich = Console(highlight=False, soft_wrap=True)

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
    """Follows the study and prints a row for each trial that ends, or waits for others. In a
    terminal it also shows the running trials and the totals. Use it as a context manager around the
    search.

    Args:
        slots: how many trials run at once.
    """

    def __init__(self, console: SearchConsole, study: Study, slots: int) -> None:
        self.console = console
        self.study = study
        self.slots = slots
        self.objective = study.objective
        self.search = study.limits
        self.failures: list[str] = []
        # Retries of an earlier process are known: a resume does not print them again.
        self.retries = {trial.number: len(trial.failures) for trial in study.trials}
        # A trial that waited and is stopped after the same epoch has its row.
        self.rows = {trial.number: len(trial.epochs) for trial in study.trials if trial.waits}
        # Rows are printed before later values are known, so the space decides the widths.
        self.formats = [">6", ">7", f">{max(8, len(self.objective.metric))}", "<14"]
        self.formats += [
            f"<{max(len(name), width_of(parameter))}"
            for name, parameter in study.space.parameters.items()
        ]
        self.head = self._columns(
            "trial", "epoch", self.objective.metric, "status", *study.space.parameters
        )
        self.started = 0.0  # seconds that the search had worked before this process
        self.live: Live | None = None

    def __enter__(self) -> TrialTable:
        self.started = self.study.seconds
        if self.console.rich.is_terminal and not self.console.quiet:
            # transient: the running trials vanish at the end, and the rows of ended trials stay
            self.live = Live(get_renderable=self._now, console=self.console.rich, transient=True)
            self.live.start()
        else:
            self.console.tell(self.head)
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
        shown = self.rows.get(trial.number) == len(trial.epochs)
        if trial.status == RUNNING or (shown and trial.outcome == Outcome.STOPPED_EARLY):
            return
        if trial.waits:
            self.rows[trial.number] = len(trial.epochs)
        elif trial.outcome not in RANKED:
            self.failures.append(f"trial {trial.number} {words(trial.status)}: {trial.cause}")
        if not self.console.quiet:
            best = next(iter(self.study.ranked), None)
            is_best = "<- best so far" if best and best.trial.number == trial.number else ""
            # a limit of the search may have stopped the best trial, so a row can have both
            remark = "; ".join(filter(None, (is_best, trial.cause)))
            style = ROW_STYLES.get(trial.status, "red")
            # A terminal cuts a row at its width. A cause must be read, so its row is wrapped.
            self.console.rich.print(
                line(f"{self._row(trial)}  {remark}".rstrip(), style),
                soft_wrap=bool(trial.cause) or not self.console.rich.is_terminal,
            )

    def _row(self, trial: Trial) -> str:
        epoch = trial.best_epoch(self.objective)
        return self._columns(
            str(trial.number),
            f"{len(trial.epochs)}/{self.search.max_epochs}",
            score(epoch.metrics[self.objective.metric]) if epoch else "",
            words(trial.status),
            *(short(trial.params.get(name, "")) for name in self.study.space.parameters),
        )

    def _describe_trials(self, done: int, waiting: int) -> str:
        of = "" if self.search.stop.epochs else f" of {self.search.trials}"
        wait = f", {waiting} wait" if self.search.promotes else ""
        return f"{done - waiting}{of} trials ended{wait}"

    def _columns(self, *cells: str) -> str:
        columns = zip(cells, self.formats, strict=True)
        return "  ".join(f"{cell:{column}}" for cell, column in columns).rstrip()

    def _now(self) -> Group:
        """The part of the screen that changes. rich's own thread asks for it, 4 times a second."""
        trials, best = self.study.trials, next(iter(self.study.ranked), None)
        running = [trial for trial in trials if trial.status == RUNNING]
        waiting = sum(trial.waits for trial in trials)
        standing = (
            f"best {score(best.value)} (trial {best.trial.number})" if best else "no best yet"
        )
        # only a trial that ended can be best: a running one may still fail
        if lead := ahead(running, best.value if best else None, self.objective):
            standing += f", trial {lead[0]} runs at {score(lead[1])}"
        left = describe_time_left(time_left(trials, self.search, self.started, self.study.seconds))
        # several short lines, because a terminal may be narrow
        totals = [
            f"{self._describe_trials(len(trials) - len(running), waiting)}  ·  {standing}",
            describe_epochs(trials, self.search.max_epochs, self.search.stop.epochs),
            # after a resume more trials may be unfinished than there are slots
            f"{min(len(running), self.slots)} of {self.slots} slots in use  ·  "
            f"{shown_duration(self.study.seconds - self.started)} gone, {left}",
        ]
        return Group(
            line(self.head, "bold"),
            *(line(self._row(trial), "cyan") for trial in running),
            *(line(f"  {text}") for text in totals),
            *(line(f"  {text}", "red") for text in self.failures[-LAST_FAILURES:]),
        )


def line(text: str, style: str = "") -> Text:
    """A text that a live display cuts at the width of the terminal."""
    # `Text`, not `str`: rich would take [brackets] in a message for markup
    return Text(printable_lines(text), style=style, no_wrap=True, overflow="ellipsis")


def words(status: str) -> str:
    """A trial's status as words."""
    return status.replace("_", " ")


def width_of(parameter: Parameter) -> int:
    """How many characters a parameter's values take, at most `MAX_COLUMN`."""
    # the ends of a range like [0.1, 1] are shorter than the values within
    if isinstance(parameter, FloatParameter):
        return FLOAT_COLUMN
    return min(MAX_COLUMN, max(len(short(value)) for value in parameter.corner_values()))


def describe_time_left(left: tuple[float, float] | None) -> str:
    """The estimate of `time_left` in words."""
    if left is None:
        return "time left not known yet"
    if left[1] < 10:
        return "less than 10s left"
    # Exact seconds would promise too much: steps of 10 seconds below 2 minutes, of minutes below
    # 2 hours, else of 10 minutes.
    unit = 10 if left[1] < 120 else 60 if left[1] < 7200 else 600
    low, high = (shown_duration(round(seconds / unit) * unit) for seconds in left)
    return f"about {high} left" if low == high else f"{low} to {high} left"


def describe_epochs(trials: Sequence[Trial], max_epochs: int, limit: int | None = None) -> str:
    """How many epochs were trained, of how many, and how many early stopping skipped."""
    # "up to", because a stopped trial might have diverged or failed later
    saved = epochs_saved(trials, max_epochs)
    of = f" of {limit}" if limit else ""
    return f"{epochs_trained(trials)}{of} epochs trained, up to {saved} skipped by early stopping"


def tally(trials: Sequence[Trial], max_epochs: int) -> str:
    """The search in one line: how the trials ended, and their epochs."""
    ended = ", ".join(f"{n} {words(status)}" for status, n in counts(trials).items() if n)
    return f"{ended or 'no trial'}; {describe_epochs(trials, max_epochs)}"
