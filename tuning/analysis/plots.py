"""The report's plots: plain dictionaries that plotly.js draws.

Optuna's and Plotly's Python are not used: they would cost a live report seconds instead of 0.05 s,
and their parallel coordinates need `eval`, which the page's policy forbids. The style sheet colours
text, axes and grid, because only the browser knows whether the page is dark.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tuning.analysis.importance import Importance
from tuning.analysis.progress import Budget, Step, position, visible_range
from tuning.analysis.run_data import RunData
from tuning.space.schema import CategoricalParameter, FloatParameter, Parameter
from tuning.trials.table import score, short
from tuning.trials.trial import RANKED, RUNNING, Outcome, Trial

Figure = dict[str, Any]
Point = tuple[float | None, float | None, str]  # x, y, text; None is a gap

# the palette of Okabe and Ito (2008), which colour-blind people can tell apart
STATUS_COLOURS = {
    Outcome.COMPLETE: "#0072b2",
    Outcome.STOPPED_EARLY: "#e69f00",
    Outcome.DIVERGED: "#cc79a7",
    Outcome.OUT_OF_MEMORY: "#d55e00",
    Outcome.STALLED: "#56b4e9",
    Outcome.FAILED: "#8c8c8c",
    RUNNING: "#009e73",
}
SKIPPED_COLOUR = "#6e7781"
BEST_COLOUR = "#d1242f"
# from the best fifth of the trials to the worst
FIFTHS = ("#0072b2", "#3a8dc8", "#6aa6d6", "#94b4cf", "#b3b3b3")
MISSING = -0.12  # height of a trial without the parameter, below the axis


def figure(traces: list[Any], x_title: str, y_title: str, **layout: Any) -> Figure:
    """Traces with titled axes, in the look that all plots share.

    Args:
        layout: settings of Plotly's layout; `xaxis` and `yaxis` are added to the shared ones.
    """
    axis = {"automargin": True, "zeroline": False, "showline": True, "ticks": "outside"}
    return {
        "data": traces,
        "layout": {
            "margin": {"l": 10, "r": 10, "t": 12, "b": 10},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            # the default names every trace at that x: hundreds of trials
            "hovermode": "closest",
            "showlegend": False,
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            **layout,
            "xaxis": axis | {"title": {"text": x_title}} | layout.get("xaxis", {}),
            "yaxis": axis | {"title": {"text": y_title, "standoff": 12}} | layout.get("yaxis", {}),
        },
    }


def staircase(run: RunData, steps: Sequence[Step], x_title: str) -> Figure:
    """The best value so far.

    Args:
        x_title: what `Step.spent` counts.
    """
    objective = run.space.search.objective
    trace = {
        "x": [step.spent for step in steps],
        "y": [step.value for step in steps],
        "text": [f"trial {step.trial}, epoch {step.epoch}" for step in steps],
        "hovertemplate": "%{y:.4f}<br>%{text}<extra></extra>",
        "line": {"shape": "hv", "color": STATUS_COLOURS[Outcome.COMPLETE]},
    }
    return figure(
        [trace],
        x_title,
        f"best {objective.metric}",
        xaxis={"rangemode": "tozero"},
        yaxis={"range": visible_range([step.value for step in steps], objective)},
    )


def learning_curves(run: RunData) -> Figure:
    """Every trial's curve in the colour of its outcome, the best one on top, the rungs as lines."""
    objective = run.space.search.objective
    traces = []
    for status in dict.fromkeys(trial.status for trial in run.trials):
        members = [trial for trial in run.trials if trial.status == status]
        name = status.replace("_", " ")
        traces.append(curves(members, objective.metric, name, STATUS_COLOURS[status], 1.2))
    for best in run.ranked[:1]:
        name = f"best: trial {best.trial.number}"
        traces.append(curves([best.trial], objective.metric, name, BEST_COLOUR, 3))
    line = {"dash": "dot", "width": 1}
    vertical = {"type": "line", "y0": 0, "y1": 1, "yref": "paper", "line": line}
    beside = {"textposition": "end", "textangle": 0, "xanchor": "left", "yanchor": "top"}
    rungs = [
        {**vertical, "x0": epoch, "x1": epoch, "label": {"text": f"rung {number}", **beside}}
        for number, epoch in enumerate(run.space.search.rungs(), 1)
    ]
    values = [epoch.metrics[objective.metric] for trial in run.trials for epoch in trial.epochs]
    longest = max(len(trial.epochs) for trial in run.trials)
    return figure(
        traces,
        "epoch",
        objective.metric,
        # ticks at whole epochs, at most a dozen of them
        xaxis={"dtick": math.ceil(longest / 12), "rangemode": "tozero"},
        yaxis={"range": visible_range(values, objective)},
        shapes=rungs,
        showlegend=True,
    )


