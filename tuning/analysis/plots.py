"""The report's plots as figures for plotly.js: plain dictionaries made of what `analysis` and
`importance` found.

Plotly's own parallel coordinates need WebGL and `eval`, cannot be printed, and hide what a dark
page needs; ours are lines. Colours of text, axes and grid belong to the page's style sheet, which
knows whether it is dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from text_recognizer.metrics import Objective
from tuning.analysis.importance import Importance
from tuning.analysis.progress import Budget, Step, quantile_of, visible_range
from tuning.space.schema import CategoricalParameter, Parameter
from tuning.trials.table import score, short
from tuning.trials.trial import RANKED, RUNNING, Best, Outcome, Trial

Figure = dict[str, Any]

# Okabe and Ito's palette: distinct to every eye, on white and on black
COLOURS = {
    Outcome.COMPLETE: "#0072b2",
    Outcome.STOPPED_EARLY: "#e69f00",
    Outcome.DIVERGED: "#cc79a7",
    Outcome.OUT_OF_MEMORY: "#d55e00",
    Outcome.STALLED: "#56b4e9",
    Outcome.FAILED: "#8c8c8c",
    RUNNING: "#009e73",
}
SAVED = "#6e7781"
ACCENT = "#d1242f"
# from the worst fifth of the trials to the best
RANKS = ("#b3b3b3", "#94b4cf", "#6aa6d6", "#3a8dc8", "#0072b2")
MISSING = -0.12  # where a trial without the parameter is drawn, below the axis


def figure(traces: list[Any], x: str, y: str, **layout: Any) -> Figure:
    """Traces with titled axes, in the look that all plots share."""
    axis = {"automargin": True, "zeroline": False, "showline": True, "ticks": "outside"}
    return {
        "data": traces,
        "layout": {
            "xaxis": {**axis, "title": {"text": x}, **layout.pop("xaxis", {})},
            "yaxis": {**axis, "title": {"text": y, "standoff": 12}, **layout.pop("yaxis", {})},
            "margin": {"l": 10, "r": 10, "t": 12, "b": 10},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "hovermode": "closest",
            "showlegend": False,
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            **layout,
        },
    }


def progress(steps: Sequence[Step], objective: Objective, x: str) -> Figure:
    """The best value so far as a staircase; `x` says what was spent."""
    trace = {
        "x": [step.spent for step in steps],
        "y": [step.value for step in steps],
        "text": [f"trial {step.trial}, epoch {step.epoch}" for step in steps],
        "hovertemplate": "%{y:.4f}<br>%{text}<extra></extra>",
        "mode": "lines+markers",
        "line": {"shape": "hv", "color": COLOURS[Outcome.COMPLETE], "width": 2},
        "marker": {"size": [7] * (len(steps) - 1) + [1]},
    }
    shown = visible_range([step.value for step in steps], objective)
    return figure(
        [trace],
        x,
        f"best {objective.metric}",
        xaxis={"rangemode": "tozero"},
        yaxis={"range": shown},
    )


def learning_curves(
    trials: Sequence[Trial], best: Best | None, objective: Objective, rungs: Sequence[int]
) -> Figure:
    """Every trial's curve in the colour of its outcome, the best one on top, the rungs as lines."""
    by_status: dict[str, list[Trial]] = {}
    for trial in trials:
        by_status.setdefault(trial.status, []).append(trial)
    traces = [curves_of(status, members, objective.metric) for status, members in by_status.items()]
    if best:
        top = curves_of("best", [best.trial], objective.metric)
        top["line"] = {"color": ACCENT, "width": 3}
        traces.append(top | {"name": f"best: trial {best.trial.number}"})
    values = [epoch.metrics[objective.metric] for trial in trials for epoch in trial.epochs]
    longest = max(len(trial.epochs) for trial in trials)
    rung_lines = [
        {
            "type": "line",
            "x0": rung,
            "x1": rung,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "line": {"dash": "dot", "width": 1},
        }
        for rung in rungs
    ]
    notes = [
        {
            "x": rung,
            "y": 0,
            "yref": "paper",
            "yanchor": "bottom",
            "xanchor": "left",
            "text": f"rung {k}",
        }
        | {"showarrow": False, "textangle": -90}
        for k, rung in enumerate(rungs, 1)
    ]
    return figure(
        traces,
        "epoch",
        objective.metric,
        xaxis={"dtick": math.ceil(longest / 12), "rangemode": "tozero"},
        yaxis={"range": visible_range(values, objective)},
        shapes=rung_lines,
        annotations=notes,
        showlegend=True,
    )


