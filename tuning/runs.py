"""Lists the runs of a folder, newest first, or compares two of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.table import Table

from text_recognizer.command import exit_code_of
from text_recognizer.errors import InputError, Problem
from text_recognizer.text import printable
from tuning.analysis.comparison import compare, verdict
from tuning.cli import Parser, folder_path, shown_path
from tuning.run.folder import open_run
from tuning.run.listing import DAMAGED, KILLED, RunInfo, all_runs, read_run_info
from tuning.space.durations import shown_duration
from tuning.trials.table import score

DEFAULT_DIR = Path("runs")
COLUMNS = (
    *("run", "status", "data", "trials", "best", "by trial", "epochs", "time"),
    *("test acc", "begun"),
)
# the columns that a narrow terminal does without, the first one first
OPTIONAL = ("begun", "time", "epochs", "by trial", "data")
STATUS_STYLES = {
    "running": "cyan",
    "interrupted": "yellow",
    KILLED: "yellow",
    "failed": "red",
    DAMAGED: "red",
}
PIPE_WIDTH = 10_000  # columns: nothing is cut off or wrapped for a program


def main(argv: list[str] | None = None) -> None:
    """List the runs, or compare two."""
    flags = parser().parse(argv)
    if flags.run:
        print_comparison(*two_runs(flags.run, flags.runs_dir), as_json=flags.json)
    else:
        folder = flags.runs_dir or DEFAULT_DIR
        runs = all_runs(folder) if flags.runs_dir or folder.exists() else []
        print_list(runs, folder, as_json=flags.json)


def parser() -> Parser:
    """The flags of the command."""
    result = Parser("runs.py", __doc__)
    result.add_argument(
        "run",
        type=Path,
        nargs="*",
        metavar="RUN",
        help="two run folders to compare (default: list all runs)",
    )
    result.add_argument(
        "--runs-dir", type=folder_path, metavar="DIR", help="where runs are kept (default runs)"
    )
    result.add_argument(
        "--json", action="store_true", help="print one JSON document instead of a table"
    )
    return result


def two_runs(paths: Sequence[Path], runs_dir: Path | None) -> tuple[RunInfo, RunInfo]:
    """What is known of two runs.

    Raises:
        InputError: there are not two paths, or one is no run.
        RunError: a run is damaged.
    """
    if len(paths) != 2:
        hint = "Name two to compare them, or none to list all."
        raise InputError(Problem("RUN", "two runs or none", f"{len(paths)}", hint))
    if runs_dir:
        hint = "Leave it out: a RUN is a path."
        raise InputError(Problem("--runs-dir", "a folder to list", "two runs to compare", hint))
    left, right = (read_run_info(open_run(path)) for path in paths)
    return left, right


def print_list(runs: Sequence[RunInfo], runs_dir: Path, *, as_json: bool) -> None:
    """Print a row for each run, and below why some are damaged."""
    if as_json:
        print_json([run.as_plain() for run in runs])
    elif not runs:
        print(
            f"no runs in {printable(shown_path(runs_dir))}. Make one: python tuning/search.py "
            "--space search_spaces/mlp.yaml"
        )
    else:
        print_table(fitting_table(runs, console_here().width))
        for run in runs:
            if run.reason:
                print(printable(f"{run.name} is damaged: {'; '.join(run.reason.splitlines())}"))


def fitting_table(runs: Sequence[RunInfo], width: int) -> Table:
    """A row for each run, with as many columns as `width` characters have room for."""
    for n in range(len(OPTIONAL) + 1):
        names = [name for name in COLUMNS if name not in OPTIONAL[:n]]
        table = table_of(names)
        table.caption = f"a wider terminal shows {', '.join(OPTIONAL[:n])}" if n else None
        for run in runs:
            texts = cells(run)
            style = STATUS_STYLES.get(run.status)
            table.add_row(*(printable(texts[name]) for name in names), style=style)
        if plain_console(PIPE_WIDTH).measure(table).maximum <= width:
            break
    return table


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
        std = run.final.test_acc_std
        found["test acc"] = f"{run.final.test_acc:.4f}" + (f" ± {std:.4f}" if std else "")
    return found


def print_comparison(left: RunInfo, right: RunInfo, *, as_json: bool) -> None:
    """Print which run is better, then a row for each value that matters, what differs marked."""
    names = (left.name, right.name)
    if left.name == right.name:
        names = (shown_path(left.path), shown_path(right.path))
    words, rows = verdict(left, right, names), compare(left, right)
    if as_json:
        runs = {"left": left.as_plain(), "right": right.as_plain()}
        differences = [row for row in rows if row.differs]
        print_json({"verdict": words, **runs, "differences": differences})
        return
    print(printable(words))
    table = table_of(["", "what", *names])
    for row in rows:
        # the star is for pipes, which have no bold
        mark, style = ("*", "bold") if row.differs else ("", None)
        table.add_row(*map(printable, (mark, row.what, *row.texts())), style=style)
    print_table(table)


def table_of(names: Iterable[str]) -> Table:
    """An empty table without lines."""
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    for name in names:
        table.add_column(printable(name), overflow="fold")
    return table


def print_table(table: Table) -> None:
    """Print without blanks at the ends of lines."""
    console = console_here()
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def console_here() -> Console:
    """A terminal with its own width, or for a pipe a console that never wraps."""
    console = plain_console()
    return console if console.is_terminal else plain_console(PIPE_WIDTH)


def plain_console(width: int | None = None) -> Console:
    """A console that takes nothing for markup: a run's name may be anything."""
    return Console(markup=False, emoji=False, highlight=False, width=width)


def print_json(content: Any) -> None:
    """Print one JSON document, with None for NaN."""
    print(json.dumps(to_jsonable_python(content, inf_nan_mode="null"), indent=2))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
