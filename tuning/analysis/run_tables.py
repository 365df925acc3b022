"""Prints runs as a table, and two runs side by side."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console

from text_recognizer.text import printable
from tuning.analysis.comparison import Comparison
from tuning.cli import shown_path
from tuning.run.listing import DAMAGED, KILLED, RunInfo
from tuning.space.durations import shown_duration
from tuning.trials.table import plus_minus, score

COLUMNS = (
    *("run", "status", "data", "trials", "best", "by trial", "epochs", "time"),
    *("test acc", "begun"),
)
# a narrow terminal does without these columns, without the first one first
OPTIONAL = ("begun", "time", "epochs", "by trial", "data")
STATUS_STYLES = {
    "running": "cyan",
    "interrupted": "yellow",
    KILLED: "yellow",
    "failed": "red",
    DAMAGED: "red",
}


def print_list(runs: Sequence[RunInfo], runs_dir: Path) -> None:
    """Print a row for each run, and below why some are damaged."""
    if not runs:
        print(
            f"no runs in {printable(shown_path(runs_dir))}. Make one: python tuning/search.py "
            "--space search_spaces/mlp.yaml"
        )
        return
    rows = [dict(zip(COLUMNS, COLUMNS, strict=True)), *map(cells, runs)]
    # a program gets all columns, whatever the width of the terminal it runs in
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    names = fitting_columns(rows, width)
    styles = ["bold", *(STATUS_STYLES.get(run.status) for run in runs)]
    print_table([[row[name] for name in names] for row in rows], styles)
    if without := OPTIONAL[: len(COLUMNS) - len(names)]:
        print(f"a wider terminal shows {', '.join(without)}")
    for run in runs:
        if run.reason:
            print(printable(f"{run.name} is damaged: {'; '.join(run.reason.splitlines())}"))


def cells(run: RunInfo) -> dict[str, str]:
    """The cells of one run by their column; "-" for what is not known."""
    found = dict.fromkeys(COLUMNS, "-") | {
        "run": run.name,
        "status": run.status,
        "begun": f"{datetime.fromtimestamp(run.begun):%Y-%m-%d %H:%M}",
    }
    if summary := run.summary:
        found |= {
            "data": summary.data_class,
            "trials": f"{run.trials_ended}/{run.trials_wanted}",
            "epochs": str(summary.epochs_trained),
            "time": shown_duration(summary.wall_time_s),
        }
        if best := summary.best:
            found |= {"best": f"{summary.metric} {score(best.value)}", "by trial": str(best.trial)}
    if run.final:
        found["test acc"] = plus_minus(run.final.test_acc, run.final.test_acc_std)
    return found


def fitting_columns(rows: Sequence[dict[str, str]], width: int) -> list[str]:
    """The columns for which `width` characters have room; at least those that are not optional."""
    names = list(COLUMNS)
    for optional in OPTIONAL:
        if sum(2 + max(len(row[name]) for row in rows) for name in names) - 2 <= width:
            break
        names.remove(optional)
    return names


def print_comparison(comparison: Comparison) -> None:
    """Print which run is better, then a row for each value; what differs is bold."""
    print(printable(comparison.verdict()))
    rows = comparison.rows()
    # a pipe has no bold, but a star
    texts = [("*" if row.differs else "", row.what, *row.texts()) for row in rows]
    styles = ["bold" if row.differs else None for row in rows]
    print_table([("", "what", *comparison.names), *texts], ["bold", *styles])


def print_table(rows: Sequence[Sequence[str]], styles: Sequence[str | None]) -> None:
    """Print rows with aligned columns, each in its style if this is a terminal."""
    texts = [list(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    # markup and emoji off: a run's name may be `[red]` or `:smile:`
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    for row, style in zip(texts, styles, strict=True):
        console.print("  ".join(map(str.ljust, row, widths)).rstrip(), style=style)