def curves_of(status: str, trials: Sequence[Trial], metric: str) -> dict[str, Any]:
    """The curves of several trials as one trace, a gap between two of them: hundreds of traces
    would be slow.
    """
    points: list[tuple[int | None, float | None, str]] = []
    for trial in trials:
        points += [
            (epoch.epoch, finite(epoch.metrics[metric]), f"trial {trial.number}")
            for epoch in trial.epochs
        ]
        points.append((None, None, ""))
    return {
        "x": [x for x, _, _ in points],
        "y": [y for _, y, _ in points],
        "text": [text for _, _, text in points],
        "hovertemplate": "%{text}, epoch %{x}: %{y:.4f}<extra></extra>",
        "name": status.replace("_", " "),
        "mode": "lines+markers",
        "line": {"width": 1.2, "color": COLOURS.get(status, ACCENT)},
        "marker": {"size": 4},
    }


def importance_bars(found: Importance) -> Figure:
    """The share of each parameter, the biggest on top."""
    names = list(found.shares)
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [found.shares[name] for name in names],
        "y": names,
        "text": [f"{found.shares[name]:.0%}" for name in names],
        "textposition": "outside",
        "cliponaxis": False,
        "hoverinfo": "skip",
        "marker": {"color": COLOURS[Outcome.COMPLETE]},
    }
    top = max(found.shares.values()) * 1.15
    return figure(
        [trace],
        f"share, over {found.trials} trials",
        "",
        yaxis={"autorange": "reversed", "type": "category"},
        xaxis={"range": [0, top], "tickformat": ".0%"},
    )


def budget_bar(budget: Budget) -> Figure:
    """Epochs by outcome, and those that ASHA saved, in one bar."""
    parts = [
        (status.replace("_", " "), n, COLOURS.get(status, ACCENT))
        for status, n in budget.trained.items()
    ]
    if budget.saved:
        parts.append(("saved by ASHA", budget.saved, SAVED))
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "x": [n],
            "y": ["epochs"],
            "name": f"{name}: {n}",
            "text": [str(n)],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "hovertemplate": f"{name}: {n} epochs<extra></extra>",
            "marker": {"color": colour},
        }
        for name, n, colour in parts
    ]
    return figure(traces, "epochs", "", barmode="stack", yaxis={"visible": False}, showlegend=True)


def slices(
    ranked: Sequence[Best],
    trials: Sequence[Trial],
    parameters: Mapping[str, Parameter],
    objective: Objective,
) -> Any:
    """One plot for each parameter: its value against the best value of the trial. Pairs of name
    and figure.
    """
    shown = visible_range([best.value for best in ranked], objective)
    values = {best.trial.number: best.value for best in ranked}
    values |= {
        trial.number: epoch.metrics[objective.metric]
        for trial in trials
        if trial.outcome is None and (epoch := trial.best_epoch(objective))
    }
    floor = (shown[0] if objective.mode == "max" else shown[1]) if shown else 0.0
    for name, parameter in parameters.items():
        there = [trial for trial in trials if name in trial.params]
        traces = [
            slice_trace(
                status, [t for t in there if t.status == status], name, parameter, values, floor
            )
            for status in dict.fromkeys(trial.status for trial in there)
        ]
        if ranked and name in ranked[0].trial.params:
            traces.append(best_mark(ranked[0], name, parameter))
        yield (
            name,
            figure(
                traces,
                name,
                objective.metric,
                xaxis=scale_of(parameter),
                yaxis={"range": shown},
                height=260,
            ),
        )


def slice_trace(
    status: str,
    trials: Sequence[Trial],
    name: str,
    parameter: Parameter,
    values: Mapping[int, float],
    floor: float,
) -> dict[str, Any]:
    """The trials that ended in one way; those without a value that counts lie on the edge, as
    crosses.
    """
    counted = status in (*RANKED, RUNNING)
    return {
        "x": [coordinate(trial.params[name], parameter) for trial in trials],
        "y": [values.get(trial.number, floor) for trial in trials],
        "text": [f"trial {trial.number}, {status.replace('_', ' ')}" for trial in trials],
        "hovertemplate": "%{x}: %{y:.4f}<br>%{text}<extra></extra>"
        if counted
        else "%{x}<br>%{text}<extra></extra>",
        "name": status.replace("_", " "),
        "mode": "markers",
        "cliponaxis": False,
        "marker": {
            "color": COLOURS[status],
            "size": 6 if counted else 8,
            "symbol": "circle" if counted else "x",
        },
    }


def best_mark(best: Best, name: str, parameter: Parameter) -> dict[str, Any]:
    """A ring around the best trial."""
    return {
        "x": [coordinate(best.trial.params[name], parameter)],
        "y": [best.value],
        "mode": "markers",
        "hoverinfo": "skip",
        "marker": {"size": 13, "symbol": "circle-open", "color": ACCENT, "line": {"width": 2}},
    }


