"""Simulations as Markdown: mean regret, and paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.search.simulation import BUDGETS
from benchmarks.search.tasks import SUITES, Floats, tasks

DRAWS = 4000
ALL = "all suites"
Record = Mapping[str, Any]
Regrets = dict[tuple[str, int], Floats]  # (task, seed) -> regret at each budget


def report(records: Sequence[Record], command: str) -> str:
    """All of it: a section for each suite and number of slots."""
    lines = ["# Search policies, simulated", "", f"Last command: `{command}`.", *explanation()]
    suites = [suite for suite in SUITES if any(record["suite"] == suite for record in records)]
    for slots in sorted({record["slots"] for record in records}):
        here = [record for record in records if record["slots"] == slots]
        for suite in [ALL, *suites] if len(suites) > 1 else suites:
            chosen = [record for record in here if suite in (ALL, record["suite"])]
            if chosen:
                lines += section(f"## {suite}, {slots} at once", chosen)
    return "\n".join(lines)


def explanation() -> list[str]:
    """What the tables say."""
    budgets = ", ".join(map(str, BUDGETS))
    return [
        "",
        "Regret in % = (best known - best seen) / (best known - median of random points), after",
        f"{budgets} full trainings' worth of epochs of all slots; mean over tasks and seeds.",
        "In brackets the 95 % interval by bootstrap over the seeds of each task, after ± its",
        "half-width, then in how many percent of the pairs (same task and seed) it is better /",
        "worse. Configs, trainings to the last epoch and CPU seconds (of the process) are means of",
        f"whole simulations, {max(BUDGETS)} full trainings' worth.",
        "",
    ]


def section(title: str, records: Sequence[Record]) -> list[str]:
    """The tables of one suite and number of slots."""
    by_arm: dict[str, list[Record]] = {}
    for record in records:
        by_arm.setdefault(record["arm"], []).append(record)
    regrets = {arm: regrets_of(found) for arm, found in by_arm.items()}
    ordered = sorted(by_arm, key=lambda arm: interval(regrets[arm])[0][-1])  # least regret first
    rows = [
        [arm, *cells(regrets[arm]), *means(by_arm[arm]), str(len(by_arm[arm]))] for arm in ordered
    ]
    head = ["arm", *(f"regret at {budget}" for budget in BUDGETS)]
    lines = [title, "", *markdown([*head, "configs", "full", "CPU s", "runs"], rows)]
    for base in ("stock", "ours"):
        rows = [
            [arm, *differences(regrets[arm], regrets[base])]
            for arm in ordered
            if arm != base and base in by_arm and regrets[arm].keys() & regrets[base].keys()
        ]
        if rows:
            lines += markdown([f"minus {base}", *(f"at {budget}" for budget in BUDGETS)], rows)
    return lines


def regrets_of(records: Iterable[Record]) -> Regrets:
    """The regret of each simulation at each budget, in percent."""
    return {
        (record["task"], record["seed"]): np.array(
            [tasks(record["suite"])[record["task"]].regret(value) for value in record["best"]]
        )
        for record in records
    }


def means(records: Sequence[Record]) -> list[str]:
    """Configs, full trainings and CPU seconds."""
    return [
        f"{np.mean([record[name] for record in records]):.{digits}f}"
        for name, digits in (("configs", 0), ("full", 1), ("cpu", 1))
    ]


def cells(regrets: Regrets) -> list[str]:
    """Means with their intervals, for each budget."""
    mean, low, high = interval(regrets)
    return [f"{mean[i]:.1f} [{low[i]:.1f}, {high[i]:.1f}]" for i in range(len(BUDGETS))]


def differences(regrets: Regrets, base: Regrets) -> list[str]:
    """Paired differences in the mean, for each budget."""
    pairs = {key: regrets[key] - base[key] for key in regrets if key in base}
    mean, low, high = interval(pairs)
    values = np.array(list(pairs.values()))
    better, worse = (100 * (values < 0).mean(axis=0), 100 * (values > 0).mean(axis=0))
    return [
        f"{mean[i]:+.1f} [{low[i]:+.1f}, {high[i]:+.1f}] ± {(high[i] - low[i]) / 2:.1f}, "
        f"{better[i]:.0f} / {worse[i]:.0f}"
        for i in range(len(BUDGETS))
    ]


def interval(values: Regrets) -> tuple[Floats, Floats, Floats]:
    """Mean over tasks of the mean over seeds, and its 95 % bootstrap interval, for each budget.

    Seeds are drawn within each task: the tasks are all there are, and stay.
    """
    by_task: dict[str, list[Floats]] = {}
    for (task, _), found in values.items():
        by_task.setdefault(task, []).append(found)
    rng = np.random.default_rng(0)
    draws = np.zeros((DRAWS, len(BUDGETS)))
    for seeds in by_task.values():
        stacked = np.array(seeds)
        chosen = rng.integers(len(seeds), size=(DRAWS, len(seeds)))
        draws += stacked[chosen].mean(axis=1) / len(by_task)
    mean = np.mean([np.mean(seeds, axis=0) for seeds in by_task.values()], axis=0)
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    return mean, low, high


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table and a blank line."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines] + [""]
