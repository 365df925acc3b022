"""`trials.csv`, and values as short text."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from text_recognizer.metrics import Objective
from text_recognizer.text import printable_lines
from tuning.trials.trial import Trial

FORMULA_STARTS = ("=", "+", "-", "@")


def trials_table(trials: Iterable[Trial], names: Sequence[str], objective: Objective) -> str:
    """The content of `trials.csv`: one row for each trial.

    Args:
        names: of the searched parameters; each has a column of its name.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "status", "epochs", "best_epoch", objective.metric, *names, "cause"])
    # The whole table is written anew when a trial ends: 1,000 rows take 13 ms.
    for trial in trials:
        best = trial.best_epoch(objective)
        score = [best.epoch, best.metrics[objective.metric]] if best else ["", ""]
        params = [trial.params.get(name, "") for name in names]
        row = [trial.number, trial.status, len(trial.epochs), *score, *params, trial.cause]
        writer.writerow(as_cell(value) if isinstance(value, str) else value for value in row)
    return text.getvalue()


def as_cell(text: str) -> str:
    """A text without terminal escapes, and with an apostrophe where a spreadsheet would run it."""
    # `=1+1` in a cause would be computed by a spreadsheet that opens the file.
    lines = printable_lines(text)
    return f"'{lines}" if lines.startswith(FORMULA_STARTS) else lines


def score(value: float) -> str:
    """A metric's value with four decimals, or in short if it is very large."""
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.4g}"


def plus_minus(mean: float | None, std: float | None) -> str:
    """Mean ± standard deviation, or the mean alone; `diverged` without a mean."""
    if mean is None:
        return "diverged"
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def short(value: Any) -> str:
    """A parameter's value in few characters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
