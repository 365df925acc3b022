"""Writes `report.html`: the results of a search in one file, which needs no network."""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from pydantic_core import to_jsonable_python

from tuning.analysis import plots, progress
from tuning.analysis.advice import report_remarks
from tuning.analysis.expectation import expectation
from tuning.analysis.importance import importances
from tuning.analysis.run_data import RunData
from tuning.cli import typed_path
from tuning.run import RunFolder, read_as_ours, write_text
from tuning.space import shown_duration
from tuning.trials import ahead, plus_minus, score, short

TEMPLATES = Path(__file__).parent / "templates"
LIVE_EVERY_S = 10.0  # how often the page of a running search reloads itself
LIVE_SHARE = 0.02  # of the driver's time; writing the report of 32 trials takes 0.05 s


def write_report(run: RunData) -> Path:
    """Write the report of a run into its folder, and return its path.

    Raises:
        RunError: a file of the run is damaged.
        StorageError: the report cannot be written.
    """
    with read_as_ours(run.path):
        page = report_template().render(report_content(run))
    path = RunFolder(run.path).report
    write_text(path, page)
    return path


class LiveReport:
    """Writes the report of a running search, but never spends too much time on it."""

    _next = 0.0  # when it may be written again, on the monotonic clock

    def write(self, read: Callable[[], RunData]) -> None:
        """Write the report, unless it was written a moment ago. Raises `StorageError`."""
        if time.monotonic() < self._next:
            return
        report_template()  # once and slow: it says nothing about the reports that follow
        start = time.monotonic()
        write_report(read())
        end = time.monotonic()
        # a report that took 0.05 s is followed by a pause of 5 s, one that took 1 s by 50 s
        self._next = end + max(LIVE_EVERY_S / 2, (end - start) / LIVE_SHARE)


def numbers(run: RunData) -> dict[str, Any]:
    """The numbers that a report shows."""
    search, trials = run.space.search, run.trials
    return {
        "summary": run.summary,
        "trials": leaderboard(run),
        "best_over_epochs": progress.best_over_epochs(trials, search.objective),
        "best_over_time": progress.best_over_time(trials, search.objective),
        "rungs": progress.rung_counts(trials, search.rungs()),
        "budget": progress.budget(trials, search.max_epochs),
        # fANOVA takes 0.2 s for 30 trials and 2.8 s for 500: too long for a live report
        "importance": None
        if run.live
        else importances(trials, run.space.parameters, search.objective),
        "expectation": expectation(run),
        "remarks": report_remarks(run),
        "confusion": run.validation and run.validation.confusion,
        "final": run.final,
    }


def as_json(run: RunData) -> str:
    """The numbers as JSON, which has no NaN. Raises `RunError` if a file of the run is damaged."""
    with read_as_ours(run.path):
        return json.dumps(to_jsonable_python(numbers(run), inf_nan_mode="null"), indent=2)


def leaderboard(run: RunData) -> list[dict[str, Any]]:
    """A row for each trial: those with a rank first, then the others by number."""
    ranks = {best.trial.number: rank for rank, best in enumerate(run.ranked, 1)}
    rows = []
    for trial in run.trials:
        best = trial.best_epoch(run.space.search.objective)
        rows.append(
            {
                "rank": ranks.get(trial.number),
                "number": trial.number,
                "status": trial.status,
                "cause": trial.cause,
                "epochs": len(trial.epochs),
                "best_epoch": best and best.epoch,
                "metrics": best and best.metrics,
                "params": {name: trial.params.get(name, "") for name in run.space.parameters},
            }
        )
    # the trials come by number, and equal keys keep their order
    return sorted(rows, key=lambda row: row["rank"] or len(rows) + 1)


def report_content(run: RunData) -> dict[str, Any]:
    """Everything that the template shows."""
    found = numbers(run)
    best = run.ranked[0] if run.ranked else None
    return found | {
        "run": run,
        "path": typed_path(run.path),
        "best": best,
        "lead": ahead(run.trials, best.value if best else None, run.space.search.objective),
        # JSON.parse refuses NaN: the page would draw no plot at all
        "figures": to_jsonable_python(dict(figures(run, found)), inf_nan_mode="null"),
        "reload_s": LIVE_EVERY_S,
        "written": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def figures(run: RunData, found: dict[str, Any]) -> Iterator[tuple[str, plots.Plain]]:
    """The plots that have something to show, each with the `id` of its place in the page."""
    # the template leaves out the place of a plot that is missing here
    if steps := found["best_over_epochs"]:
        yield "progress-epochs", plots.staircase(run, steps, "epochs trained, all trials together")
        steps = found["best_over_time"]
        yield "progress-time", plots.staircase(run, steps, "minutes of work", unit=60)
    if found["budget"].trained:
        yield "curves", plots.learning_curves(run)
        yield "budget", plots.budget_bar(found["budget"])
        for name, figure in plots.slices(run):
            yield f"slice-{name}", figure
    if found["importance"]:
        yield "importance", plots.importance_bars(found["importance"])
    if len(run.ranked) > 1:
        yield "parallel", plots.parallel(run)


@cache
def report_template() -> Template:
    """The page's template, with the scripts and the style sheet in it."""
    # cached: reading plotly.js and its checksum take most of the 0.18 s of a first report
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # names, causes and choices may hold markup
        undefined=StrictUndefined,  # a wrong name is an error, and no empty place
        trim_blocks=True,
    )
    made.filters |= {"short": short, "score": score, "duration": shown_duration}
    # the page holds all of plotly.js (4.8 MB), so that it works offline and as a mail's attachment
    plotly = files("plotly") / "package_data/plotly.min.js"
    scripts = [file.read_text(encoding="utf-8") for file in (plotly, TEMPLATES / "report.js")]
    # the page's policy names these checksums: no other script runs, even if escaping has failed
    sums = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    made.globals |= {
        "scripts": scripts,
        "script_sums": sums,
        "colours": plots.STATUS_COLOURS,
        "plus_minus": plus_minus,
    }
    return made.get_template("report.html.jinja")
