"""Keep the learning curves of a run as a small table, for a task of the suite `short`:
`python -m benchmarks.search.record runs/NAME benchmarks/curves/NAME.csv`.

The run is a search of the project with random points (or a grid as `start_with`) and no scheduler;
its space stands beside the table as `NAME.yaml`.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

from text_recognizer.command import exit_code_of
from tuning.run import open_run
from tuning.space import read_space
from tuning.study import Study, open_study
from tuning.trials import Outcome, Trial


def main() -> int:
    """Write the table, and say what is in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the folder of the search")
    parser.add_argument("to", type=Path, help="the table")
    flags = parser.parse_args()
    folder = open_run(flags.run)
    space = read_space(folder.space)
    trials = Study(open_study(folder), space, trials=space.search.trials).trials
    names, metric = list(space.parameters), space.search.metric
    epochs = [f"{metric}_{epoch}" for epoch in range(1, space.search.max_epochs + 1)]
    whole = [trial for trial in trials if trial.outcome == Outcome.COMPLETE]
    with flags.to.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, *epochs])
        # by their points: a second recording has the same order
        writer.writerows(sorted(row(trial, names, metric) for trial in whole))
    print(f"wrote {flags.to}: {len(whole)} curves of {len(trials)} trials")
    return 0


def row(trial: Trial, names: list[str], metric: str) -> list[Any]:
    """A trial's point, and its value after each epoch."""
    values = [f"{epoch.metrics[metric]:.5f}" for epoch in trial.epochs]
    return [*(trial.params[name] for name in names), *values]


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
