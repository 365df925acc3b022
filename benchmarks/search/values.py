"""Measure best known value and median of LCBench's tasks: `python -m benchmarks.search.values`.

Of 20,000 random points each, a function of the task's name. Ten minutes; writes `values.json`.
A table's values are those of the table, and need no file.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from benchmarks.search.tasks import VALUES, Task, sample, tasks
from text_recognizer.command import exit_code_of
from text_recognizer.seeds import seed_of

POINTS = 20_000


def measure(task: Task) -> tuple[float, float]:
    """(best value of all, median of each point's best value)."""
    rng, curve = np.random.default_rng(seed_of("values", task.name)), task.curves()
    best = [curve(sample(task.space, rng)).max() for _ in range(POINTS)]
    return round(max(best), 6), round(float(np.median(best)), 6)


def main() -> int:
    """Write the values of all tasks."""
    found = {}
    for task in (tasks("lcbench") | tasks("lcbench-odd")).values():
        found[task.name] = measure(task)
        print(task.name, *found[task.name], flush=True)
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(pair)}" for name, pair in found.items())
    VALUES.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