def curves(
    trials: Sequence[Trial], metric: str, name: str, colour: str, width: float
) -> dict[str, Any]:
    """The learning curves of several trials as one trace."""
    lines = [
        [(epoch.epoch, epoch.metrics[metric], f"trial {trial.number}") for epoch in trial.epochs]
        for trial in trials
    ]
    return joined(lines, colour, width) | {
        "name": name,
        "mode": "lines+markers",
        "marker": {"size": 4},
        "hovertemplate": "%{text}, epoch %{x}: %{y:.4f}<extra></extra>",
    }


def joined(lines: Iterable[Sequence[Point]], colour: str, width: float) -> dict[str, Any]:
    """Several lines as one trace, with a gap after each: hundreds of traces would be slow."""
    points = [point for line in lines for point in (*line, (None, None, ""))]
    x, y, text = zip(*points, strict=True)
    return {"x": x, "y": y, "text": text, "line": {"color": colour, "width": width}}


def importance_bars(importance: Importance) -> Figure:
    """The share of each parameter, the biggest on top."""
    shares = importance.shares
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": list(shares.values()),
        "y": list(shares),
        "texttemplate": "%{x:.0%}",
        "textposition": "outside",
        "cliponaxis": False,
        "hoverinfo": "skip",
        "marker": {"color": STATUS_COLOURS[Outcome.COMPLETE]},
    }
    return figure(
        [trace],
        f"share, over {importance.trials} trials",
        "",
        # a name such as `1` would be a number to Plotly
        yaxis={"autorange": "reversed", "type": "category"},
        xaxis={"range": [0, 1.15 * max(shares.values())], "tickformat": ".0%"},
    )


def budget_bar(budget: Budget) -> Figure:
    """One bar: the epochs of each outcome, and those that early stopping skipped."""
    parts = [
        (status.replace("_", " "), n, STATUS_COLOURS[status])
        for status, n in budget.trained.items()
    ]
    if budget.saved:
        parts.append(("skipped by early stopping", budget.saved, SKIPPED_COLOUR))
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "x": [n],
            "y": [""],
            "name": f"{name}: {n}",
            "text": n,
            "insidetextanchor": "middle",
            "hovertemplate": f"{name}: {n} epochs<extra></extra>",
            "marker": {"color": colour},
        }
        for name, n, colour in parts
    ]
    return figure(traces, "epochs", "", barmode="stack", yaxis={"visible": False}, showlegend=True)


