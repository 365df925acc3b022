"""`report.html`: what was searched and found, in one file without a network.

It is made of numbers (`progress`, `importance`, `advice`) and figures of them (`plots`); here they
are put into a page. While a search runs its session writes the page again and again, and the page
reloads itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from jinja2.exceptions import TemplateError
from markupsafe import Markup

from text_recognizer.errors import RunError
from tuning.analysis import plots, progress
from tuning.analysis.advice import TOP_HINT, final_remarks
from tuning.analysis.importance import Importance, importances
from tuning.analysis.run_data import RunData, facts_of
from tuning.cli import typed_path
from tuning.run.folder import RunFolder
from tuning.run.reading import write_text
from tuning.space.durations import shown_duration
from tuning.trials.table import score, short
from tuning.trials.trial import ahead, counts, epochs_trained

TEMPLATE = "report.html.jinja"
PAGE = Path(__file__).parent / "templates"
LIVE_EVERY_S = 10.0  # how often a page of a running search reloads itself
LIVE_SHARE = 0.02  # of the driver's time that writing it may take


def write(folder: RunFolder, facts: RunData | None = None) -> Path:
    """Write the report of a run.

    Args:
        facts: of a search that runs in this process; None reads what is in the folder.

    Raises:
        RunError: the folder is damaged.
        StorageError: the report cannot be written.
    """
    try:
        page = template().render(content(facts or facts_of(folder)))
    except (TemplateError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{folder.path}: `files as this project writes them` must hold, but got {error}"
        ) from error
    write_text(folder.report, page)
    return folder.report


class LiveReport:
    """Writes the report of a running search when a trial has ended, as often as its cost allows."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._next = 0.0

    def write(self, facts: Callable[[], RunData]) -> None:
        """Write it, unless that was done a moment ago. Raises `StorageError`."""
        start = time.monotonic()
        if start < self._next:
            return
        write(self.folder, facts())
        end = time.monotonic()
        self._next = end + max(LIVE_EVERY_S / 2, (end - start) / LIVE_SHARE)


def content(facts: RunData) -> dict[str, Any]:
    """All that the template shows."""
    search, ranked = facts.space.search, facts.ranked
    importance = important(facts)
    figures = dict(all_figures(facts, importance))
    plotly, script = (
        Markup(text) for text in (plotly_js(), (PAGE / "report.js").read_text(encoding="utf-8"))
    )
    return {
        "facts": facts,
        "summary": facts.summary
        | {"counts": counts(facts.trials), "epochs_trained": epochs_trained(facts.trials)},
        "search": search,
        "names": list(facts.space.parameters),
        "space_file": facts.space.as_yaml(),
        "best": ranked[0] if ranked else None,
        "tied": [best.trial.number for best in ranked[1:] if best.value == ranked[0].value],
        "rows": rows(facts),
        "causes": any(trial.cause for trial in facts.trials),
        "remarks": remarks(facts),
        "rungs": progress.rung_counts(facts.trials, search.rungs()),
        "budget": progress.budget(facts.trials, search.max_epochs),
        "colours": plots.COLOURS,
        "importance": importance,
        "figures": figures,
        "slices": [name for name in figures if name.startswith("slice-")],
        "data": Markup(json.dumps(figures, allow_nan=False).replace("<", "\\u003c")),
        "style": Markup((PAGE / "report.css").read_text(encoding="utf-8")),
        "scripts": [plotly, script],
        "script_sums": " ".join(f"'{sum_of(text)}'" for text in (plotly, script)),
        "reload_s": LIVE_EVERY_S,
        "written": time.strftime("%Y-%m-%d %H:%M:%S"),
        "run": typed_path(facts.path),
        "lead": ahead(facts.trials, ranked[0].value if ranked else None, search.objective),
        "errors": sum(image.label != image.predicted for image in facts.validation.worst)
        if facts.validation
        else 0,
    }


def rows(facts: RunData) -> list[dict[str, Any]]:
    """The leaderboard: ranked trials, then the others."""
    search = facts.space.search
    place = {best.trial.number: rank for rank, best in enumerate(facts.ranked, 1)}
    found = [
        {
            "rank": place.get(trial.number),
            "number": trial.number,
            "status": trial.status,
            "cause": trial.cause,
            "epochs": len(trial.epochs),
            "best": trial.best_epoch(search.objective),
            "params": [trial.params.get(name, "") for name in facts.space.parameters],
        }
        for trial in facts.trials
    ]
    return sorted(found, key=lambda row: (row["rank"] is None, row["rank"] or 0, row["number"]))


