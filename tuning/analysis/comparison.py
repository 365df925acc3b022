"""Two runs side by side: which is better, and in what they differ. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tuning.run.listing import RunInfo, without_nan
from tuning.space.durations import shown_duration
from tuning.trials.trial import RUNNING, Outcome

NOT_SEARCHED = "not searched"


def cell(value: Any) -> str:
    """A value in few characters; `-` where there is none."""
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.6g}"
        case dict():
            return ", ".join(f"{key} {cell(inner)}" for key, inner in value.items()) or "-"
        case list():
            return ", ".join("None" if inner is None else cell(inner) for inner in value) or "-"
        case _:
            return str(value)


@dataclass(frozen=True)
class Row:
    """One thing of two runs, as plain values and as text."""

    what: str
    left: Any
    right: Any
    show: Callable[[Any], str] = cell

    @property
    def differs(self) -> bool:
        return bool(self.left != self.right)

    def texts(self) -> tuple[str, str]:
        return self.show(self.left), self.show(self.right)

    def as_plain(self) -> dict[str, Any]:
        return {"what": self.what, "left": without_nan(self.left), "right": without_nan(self.right)}


def verdict(left: RunInfo, right: RunInfo, names: tuple[str, str]) -> str:
    """In words which run is better and by how much, or why that cannot be said."""
    judged = [
        (run.summary, run.summary.best) for run in (left, right) if run.summary and run.summary.best
    ]
    if len(judged) < 2:
        without = " and ".join(
            name for name, run in zip(names, (left, right), strict=True) if not best_of(run)
        )
        return f"they cannot be compared: there is no best trial in {without}"
    (a, best_a), (b, best_b) = judged
    if a.metric != b.metric:
        return (
            f"they cannot be compared: {names[0]} is judged by {a.metric}, {names[1]} by {b.metric}"
        )
    if a.data_class != b.data_class:
        return (
            f"they cannot be compared: {names[0]} is on {a.data_class}, {names[1]} on "
            f"{b.data_class}"
        )
    values = (best_a.value, best_b.value)
    if values[0] == values[1]:
        return f"neither is better: both have {a.metric} {score(values[0])}"
    first = (values[0] > values[1]) == (a.mode == "max")
    better, worse = values if first else values[::-1]
    return (
        f"{names[not first]} is better: {a.metric} {score(better)} against {score(worse)}, "
        f"by {abs(better - worse):.2g}"
    )


def rows(left: RunInfo, right: RunInfo) -> list[Row]:
    """All that matters of two runs."""
    return [
        *result_rows(left, right),
        *effort_rows(left, right),
        *search_rows(left, right),
        *origin_rows(left, right),
    ]


def result_rows(left: RunInfo, right: RunInfo) -> Iterator[Row]:
    """What was found."""
    both = Both(left, right)
    yield both.row("status", lambda run: run.status)
    yield both.row("ended because", lambda run: run.summary and run.summary.stop_reason)
    yield both.row("data", lambda run: run.summary and run.summary.data_class)
    yield both.row(
        "metric", lambda run: run.summary and f"{run.summary.metric} ({run.summary.mode})"
    )
    yield both.row("best value", lambda run: best_of(run).get("value"), score)
    for what in ("trial", "epoch"):
        yield both.row(f"best {what}", lambda run, what=what: best_of(run).get(what))  # type: ignore[misc]
    yield from both.rows("best ", lambda run: best_of(run).get("params", {}))
    yield both.row("final test acc", lambda run: run.test and run.test.model_dump(), spread)


def effort_rows(left: RunInfo, right: RunInfo) -> Iterator[Row]:
    """What it took."""
    both = Both(left, right)
    yield both.row("trials wanted", lambda run: run.wanted)
    for status in (*Outcome, RUNNING):
        row = both.row(
            f"trials {status.replace('_', ' ')}",
            lambda run, s=status: run.summary and run.summary.counts.get(s),  # type: ignore[misc]
        )
        if row.left or row.right:
            yield row
    yield both.row("epochs trained", lambda run: run.summary and run.summary.epochs_trained)
    yield both.row("epochs saved", lambda run: run.epochs_saved)
    yield both.row("wall time", lambda run: run.summary and run.summary.wall_time_s, span)
    yield from both.rows("", lambda run: run.summary.resources if run.summary else {})


def search_rows(left: RunInfo, right: RunInfo) -> Iterator[Row]:
    """How and in what was searched."""
    both = Both(*(run.space.as_plain() if run.space else {} for run in (left, right)))
    yield both.row("asha", asha_of)
    for what in ("scheduler", "sampler", "seed", "max_epochs", "stop", "start_with"):
        yield both.row(what, lambda space, what=what: space.get("search", {}).get(what))  # type: ignore[misc]
    yield from both.rows("range of ", lambda space: space.get("space", {}), range_of)
    yield from both.rows(
        "fixed ",
        lambda space: {k: v for k, v in space.get("experiment", {}).items() if k != "data_class"},
    )


def origin_rows(left: RunInfo, right: RunInfo) -> Iterator[Row]:
    """What the runs were made with; of versions those that differ."""
    both = Both(
        *((run.environment.model_dump() if run.environment else {}) for run in (left, right))
    )
    yield both.row("git commit", commit_of)
    yield both.row("python", lambda made: made.get("python"))
    yield from (row for row in both.rows("", lambda made: made.get("versions", {})) if row.differs)


class Both:
    """Makes rows of two things, left and right."""

    def __init__(self, left: Any, right: Any) -> None:
        self.sides = (left, right)

    def row(self, what: str, pick: Callable[[Any], Any], show: Callable[[Any], str] = cell) -> Row:
        left, right = map(pick, self.sides)
        return Row(what, left, right, show)

    def rows(
        self, what: str, pick: Callable[[Any], Mapping[str, Any]], show: Callable[[Any], str] = cell
    ) -> Iterator[Row]:
        """A row for each key of two mappings."""
        left, right = map(pick, self.sides)
        for key in merged(left, right):
            yield Row(f"{what}{key}", left.get(key), right.get(key), show)


def merged(left: Iterable[str], right: Iterable[str]) -> list[str]:
    """The keys of both, each once, in their order."""
    return list(dict.fromkeys([*left, *right]))


def best_of(run: RunInfo) -> dict[str, Any]:
    return run.summary.best.model_dump() if run.summary and run.summary.best else {}


def asha_of(space: Mapping[str, Any]) -> Any:
    """How ASHA stops trials, where it does."""
    search = space.get("search", {})
    return search.get("asha") if search.get("scheduler") == "asha" else None


def range_of(parameter: dict[str, Any] | None) -> str:
    """A parameter's range for people."""
    if parameter is None:
        return NOT_SEARCHED
    inside = (
        cell(parameter["choices"])
        if "choices" in parameter
        else f"{cell(parameter['low'])} to {cell(parameter['high'])}"
    )
    parts = [f"{parameter['type']} {inside}", "log" if parameter.get("log") else ""]
    parts += [f"step {cell(parameter['step'])}" if parameter.get("step") else ""]
    parts += [
        f"when {other} is {cell(values)}" for other, values in parameter.get("when", {}).items()
    ]
    return "; ".join(part for part in parts if part)


def commit_of(made: Mapping[str, Any]) -> str | None:
    commit = made.get("git_commit")
    return f"{commit[:12]}{', changed' if made.get('git_dirty') else ''}" if commit else None


def score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def spread(test: dict[str, Any] | None) -> str:
    """Mean and deviation over seeds."""
    if test is None:
        return "-"
    deviation = "" if test["test_acc_std"] is None else f" ± {test['test_acc_std']:.4f}"
    return f"{test['test_acc']:.4f}{deviation}"


def span(seconds: float | None) -> str:
    return "-" if seconds is None else shown_duration(seconds)