def slices(run: RunData) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of each parameter: its value against the best value of the trial.

    A trial without a usable value is a cross at the bad edge of the plot.
    """
    objective = run.space.search.objective
    values = {
        trial.number: epoch.metrics[objective.metric]
        for trial in run.trials
        if trial.status in (*RANKED, RUNNING) and (epoch := trial.best_epoch(objective))
    }
    shown = visible_range(values.values(), objective)
    edge = (shown[0] if objective.mode == "max" else shown[1]) if shown else 0.0
    best = run.ranked[0].trial.number if run.ranked else None
    for name, parameter in run.space.parameters.items():
        members = [trial for trial in run.trials if name in trial.params]
        members.sort(key=lambda trial: trial.number == best)  # the best is drawn last, on top
        trace = {
            "x": [label(trial.params[name]) for trial in members],
            "y": [values.get(trial.number, edge) for trial in members],
            "text": [slice_text(trial, values.get(trial.number)) for trial in members],
            "hovertemplate": "%{x}<br>%{text}<extra></extra>",
            "mode": "markers",
            "cliponaxis": False,
            # one trace with a style for each point is smaller than a trace for each outcome
            "marker": {
                "opacity": 1,
                "color": [STATUS_COLOURS[trial.status] for trial in members],
                "symbol": ["circle" if trial.number in values else "x" for trial in members],
                "size": [12 if trial.number == best else 7 for trial in members],
                "line": {
                    "color": BEST_COLOUR,
                    "width": [3 if trial.number == best else 0 for trial in members],
                },
            },
        }
        x_axis, y_axis = parameter_axis(parameter), {"range": shown}
        yield name, figure([trace], name, objective.metric, xaxis=x_axis, yaxis=y_axis)


def slice_text(trial: Trial, value: float | None) -> str:
    """What a trial's point in a slice says."""
    words = f"trial {trial.number}, {trial.status.replace('_', ' ')}"
    return words if value is None else f"{words}: {score(value)}"


def parameter_axis(parameter: Parameter) -> dict[str, Any]:
    """An axis over the whole range of a parameter."""
    if isinstance(parameter, CategoricalParameter):
        return {"type": "category", "categoryarray": list(map(label, parameter.choices))}
    low, high = (
        map(math.log10, parameter.corner_values()) if parameter.log else parameter.corner_values()
    )
    # points at the ends of the range are drawn whole
    room = 0.03 * (high - low)
    kind = "log" if parameter.log else "linear"
    return {"type": kind, "nticks": 6, "range": [low - room, high + room]}


def parallel(run: RunData) -> Figure:
    """Each ranked trial as a line over its parameters to its value: the better the bluer, the
    best one on top.
    """
    objective = run.space.search.objective
    low, high = visible_range((best.value for best in run.ranked), objective) or (0.0, 1.0)
    # the metric is drawn as one more parameter
    metric = FloatParameter(type="float", low=low, high=high)
    axes: dict[str, Parameter] = {**run.space.parameters, objective.metric: metric}
    lines: list[list[Point]] = []
    for best in run.ranked:
        values = best.trial.params | {objective.metric: best.value}
        line: list[Point] = []
        for i, (name, axis) in enumerate(axes.items()):
            height = position(values[name], axis) if name in values else MISSING
            text = f"trial {best.trial.number}: {name} {label(values.get(name, 'not there'))}"
            line.append((i, height, text))
        lines.append(line)
    traces = []
    for fifth in reversed(range(5)):  # the best ones are drawn last, on top
        members = lines[len(lines) * fifth // 5 : len(lines) * (fifth + 1) // 5]
        if members:
            traces.append(joined(members, FIFTHS[fifth], 1))
    traces.append(joined(lines[:1], BEST_COLOUR, 3))
    style = {"mode": "lines", "hovertemplate": "%{text}<extra></extra>"}
    ticks = {"tickvals": list(range(len(axes))), "ticktext": list(axes)}
    return figure(
        [trace | style for trace in traces],
        "",
        "",
        xaxis={**ticks, "range": [-0.2, len(axes) - 0.5]},
        yaxis={"visible": False, "range": [MISSING - 0.06, 1.08]},
        annotations=axis_labels(axes.values()),
    )


def axis_labels(axes: Iterable[Parameter]) -> list[dict[str, Any]]:
    """The ends of each axis, or all choices, as annotations."""
    style = {"showarrow": False, "xanchor": "left", "xshift": 4}
    return [
        {"x": i, "y": position(value, axis), "text": label(value), **style}
        for i, axis in enumerate(axes)
        for value in axis.corner_values()
    ]


def label(value: Any) -> str:
    """A value as text without markup: Plotly obeys some of HTML's tags, links among them."""
    return html.escape(short(value), quote=False)
