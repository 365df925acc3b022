"""Lists the runs of a folder, newest first, or puts two of them side by side."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from text_recognizer.command import exit_code_of
from text_recognizer.errors import InputError, Problem
from text_recognizer.text import printable
from tuning.analysis.comparison import Row, cell, rows, score, span, spread, verdict
from tuning.cli import Parser, folder_path, shown_path, with_dashes
from tuning.run.folder import open_run
from tuning.run.listing import DAMAGED, KILLED, RunInfo, all_runs, facts_of

DEFAULT_DIR = Path("runs")
HOW_TO = "Make one: python tuning/search.py --space search_spaces/mlp.yaml"
COLUMNS = (
    "run",
    "status",
    "data",
    "trials",
    "best",
    "by trial",
    "epochs",
    "time",
    "test acc",
    "begun",
)
# where a terminal is too narrow for all, in this order
LEFT_OUT = ("begun", "time", "epochs", "by trial", "data")
STYLES = {
    "complete": "green",
    "running": "cyan",
    "interrupted": "yellow",
    KILLED: "yellow",
    "failed": "red",
    DAMAGED: "red",
}
PIPE_WIDTH = 10_000  # columns: nothing is cut off or wrapped for a program


def main(argv: list[str] | None = None) -> None:
    """List, or compare."""
    flags = parser().parse_args(with_dashes(sys.argv[1:] if argv is None else argv))
    if flags.run:
        say_comparison(*two_runs(flags.run, flags.runs_dir), as_json=flags.json)
    else:
        say_list(listed(flags.runs_dir), flags.runs_dir or DEFAULT_DIR, as_json=flags.json)


def parser() -> argparse.ArgumentParser:
    """The flags; `-` and `_` in them are the same."""
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
    """The facts of two runs.

    Raises:
        InputError: there are not two, or one is no run.
        RunError: one is damaged.
    """
    problems = []
    if len(paths) != 2:
        hint = "Name two to compare them, or none to list all."
        problems.append(Problem("RUN", "two runs or none", f"{len(paths)}", hint))
    if runs_dir:
        problems.append(
            Problem(
                "--runs-dir",
                "a folder to list",
                "runs to compare beside it",
                "Leave it out: a RUN is a path.",
            )
        )
    if problems:
        raise InputError(*problems)
    left, right = (facts_of(open_run(path)) for path in paths)
    return left, right


def listed(runs_dir: Path | None) -> list[RunInfo]:
    """The runs of a folder. Raises `InputError` for one that is named and is not there."""
    if runs_dir is None and not DEFAULT_DIR.exists():
        return []
    return all_runs(runs_dir or DEFAULT_DIR)


def say_list(runs: Sequence[RunInfo], runs_dir: Path, *, as_json: bool) -> None:
    """Print a row for each run, and below why some are damaged."""
    if as_json:
        say_json([run.as_plain() for run in runs])
    elif not runs:
        print(f"no runs in {printable(shown_path(runs_dir))}. {HOW_TO}")
    else:
        reasons = [
            f"{run.name} is damaged: {'; '.join(run.reason.splitlines())}"
            for run in runs
            if run.reason
        ]
        console = console_here()
        say(
            console,
            fitting(runs, console.width),
            *(Text(printable(reason), "red") for reason in reasons),
        )


def fitting(runs: Sequence[RunInfo], width: int) -> Table:
    """A table with as many columns as `width` characters have room for; its foot names the
    others.
    """
    wide = Console(width=PIPE_WIDTH)
    tables = (table_of(runs, LEFT_OUT[:n]) for n in range(len(LEFT_OUT)))
    return next(
        (table for table in tables if wide.measure(table).maximum <= width),
        table_of(runs, LEFT_OUT),
    )


def table_of(runs: Sequence[RunInfo], without: Sequence[str] = ()) -> Table:
    """A row for each run."""
    names = [name for name in COLUMNS if name not in without]
    caption = f"a wider terminal shows {', '.join(without)}" if without else None
    table = Table(
        box=None, pad_edge=False, header_style="bold", caption=caption, caption_justify="left"
    )
    for name in names:
        table.add_column(name, overflow="fold")
    for run in runs:
        texts = dict(zip(COLUMNS, (Text(printable(text)) for text in cells(run)), strict=True))
        texts["status"].stylize(STYLES.get(run.status, ""))
        table.add_row(*(texts[name] for name in names))
    return table


def cells(run: RunInfo) -> list[str]:
    """One run as the list shows it; `-` where something is not known."""
    summary = run.summary
    best = summary.best if summary else None
    return [
        run.name,
        run.status,
        summary.data_class if summary else "-",
        f"{cell(run.ended)}/{cell(run.wanted)}" if summary else "-",
        f"{summary.metric} {score(best.value)}" if summary and best else "-",
        cell(best and best.trial),
        cell(summary and summary.epochs_trained),
        span(summary.wall_time_s if summary else None),
        spread(run.test.model_dump() if run.test else None),
        f"{datetime.fromtimestamp(run.begun):%Y-%m-%d %H:%M}",
    ]


def say_comparison(left: RunInfo, right: RunInfo, *, as_json: bool) -> None:
    """Print which run is better, then all that matters of both, what differs marked."""
    names = (
        (left.name, right.name)
        if left.name != right.name
        else (shown_path(left.path), shown_path(right.path))
    )
    words, found = verdict(left, right, names), rows(left, right)
    if as_json:
        differences = [row.as_plain() for row in found if row.differs]
        say_json(
            {
                "verdict": words,
                "left": left.as_plain(),
                "right": right.as_plain(),
                "differences": differences,
            }
        )
    else:
        say(console_here(), Text(printable(words), "bold"), side_by_side(found, names))


def side_by_side(found: Sequence[Row], names: tuple[str, str]) -> Table:
    """Rows that differ are bold, and begin with a star where there is no bold."""
    table = Table("", "what", box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(Text(printable(name)), overflow="fold")
    for row in found:
        style = "bold" if row.differs else ""
        table.add_row(
            *(
                Text(printable(text), style)
                for text in ("*" if row.differs else "", row.what, *row.texts())
            )
        )
    return table


def console_here() -> Console:
    """A terminal as wide as it is; a pipe without an end to its lines."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def say(console: Console, *parts: Table | Text) -> None:
    """Print, without blanks at the ends of lines."""
    with console.capture() as captured:
        console.print(*parts, sep="\n")
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def say_json(content: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(content, indent=2, allow_nan=False, default=str))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
