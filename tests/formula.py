"""A formula in place of training: thousands of epochs in seconds, and every way for a trial to
break. Imports no torch.

`check` closes every test of a fault, in the style of Jepsen: what a trial acknowledged to itself is
in the record.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuning.ray_backend import tune_run
from tuning.ray_backend.local_cluster import Cluster, OwnCluster
from tuning.run.resources import Slots
from tuning.space.reader import read_space
from tuning.space.search_space import SearchSpace
from tuning.study.optuna_record import create_record, load_record
from tuning.study.study import Study
from tuning.trials.trial import Outcome, Trial
from tuning.worker.guard import Report, newest_valid, run_guarded, stall_log

EPOCHS = 9
PEAK = 0.7
SPACE = """
space:
  x: {type: float, low: 0, high: 1}
search:
  trials: 1000
  max_epochs: 9
  asha: {reduction_factor: 3}
"""


def value(x: float, epoch: int) -> float:
    """A learning curve: better near the peak, and with every epoch."""
    return (1 - abs(x - PEAK)) * (1 - 0.5**epoch)


def formula(config: dict[str, Any], *, folder: Path, fault: str = "") -> None:
    """A trial that keeps checkpoints and acknowledges each epoch after its report has returned."""
    log = stall_log(folder / "logs", config["number"])
    limit = 2.0 if fault == "hangs" else 600.0
    run_guarded(lambda report: curve(config, folder, fault, report), stall_limit=limit, log=log)


def curve(config: dict[str, Any], folder: Path, fault: str, report: Report) -> None:
    number, x = config["number"], config["params"]["x"]
    checkpoint = newest_valid(folder, config["history"])
    first = json.loads(checkpoint.read_text())["epoch"] + 1 if checkpoint else 1
    for epoch in range(first, EPOCHS + 1):
        score = break_down(fault, folder, number, epoch, value(x, epoch))
        path = folder / f"{number}-{epoch}.json"
        path.write_text(json.dumps({"epoch": epoch}))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        report({"epoch": epoch, "val_acc": score, "checkpoint": path.name, "sha256": digest})
        with (folder / f"acknowledged-{number}").open("a") as file:
            file.write(
                f"{epoch} {score} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}\n"
            )


def break_down(fault: str, folder: Path, number: int, epoch: int, score: float) -> float:
    """Fail in trial 0 (at the best point there is, so that ASHA never stops it) in epoch 4, or
    give the epoch's value.
    """
    here = number == 0 and epoch == 4
    marker = folder / "broke"
    first = here and not marker.exists()
    if first and fault not in ("", "raises always"):
        marker.touch()
    if fault == "raises once" and first:
        raise ValueError("a bad\nday")
    if fault == "raises always" and here:
        raise ValueError(f"a bad day in process {os.getpid()}")
    if fault == "killed once" and first:
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hangs" and first:
        threading.Event().wait()
    if fault == "out of memory" and here:
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 GiB.")
    if fault == "all alike":
        raise ImportError("no module named torch")
    return float(fault) if fault in ("nan", "inf", "-inf") and here else score


def space_in(folder: Path, first: float | None = None) -> SearchSpace:
    """The formula's search space; `first` is the point that is tried first."""
    path = folder / "space.yaml"
    path.write_text(SPACE if first is None else SPACE + f"  start_with: [{{x: {first}}}]\n")
    return read_space(path)


def search(
    folder: Path,
    url: str,
    fault: str = "",
    *,
    trials: int = 8,
    slots: Slots | None = None,
    retries: int = 1,
) -> Study:
    """A whole search on the cluster that runs; then the checks that hold after any search.
    Returns the record, read anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    space = space_in(folder, PEAK if fault else None)
    study = Study(create_record(url, space, folder.name), space, trials=trials, retries=retries)
    run(study, folder, fault, slots or Slots(2, 1, 0), tune_run.Interrupt())
    recorded = Study(load_record(url, folder.name), space, trials=trials)
    assert str(recorded.trials) == str(study.trials), "what is in memory is what is on disk"
    check(recorded, folder)
    return recorded


def run(
    study: Study,
    folder: Path,
    fault: str,
    slots: Slots,
    interrupt: tune_run.Interrupt,
    cluster: Cluster | None = None,
) -> None:
    """Work on a study until it has no more trials, on a Ray of this process or on the one given."""
    (folder / "logs").mkdir(exist_ok=True)
    tune_run.run_study(
        study,
        formula,
        slots,
        folder / "ray",
        logs=folder / "logs",
        name=folder.name,
        interrupt=interrupt,
        cluster=cluster or OwnCluster(),
        shared={"folder": folder, "fault": fault},
    )


def check(study: Study, folder: Path, *, ended: bool = True) -> None:
    """Nothing acknowledged is lost, no epoch is missing or twice, and every trial has one
    outcome where the search has ended.
    """
    assert [trial.number for trial in study.trials] == list(range(len(study.trials)))
    for trial in study.trials:
        assert trial.outcome is not None or not ended
        recorded = {epoch.epoch: epoch.metrics["val_acc"] for epoch in trial.epochs}
        assert list(recorded) == list(range(1, len(trial.epochs) + 1))
        for epoch, score in acknowledged(folder, trial.number):
            assert recorded[epoch] == score or math.isnan(score), (
                "an epoch run again has the value it had"
            )


def acknowledged(folder: Path, number: int) -> list[tuple[int, float]]:
    """The epochs that a trial knows to be recorded, and their values. A line that a kill tore is
    no acknowledgement.
    """
    path = folder / f"acknowledged-{number}"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [(int(line.split()[0]), float(line.split()[1])) for line in lines]


def outcomes(study: Study) -> dict[str, int]:
    """How many trials ended in each way that occurred."""
    return {
        outcome: n
        for outcome in Outcome
        if (n := sum(trial.outcome == outcome for trial in study.trials))
    }


def measured(trials: Sequence[Trial]) -> list[tuple[Any, ...]]:
    """What does not depend on the clock: parameters, outcomes and values."""
    return [
        (trial.params, trial.outcome, [epoch.metrics for epoch in trial.epochs]) for trial in trials
    ]