def remarks(facts: RunData) -> list[str]:
    """What to look at twice."""
    said = [*facts.damaged, *facts.summary["warnings"]]
    if facts.final is None:
        return said
    if facts.final.candidates:  # that advice was taken
        said = [remark for remark in said if not remark.endswith(TOP_HINT)]
    return final_remarks(facts.final, facts.ranked, facts.space.search.metric) + said


def important(facts: RunData) -> Importance | None:
    """Which parameters mattered; said once a search is over, because it takes a second or more."""
    search = facts.space.search
    return (
        None if facts.live else importances(facts.trials, facts.space.parameters, search.objective)
    )


def all_figures(
    facts: RunData, importance: Importance | None
) -> Iterator[tuple[str, plots.Figure]]:
    """The plots that there is something to show in, by the name of their place in the page."""
    space, trials, ranked = facts.space, facts.trials, facts.ranked
    objective = space.search.objective
    if steps := progress.best_over_epochs(trials, objective):
        yield (
            "progress-epochs",
            plots.progress(steps, objective, "epochs trained, all trials together"),
        )
        steps = progress.best_over_time(trials, objective, facts.sessions)
        unit, seconds = ("minutes", 60) if steps[-1].spent > 300 else ("seconds", 1)
        scaled = [
            progress.Step(step.spent / seconds, step.value, step.trial, step.epoch)
            for step in steps
        ]
        yield "progress-time", plots.progress(scaled, objective, f"{unit} of work")
    if any(trial.epochs for trial in trials):
        best = ranked[0] if ranked else None
        yield "curves", plots.learning_curves(trials, best, objective, space.search.rungs())
        yield "budget", plots.budget_bar(progress.budget(trials, space.search.max_epochs))
        for name, figure in plots.slices(ranked, trials, space.parameters, objective):
            yield f"slice-{name}", figure
    if importance:
        yield "importance", plots.importance_bars(importance)
    if len(ranked) > 1:
        yield "parallel", plots.parallel(ranked, space.parameters, objective)


def numbers(facts: RunData) -> dict[str, Any]:
    """What the report shows, as plain values for a script."""
    search = facts.space.search
    objective = search.objective
    found = important(facts)
    return {
        "summary": facts.summary,
        "trials": plain_rows(facts),
        "best_over_epochs": [
            asdict(step) for step in progress.best_over_epochs(facts.trials, objective)
        ],
        "best_over_time": [
            asdict(step)
            for step in progress.best_over_time(facts.trials, objective, facts.sessions)
        ],
        "rungs": [asdict(rung) for rung in progress.rung_counts(facts.trials, search.rungs())],
        "budget": asdict(progress.budget(facts.trials, search.max_epochs)),
        "importance": asdict(found) if found else None,
        "remarks": remarks(facts),
        "confusion": facts.validation.confusion if facts.validation else None,
        "final": facts.final.model_dump() if facts.final else None,
    }


def plain_rows(facts: RunData) -> list[dict[str, Any]]:
    """The leaderboard as plain values; JSON knows no NaN."""
    found = []
    for row in rows(facts):
        best = row.pop("best")
        measured = (
            {name: value if math.isfinite(value) else None for name, value in best.metrics.items()}
            if best
            else None
        )
        params = dict(zip(facts.space.parameters, row.pop("params"), strict=True))
        found.append(
            row
            | {"best_epoch": best.epoch if best else None, "metrics": measured, "params": params}
        )
    return found


@cache
def template() -> Template:
    """The page, with escaping on: compiled once, because a running search writes it often."""
    templates = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates.filters |= {
        "short": short,
        "score": score,
        "words": lambda text: str(text).replace("_", " "),
        "duration": shown_duration,
    }
    return templates.get_template(TEMPLATE)


@cache
def plotly_js() -> str:
    """The whole of plotly.js, which Plotly's package carries: the page must work without a
    network.
    """
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


@cache
def sum_of(script: str) -> str:
    """What the page's content security policy calls a script that may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
