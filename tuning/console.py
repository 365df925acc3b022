"""What a search says in the terminal: a row for each trial that ends, a live line in between; plain lines in a pipe."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from text_recognizer.metrics import is_better
from tuning.results import Outcome, Trial, counts, epochs_saved, epochs_trained, ranking
from tuning.space import SearchSpace

COLOURS = {Outcome.COMPLETE: "green", Outcome.STOPPED_EARLY: "yellow"}


class SearchConsole:
    """Follows a study's changes. Use as a context manager around the search.

    Args:
        wanted: trials that the search is to have.
        quiet: say only the notes and the result.
    """

    def __init__(self, space: SearchSpace, wanted: int, *, quiet: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.quiet = quiet
        self.space = space
        self.wanted = wanted
        self.metric, self.mode = space.search.metric, space.search.direction
        self.best: float | None = None
        self.trials: dict[int, Trial] = {}
        self.started = time.monotonic()
        self.live: Live | None = None

    def catch_up(self, trials: list[Trial]) -> None:
        """Know what an earlier process recorded, without saying it again."""
        self.trials = {trial.number: trial for trial in trials}
        best = ranking(trials, self.metric, self.mode)
        self.best = best[0].value if best else None

    def say(self, text: str, style: str = "") -> None:
        """One line, whatever else is on the screen. Nothing in it is taken for markup."""
        self.console.print(Text(printable(text), style=style))

    def note(self, text: str) -> None:
        """Something the user should not miss."""
        self.say(f"note: {text}", "bold yellow")

    def __enter__(self) -> SearchConsole:
        if not self.quiet:
            self.say(self._row("trial", "epoch", self.metric, "status", list(self.space.parameters)), "bold")
        if self.console.is_terminal and not self.quiet:
            self.live = Live(get_renderable=self._status, console=self.console, transient=True, refresh_per_second=4)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def on_change(self, trial: Trial) -> None:
        """A listener for the study."""
        before = self.trials.get(trial.number)
        self.trials[trial.number] = trial
        if len(trial.failures) > (len(before.failures) if before else 0):
            self.note(f"trial {trial.number} failed and is tried again: {trial.failures[-1]}")
        if trial.outcome and not self.quiet:
            self._print_end(trial)

    def _print_end(self, trial: Trial) -> None:
        best = trial.best_epoch(self.metric, self.mode)
        value = best.metrics[self.metric] if best else None
        new_best = trial.outcome in COLOURS and value is not None and is_better(value, self.best, self.mode)
        self.best = value if new_best else self.best
        row = self._row(
            str(trial.number),
            f"{len(trial.epochs)}/{self.space.search.max_epochs}",
            "" if value is None else f"{value:.4f}",
            trial.status.replace("_", " "),
            [short(trial.params.get(name, "")) for name in self.space.parameters],
        )
        remark = "; ".join(part for part in ("<- best so far" if new_best else "", trial.cause) if part)
        self.say(f"{row}  {remark}".rstrip(), COLOURS.get(trial.outcome or Outcome.FAILED, "red"))

    def _row(self, trial: str, epoch: str, value: str, status: str, params: list[str]) -> str:
        columns = [f"{trial:>6}", f"{epoch:>7}", f"{value:>{max(8, len(self.metric))}}", f"{status:<14}"]
        return "  ".join(
            columns + [f"{value:<{max(8, len(name))}}" for name, value in zip(self.space.parameters, params, strict=True)]
        )

    def _status(self) -> Text:
        """The line that moves."""
        trials = list(self.trials.values())
        running = [trial for trial in trials if trial.outcome is None]
        saved = epochs_saved(trials, self.space.search.max_epochs)
        now = ", ".join(f"{trial.number} at {len(trial.epochs)}/{self.space.search.max_epochs}" for trial in running)
        best = "" if self.best is None else f", best {self.best:.4f}"
        parts = [
            f"{len(trials) - len(running)}/{self.wanted} trials{best}",
            f"{epochs_trained(trials)} epochs trained, {saved} saved",
            f"running: {now or 'none yet'}",
            f"{time.monotonic() - self.started:.0f} s",
        ]
        return Text("  |  ".join(parts), style="cyan", no_wrap=True, overflow="ellipsis")


def tally(trials: list[Trial], max_epochs: int) -> str:
    """The search in one line: how the trials ended and where the epochs went."""
    ended = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in counts(trials).items() if n) or "no trial"
    return f"{ended}; {epochs_trained(trials)} epochs trained, {epochs_saved(trials, max_epochs)} saved"


def short(value: Any) -> str:
    """A parameter's value in few characters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def printable(text: str) -> str:
    """Text from files and errors without what a terminal would obey."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)