def scale_of(parameter: Parameter) -> dict[str, Any]:
    """The axis of a parameter."""
    if isinstance(parameter, CategoricalParameter):
        order = [label(choice) for choice in parameter.choices]
        return {"type": "category", "categoryorder": "array", "categoryarray": order}
    margin = 0.03
    if not parameter.log:
        room = margin * (parameter.high - parameter.low)
        return {
            "type": "linear",
            "nticks": 6,
            "range": [parameter.low - room, parameter.high + room],
        }
    low, high = math.log10(parameter.low), math.log10(parameter.high)
    room = margin * (high - low)
    ticks = log_ticks(parameter.low, parameter.high)
    text = [short(tick) for tick in ticks]
    return {"type": "log", "tickvals": ticks, "ticktext": text, "range": [low - room, high + room]}


def log_ticks(low: float, high: float) -> list[float]:
    """Both ends and the powers of ten between them that are not too close to an end."""
    decades = [10.0**k for k in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    room = 0.12 * math.log(high / low)
    inside = [
        tick for tick in decades if math.log(tick / low) > room and math.log(high / tick) > room
    ]
    return [low, *inside[:: len(inside) // 4 + 1], high]


def parallel(
    ranked: Sequence[Best], parameters: Mapping[str, Parameter], objective: Objective
) -> Figure:
    """Each trial that can be best as a line over all parameters to its value, the better the
    bluer, the best on top.
    """
    values = sorted(best.value for best in ranked)
    shown = visible_range(values, objective, margin=0.0) or (0.0, 1.0)
    fifths: dict[int, list[Best]] = {}
    for best in reversed(ranked):
        fifths.setdefault(4 - int(5 * quantile_of(best.value, values, objective)), []).append(best)
    traces = [
        lines(RANKS[fifth], members, parameters, objective.metric, shown)
        for fifth, members in sorted(fifths.items())
    ]
    if ranked:
        traces.append(
            lines(ACCENT, ranked[:1], parameters, objective.metric, shown)
            | {"line": {"color": ACCENT, "width": 3}}
        )
    names = [*parameters, objective.metric]
    return figure(
        traces,
        "",
        "",
        xaxis={
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "range": [-0.2, len(names) - 0.5],
            "showgrid": True,
        },
        yaxis={"visible": False, "range": [MISSING - 0.06, 1.08]},
        annotations=axis_labels(parameters, shown),
    )


def lines(
    colour: str,
    ranked: Sequence[Best],
    parameters: Mapping[str, Parameter],
    metric: str,
    shown: tuple[float, float],
) -> dict[str, Any]:
    """Several trials as one trace."""
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[str] = []
    low, high = shown
    for best in ranked:
        params = best.trial.params
        x += [*range(len(parameters) + 1), None]
        y += [
            height(params[name], p) if name in params else MISSING for name, p in parameters.items()
        ]
        y += [min(1.0, max(0.0, (best.value - low) / (high - low or 1.0))), None]
        text += [
            f"trial {best.trial.number}: {name} {label(params.get(name, 'not there'))}"
            for name in parameters
        ]
        text += [f"trial {best.trial.number}: {metric} {best.value:.4f}", ""]
    return {
        "x": x,
        "y": y,
        "text": text,
        "hovertemplate": "%{text}<extra></extra>",
        "mode": "lines",
        "line": {"color": colour, "width": 1},
        "opacity": 0.8,
    }


def height(value: Any, parameter: Parameter) -> float:
    """Where a value lies on its axis, from 0 at the low end to 1 at the high end."""
    if isinstance(parameter, CategoricalParameter):
        return parameter.choices.index(value) / (len(parameter.choices) - 1)
    if parameter.log:
        return math.log(value / parameter.low) / math.log(parameter.high / parameter.low)
    return float((value - parameter.low) / (parameter.high - parameter.low))


def axis_labels(
    parameters: Mapping[str, Parameter], shown: tuple[float, float]
) -> list[dict[str, Any]]:
    """The ends of each axis, or all choices, written beside it."""
    marks: list[tuple[int, float, str]] = []
    for i, parameter in enumerate(parameters.values()):
        choices = (
            parameter.choices if isinstance(parameter, CategoricalParameter) else parameter.ends()
        )
        marks += [(i, height(choice, parameter), label(choice)) for choice in choices]
    marks += [(len(parameters), 0.0, score(shown[0])), (len(parameters), 1.0, score(shown[1]))]
    return [
        {"x": x, "y": y, "text": text, "showarrow": False, "xanchor": "left", "xshift": 4}
        for x, y, text in marks
    ]


def coordinate(value: Any, parameter: Parameter) -> Any:
    """A parameter's value on its axis."""
    return label(value) if isinstance(parameter, CategoricalParameter) else value


def label(value: Any) -> str:
    """A value as text. Plotly would take tags for markup."""
    return short(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def finite(value: float) -> float | None:
    """JSON has no NaN: a gap in the curve."""
    return value if math.isfinite(value) else None
