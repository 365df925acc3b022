"""Makes the report's plots as plain dictionaries, which plotly.js draws.

Optuna's and Plotly's Python code is not used: its import and its checks take longer than the 0.05 s
of a whole live report. The style sheet colours text, axes and grid, because only the browser knows
whether the page is dark.
"""

import html
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tuning.analysis.importance import Importance
from tuning.analysis.progress import Budget, Step, position, visible_range
from tuning.analysis.run_data import RunData
from tuning.space import CategoricalParameter, FloatParameter, Parameter
from tuning.trials import RUNNING, WAITING, Outcome, score, short

Plain = dict[str, Any]  # a figure or a part of one, as plotly.js takes it
Point = tuple[float | None, float | None, str]  # x, y, text; None leaves a gap in the line

# the palette of Okabe and Ito (2008), which colour-blind people can tell apart
STATUS_COLOURS = {
    Outcome.COMPLETE: "#0072b2",
    Outcome.STOPPED_EARLY: "#e69f00",
    Outcome.DIVERGED: "#cc79a7",
    Outcome.OUT_OF_MEMORY: "#d55e00",
    Outcome.STALLED: "#56b4e9",
    Outcome.FAILED: "#8c8c8c",
    RUNNING: "#009e73",
    WAITING: "#f0e442",
}
BEST_COLOUR = "#d1242f"
# of the best fifth of the trials to the worst
FIFTHS = ("#0072b2", "#3a8dc8", "#6aa6d6", "#94b4cf", "#b3b3b3")
MISSING = -0.12  # height of a trial that does not have the parameter: below the axis


def figure(traces: list[Plain], x_title: str = "", y_title: str = "", **layout: Any) -> Plain:
    """A plot. `report.js` gives all plots the layout that they share.

    Args:
        layout: more settings of Plotly's layout.
    """
    x_axis = {"title": {"text": x_title}} | layout.pop("xaxis", {})
    y_axis = {"title": {"text": y_title, "standoff": 12}} | layout.pop("yaxis", {})
    return {"data": traces, "layout": {"xaxis": x_axis, "yaxis": y_axis, **layout}}


def staircase(run: RunData, steps: Sequence[Step], x_title: str, unit: float = 1) -> Plain:
    """The best value so far as a line with steps.

    Args:
        unit: how much of `Step.spent` is 1 on the x axis.
    """
    objective = run.space.search.objective
    values = [step.value for step in steps]
    trace = {
        "x": [step.spent / unit for step in steps],
        "y": values,
        "text": [f"trial {step.trial}, epoch {step.epoch}" for step in steps],
        "hovertemplate": "%{y:.4f}<br>%{text}<extra></extra>",
        "line": {"shape": "hv", "color": STATUS_COLOURS[Outcome.COMPLETE]},
    }
    return figure(
        [trace],
        x_title,
        f"best {objective.metric}",
        xaxis={"rangemode": "tozero"},
        yaxis={"range": visible_range(values, objective)},
    )


def learning_curves(run: RunData) -> Plain:
    """Every trial's curve in the colour of its outcome, with a vertical line at each rung."""
    objective = run.space.search.objective
    lines = {
        trial.number: [
            (epoch.epoch, epoch.metrics[objective.metric], f"trial {trial.number}")
            for epoch in trial.epochs
        ]
        for trial in run.trials
    }
    traces = []
    for status in dict.fromkeys(trial.status for trial in run.trials):
        members = [lines[trial.number] for trial in run.trials if trial.status == status]
        traces.append(joined(members, STATUS_COLOURS[status], 1.2, name=status.replace("_", " ")))
    # plotly.js draws traces in their order: the best curve comes last, on top of the others
    for best in run.ranked[:1]:
        number = best.trial.number
        traces.append(joined([lines[number]], BEST_COLOUR, 3, name=f"best: trial {number}"))
    style = {
        "mode": "lines+markers",
        "marker": {"size": 4},
        "hovertemplate": "%{text}, epoch %{x}: %{y:.4f}<extra></extra>",
    }
    return figure(
        [trace | style for trace in traces],
        "epoch",
        objective.metric,
        # there is no half epoch, and Plotly would label one
        xaxis={"dtick": math.ceil(max(map(len, lines.values())) / 12), "rangemode": "tozero"},
        yaxis={
            "range": visible_range((y for line in lines.values() for _, y, _ in line), objective)
        },
        shapes=[rung_line(*rung) for rung in enumerate(run.space.search.rungs(), 1)],
        showlegend=True,
    )


def rung_line(number: int, epoch: int) -> Plain:
    """The vertical line at a rung."""
    return {
        "type": "line",
        "x0": epoch,
        "x1": epoch,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"dash": "dot", "width": 1},
        "label": {
            "text": f"rung {number}",
            "textposition": "end",
            "textangle": 0,
            "xanchor": "left",
            "yanchor": "top",
        },
    }


def joined(lines: Iterable[Sequence[Point]], colour: str, width: float, **style: Any) -> Plain:
    """Several lines as one trace, with a gap after each."""
    # hundreds of traces would be slow in the browser
    points = [point for line in lines for point in (*line, (None, None, ""))]
    x, y, text = zip(*points, strict=True)
    return {"x": x, "y": y, "text": text, "line": {"color": colour, "width": width}, **style}


