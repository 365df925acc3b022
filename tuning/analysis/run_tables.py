"""Prints a list of runs, or two runs side by side."""

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from text_recognizer.command import PROJECT
from text_recognizer.text import printable, shown_path
from tuning.analysis.comparison import Comparison, cell_text
from tuning.cli import typed_path, typed_script
from tuning.run import RunInfo
from tuning.space import shown_duration
from tuning.trials import plus_minus, score

# a narrow terminal does without these columns; the first one goes first
OPTIONAL = ("begun", "time", "epochs", "by trial", "data")


def print_list(runs: Sequence[RunInfo], runs_dir: Path) -> None:
    """Print a row for each run, and then why the damaged ones are damaged."""
    if not runs:
        print(
            f"no runs in {printable(shown_path(runs_dir))}. Make one: "
            f"{typed_script('tuning/search.py')} --space "
            f"{typed_path(PROJECT / 'search_spaces/mlp.yaml')}"
        )
        return
    rows = [cells(run) for run in runs]
    # a pipe gets all columns, because COLUMNS may hold the width of a terminal
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    names = fitting_columns(rows, width)
    print_table([names, *([row[name] for name in names] for row in rows)])
    if without := [name for name in OPTIONAL if name not in names]:
        print(f"a wider terminal shows {', '.join(without)}")
    for run in runs:
        # a damaged search.yaml has a line for each of its problems; the list shows them on one
        if run.reason:
            print(printable(f"{run.name} is damaged: {'; '.join(run.reason.splitlines())}"))


def cells(run: RunInfo) -> dict[str, str]:
    """The cells of one run by the name of their column; "-" for an unknown value."""
    summary, final = run.summary, run.final
    best = summary.best if summary else None
    # where the epochs are limited, the number of trials is only a cap
    of = "" if run.space and run.space.search.stop.epochs else f"/{run.trials_wanted}"
    return {
        "run": run.name,
        "status": run.status,
        "data": summary.data_class if summary else "-",
        "trials": f"{run.trials_ended}{of}" if summary else "-",
        "best": f"{summary.metric} {score(best.value)}" if summary and best else "-",
        "by trial": str(best.trial) if best else "-",
        "epochs": str(summary.epochs_trained) if summary else "-",
        "time": shown_duration(summary.wall_time_s) if summary else "-",
        "test acc": plus_minus(final.test_acc, final.test_acc_std) if final else "-",
        "begun": f"{datetime.fromtimestamp(run.begun):%Y-%m-%d %H:%M}",
    }


def fitting_columns(rows: Sequence[dict[str, str]], width: int) -> list[str]:
    """The columns that fit into `width` characters, and all that are not optional."""
    # two blanks stand between columns
    widths = {name: 2 + max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    for name in OPTIONAL:
        if sum(widths.values()) - 2 > width:
            del widths[name]
    return list(widths)


def print_comparison(comparison: Comparison) -> None:
    """Print which run is better, then a row for each value; a star marks those that differ."""
    print(printable(comparison.verdict()))
    rows = [
        (
            "*" if row.differs else "",
            row.what,
            cell_text(row.what, row.left),
            cell_text(row.what, row.right),
        )
        for row in comparison.rows()
    ]
    print_table([("", "what", *comparison.names), *rows])


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with aligned columns."""
    # escaped before their widths are taken: an escape is longer than its character
    texts = [list(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        # a table of rich would be cut to 80 characters in a pipe
        print("  ".join(map(str.ljust, row, widths)).rstrip())
