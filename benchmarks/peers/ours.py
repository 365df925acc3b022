"""This project's search: the command itself, as a user calls it, dashboard, report and
checkpoints included.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.task import SLOTS, Done, Task
from text_recognizer.command import leave
from tuning import search
from tuning.run.folder import open_run
from tuning.run.listing import read_run_space
from tuning.study.optuna_record import open_study, own_trials

SPACE = """
experiment: {{model_class: MLP, data_class: MNIST, data_dir: "{data_dir}", fc1: {fc1}, fc2: {fc2}, batch_size: {batch_size}}}
space: {{lr: {{type: float, low: 1e-4, high: 1e-2, log: true}}}}
search: {{trials: {trials}, max_epochs: {epochs}, scheduler: none}}
"""


def main() -> None:
    """Search, with a clock around the part that `Tuner.fit` is."""
    task = Task.from_json(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder) / "space.yaml"
        space.write_text(SPACE.format(**vars(task)))
        times = timed_fit()
        flags = [
            "--space",
            str(space),
            "--runs-dir",
            folder,
            "--name",
            "bench",
            "--gpus-per-trial",
            str(task.gpus),
        ]
        flags += [] if task.dashboard else ["--no-dashboard"]
        flags += [] if task.gpus else ["--max-concurrent", str(SLOTS)]
        code = search.main(flags)
        assert code == 0, f"the search ended with {code}"
        run = open_run(Path(folder) / "bench")
        found, record = read_run_space(run), open_study(run)
        trials = own_trials(record, found.search.objective)
    epochs = [[epoch.time for epoch in trial.epochs] for trial in trials]
    best = max(epoch.metrics["val_acc"] for trial in trials for epoch in trial.epochs)
    Done(times[0], times[1], epochs, best).tell()


def timed_fit() -> list[float]:
    """A list to which the begin and the end of the search are added when it runs."""
    from tuning.tuner import tuner

    times: list[float] = []
    run_trials = tuner.run_trials

    def timed(*args: Any, **kwargs: Any) -> None:
        times.append(time.time())
        run_trials(*args, **kwargs)
        times.append(time.time())

    tuner.run_trials = timed
    return times


if __name__ == "__main__":
    main()
    leave(0)