def importance_bars(importance: Importance) -> Plain:
    """The importance of each parameter, the biggest on top."""
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
        # Plotly would take a parameter called `1` for a number
        yaxis={"autorange": "reversed", "type": "category"},
        xaxis={"range": [0, 1.15 * max(shares.values())], "tickformat": ".0%"},
    )


def budget_bar(budget: Budget) -> Plain:
    """One bar of the epochs of each outcome, and of those that early stopping skipped."""
    parts = budget.trained | {"skipped by early stopping": budget.saved}
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "x": [n],
            "y": [""],
            "name": f"{part.replace('_', ' ')}: {n}",
            "text": n,
            "insidetextanchor": "middle",
            "hovertemplate": "%{fullData.name} epochs<extra></extra>",
            "marker": {"color": STATUS_COLOURS.get(part, "#6e7781")},
        }
        for part, n in parts.items()
        if n
    ]
    return figure(traces, "epochs", barmode="stack", yaxis={"visible": False}, showlegend=True)


def slices(run: RunData) -> Iterator[tuple[str, Plain]]:
    """(name, plot) of each parameter: its value in each trial against the trial's best value.

    A trial without a usable result is a cross at the bad edge of the plot.
    """
    objective = run.space.search.objective
    values = {
        trial.number: epoch.metrics[objective.metric]
        for trial in run.trials
        if (trial.can_be_best or trial.status == RUNNING) and (epoch := trial.best_epoch(objective))
    }
    texts = {
        trial.number: f"trial {trial.number}, {trial.status.replace('_', ' ')}"
        for trial in run.trials
    }
    for number, value in values.items():
        texts[number] += f": {score(value)}"
    low, high = visible_range(values.values(), objective)
    edge = low if objective.mode == "max" else high
    best = run.ranked[0].trial.number if run.ranked else None
    for name, parameter in run.space.parameters.items():
        members = [trial for trial in run.trials if name in trial.params]
        members.sort(key=lambda trial: trial.number == best)  # the best is drawn last, on top
        trace = {
            "x": [label(trial.params[name]) for trial in members],
            "y": [values.get(trial.number, edge) for trial in members],
            "text": [texts[trial.number] for trial in members],
            "hovertemplate": "%{x}<br>%{text}<extra></extra>",
            "mode": "markers",
            "cliponaxis": False,
            # one trace with a style for each point is smaller than a trace for each outcome
            "marker": {
                "size": 8,
                "opacity": 1,
                "color": [STATUS_COLOURS[trial.status] for trial in members],
                "symbol": ["circle" if trial.number in values else "x" for trial in members],
                "line": {
                    "color": BEST_COLOUR,
                    "width": [3 if trial.number == best else 0 for trial in members],
                },
            },
        }
        x_axis, y_axis = parameter_axis(parameter), {"range": [low, high]}
        yield name, figure([trace], name, objective.metric, xaxis=x_axis, yaxis=y_axis)


def parameter_axis(parameter: Parameter) -> Plain:
    """An axis over the whole range of a parameter."""
    if isinstance(parameter, CategoricalParameter):
        return {"type": "category", "categoryarray": list(map(label, parameter.choices))}
    low, high, kind = parameter.low, parameter.high, "linear"
    if parameter.log:
        # Plotly wants the range of a logarithmic axis as exponents of 10
        low, high, kind = math.log10(low), math.log10(high), "log"
    # with some room, points at the ends of the range are not cut in half
    room = 0.03 * (high - low)
    return {"type": kind, "nticks": 6, "range": [low - room, high + room]}


def parallel(run: RunData) -> Plain:
    """Each ranked trial as a line over its parameters to its value; better trials are bluer."""
    # Plotly's own parallel coordinates need `eval`, which the page's policy forbids, and cannot be
    # printed
    objective = run.space.search.objective
    low, high = visible_range((best.value for best in run.ranked), objective)
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
    # the best ones are drawn last, on top
    traces = [
        joined(members, FIFTHS[fifth], 1)
        for fifth in reversed(range(5))
        if (members := lines[len(lines) * fifth // 5 : len(lines) * (fifth + 1) // 5])
    ]
    traces.append(joined(lines[:1], BEST_COLOUR, 3))
    style = {"mode": "lines", "hovertemplate": "%{text}<extra></extra>"}
    ticks = {"tickvals": list(range(len(axes))), "ticktext": list(axes)}
    return figure(
        [trace | style for trace in traces],
        xaxis={**ticks, "range": [-0.2, len(axes) - 0.5]},
        yaxis={"visible": False, "range": [MISSING - 0.06, 1.08]},
        annotations=[
            {
                "x": i,
                "y": position(value, axis),
                "text": label(value),
                "showarrow": False,
                "xanchor": "left",
                "xshift": 4,
            }
            for i, axis in enumerate(axes.values())
            for value in axis.corner_values()
        ],
    )


def label(value: Any) -> str:
    """A value as text without markup."""
    # Plotly obeys some of HTML's tags in its texts, links among them
    return html.escape(short(value), quote=False)
