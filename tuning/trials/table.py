"""`trials.csv`, and values as short text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from text_recognizer.metrics import Objective
from text_recognizer.text import printable_lines
from tuning.trials.trial import Trial

FORMULA = ("=", "+", "-", "@")


class TrialsTable:
    """`trials.csv`: a row a trial, with its number, status, epochs, best epoch and value, and its
    parameters under their names.

    It is written anew whenever a trial ends; the row of one that has ended is made once.
    """

    def __init__(self, names: Sequence[str], objective: Objective) -> None:
        self.names = names
        self.objective = objective
        self._ended: dict[int, str] = {}

    def text(self, trials: Iterable[Trial]) -> str:
        """The whole table."""
        head = csv_line(
            ["trial", "status", "epochs", "best_epoch", self.objective.metric, *self.names, "cause"]
        )
        return head + "".join(map(self._row, trials))

    def _row(self, trial: Trial) -> str:
        if trial.number in self._ended:
            return self._ended[trial.number]
        best = trial.best_epoch(self.objective)
        score = [best.epoch, best.metrics[self.objective.metric]] if best else ["", ""]
        params = [trial.params.get(name, "") for name in self.names]
        row = csv_line(
            [trial.number, trial.status, len(trial.epochs), *score, *params, trial.cause]
        )
        if trial.outcome:
            self._ended[trial.number] = row
        return row


def score(value: float) -> str:
    """A metric's value: four decimals, unless it is out of all bounds."""
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.4g}"


def plus_minus(mean: float | None, std: float | None) -> str:
    """Mean ± standard deviation, or the mean alone; `diverged` without a mean."""
    if mean is None:
        return "diverged"
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def short(value: Any) -> str:
    """A parameter's value in few characters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def csv_line(cells: Sequence[Any]) -> str:
    """One line of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(
        [as_text(cell) if isinstance(cell, str) else cell for cell in cells]
    )
    return text.getvalue()


def as_text(cell: str) -> str:
    """A text as a cell: with an apostrophe where a spreadsheet would take it for a formula,
    without what a terminal obeys.
    """
    lines = printable_lines(cell)
    return f"'{lines}" if lines.startswith(FORMULA) else lines
