"""Compares two runs: says which has the better result, and lists their values side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from text_recognizer.text import shown_path
from tuning.run import Environment, RunInfo
from tuning.space import shown_duration
from tuning.trials import score


@dataclass(frozen=True)
class Row:
    """A value of two runs; None if a run does not have it."""

    what: str
    left: Any
    right: Any

    @property
    def differs(self) -> bool:
        return bool(self.left != self.right)


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side."""

    left: RunInfo
    right: RunInfo

    @property
    def names(self) -> tuple[str, str]:
        """The names of the runs, or their paths if the names are the same."""
        # a run and its copy from another machine have the same name
        if self.left.name == self.right.name:
            return shown_path(self.left.path), shown_path(self.right.path)
        return self.left.name, self.right.name

    def verdict(self) -> str:
        """Say which run has the better result and by how much, or why they cannot be compared."""
        names, a, b = self.names, self.left.summary, self.right.summary
        cannot = "they cannot be compared"
        if not (a and b and a.best and b.best):
            both = zip(names, (a, b), strict=True)
            without = [name for name, summary in both if not (summary and summary.best)]
            return f"{cannot}: there is no best trial in {' and '.join(without)}"
        if a.metric != b.metric:
            return f"{cannot}: {names[0]} is judged by {a.metric}, {names[1]} by {b.metric}"
        if a.data_class != b.data_class:
            return f"{cannot}: {names[0]} is on {a.data_class}, {names[1]} on {b.data_class}"
        # runs may differ in sampler, search space and trials: that is what a user wants to compare
        values = (a.best.value, b.best.value)
        if values[0] == values[1]:
            return f"neither is better: both have {a.metric} {score(values[0])}"
        ordered = sorted(zip(values, names, strict=True), reverse=a.mode == "max")
        (value, name), (other, _) = ordered
        # the difference has two digits: with four decimals 0.00003 would be 0
        return (
            f"{name} is better: {a.metric} {score(value)} against {score(other)}, by "
            f"{abs(value - other):.2g}"
        )

    def rows(self) -> list[Row]:
        """A row for each value, but only for those package versions that differ."""
        # section by section: a value that only one run has stays in its section
        left, right = sections(self.left), sections(self.right)
        rows = [
            Row(what, one.get(what), other.get(what))
            for one, other in zip(left, right, strict=True)
            for what in one | other
        ]
        # a dozen equal versions would hide the values that differ
        return [row for row in rows if row.differs or row.what not in left[-1] | right[-1]]

    def as_plain(self) -> dict[str, Any]:
        """The verdict, both runs and the rows that differ, for a script."""
        return {
            "verdict": self.verdict(),
            "left": self.left.as_plain(),
            "right": self.right.as_plain(),
            "differences": [row for row in self.rows() if row.differs],
        }


def sections(run: RunInfo) -> tuple[dict[str, Any], ...]:
    """The values of a run by their names, in sections; the last one holds the package versions."""
    made = run.environment or Environment()
    # two runs of one commit are not of the same code if its files were changed
    commit = made.git_commit and made.git_commit[:12] + ", changed" * made.git_dirty
    origin = {"git commit": commit, "python": made.python}
    return result_of(run), effort_of(run), settings_of(run), origin, made.versions


def result_of(run: RunInfo) -> dict[str, Any]:
    """The result of a run."""
    values: dict[str, Any] = {"status": run.status}
    if summary := run.summary:
        values |= {
            "ended because": summary.stop_reason,
            "data": summary.data_class,
            "metric": f"{summary.metric} ({summary.mode})",
        }
        if best := summary.best:
            values |= {"best value": best.value, "best trial": best.trial, "best epoch": best.epoch}
            values |= {f"best {name}": value for name, value in best.params.items()}
    if final := run.final:
        values |= {"final test acc": final.test_acc, "final test acc std": final.test_acc_std}
    return values


def effort_of(run: RunInfo) -> dict[str, Any]:
    """The trials, epochs, time and resources that a run took."""
    values: dict[str, Any] = {"trials wanted": run.trials_wanted}
    if summary := run.summary:
        values |= {
            **{
                f"trials {status.replace('_', ' ')}": n for status, n in summary.counts.items() if n
            },
            "epochs trained": summary.epochs_trained,
            "epochs skipped": run.epochs_skipped,
            "wall time": summary.wall_time_s,
            **dict(summary.resources),  # the fields of the model
        }
    return values


def settings_of(run: RunInfo) -> dict[str, Any]:
    """The settings and the search space of a run."""
    if run.space is None:
        return {}
    plain = run.space.as_plain()
    # the first two sections have these already
    shown = ("metric", "mode", "trials", "fixed data_class")
    return {
        prefix + name: value
        for prefix, section in (("", "search"), ("range of ", "space"), ("fixed ", "experiment"))
        for name, value in plain[section].items()
        if prefix + name not in shown
    }


def cell_text(what: str, value: Any) -> str:
    """A value of a run as short text; "-" for None."""
    # `stop: {}` and `start_with: []` are the defaults, and set nothing
    if value in (None, {}, []):
        return "-"
    if what == "wall time":
        return shown_duration(value)
    if what.startswith("range of "):
        return describe_range(value)
    if isinstance(value, float):
        # four digits would show two values alike that the star marks as different
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def describe_range(parameter: Mapping[str, Any]) -> str:
    """Describe the values that a parameter may have, e.g. "int 8 to 64; log".

    Args:
        parameter: one entry of `SearchSpace.as_plain()["space"]`.
    """
    if "choices" in parameter:
        parts = [", ".join(map(str, parameter["choices"]))]
    else:
        parts = [f"{parameter['type']} {parameter['low']} to {parameter['high']}"]
    if parameter.get("log"):
        parts.append("log")
    if parameter.get("step"):
        parts.append(f"step {parameter['step']}")
    for other, needed in parameter.get("when", {}).items():
        parts.append(f"when {other} is {', '.join(map(str, needed))}")
    return "; ".join(parts)
