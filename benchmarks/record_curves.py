"""Keep the learning curves of a recorded grid as a small table: `python benchmarks/record_curves.py
runs/curves`.

The grid is trained by the project's own search:
`python tuning/search.py --space benchmarks/curves.yaml --data-class MNIST --name curves`.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from text_recognizer.command import exit_code_of
from tuning.run.folder import open_run
from tuning.space.reader import read_space
from tuning.study.optuna_record import load_record
from tuning.study.storage import sqlite_url
from tuning.study.study import Study
from tuning.trials.trial import Outcome, Trial

TABLE = Path(__file__).with_name("mnist_mlp_curves.csv")


def main() -> int:
    """Write the table, and say what is in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the folder of the search that trained the grid")
    parser.add_argument(
        "--to", type=Path, default=TABLE, metavar="FILE", help="the table (default: %(default)s)"
    )
    flags = parser.parse_args()
    folder = open_run(flags.run)
    space = read_space(folder.space)
    study = Study(
        load_record(sqlite_url(folder.study), folder.name), space, trials=space.search.trials
    )
    names = list(space.parameters)
    rows = [row(trial, names) for trial in study.trials if trial.outcome == Outcome.COMPLETE]
    epochs = [f"val_acc_{epoch}" for epoch in range(1, space.search.max_epochs + 1)]
    # by their points: a second recording has the same order
    write_table(flags.to, [*names, *epochs, "epoch_s"], sorted(rows))
    print(f"wrote {flags.to}: {len(rows)} curves of {space.search.trials} points")
    return 0


def row(trial: Trial, names: Sequence[str]) -> list[Any]:
    """A trial's point, its validation accuracy after each epoch, and the seconds of a typical
    epoch.

    The time of the first epoch is not known: the record says when an epoch ended, not when the
    trial began.
    """
    seconds = statistics.median(
        after.time - before.time for before, after in pairwise(trial.epochs)
    )
    values = [f"{epoch.metrics['val_acc']:.5f}" for epoch in trial.epochs]
    return [*(trial.params[name] for name in names), *values, f"{seconds:.2f}"]


def write_table(path: Path, head: list[str], rows: list[list[Any]]) -> None:
    """A CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
