"""A formula in place of training: thousands of epochs in seconds, and every fault of a trial.
Imports no torch.

Every test of a fault ends with `check`, in the style of Jepsen: every epoch that a trial
acknowledged must be in the record.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler

from tuning.ray_backend.local_cluster import Cluster, OwnCluster
from tuning.ray_backend.scheduler import RecordingScheduler
from tuning.ray_backend.signals import Interruptions
from tuning.ray_backend.tune_run import run_trials
from tuning.run.folder import RunFolder
from tuning.run.options import Options
from tuning.run.resources import Slots
from tuning.space.reader import read_space
from tuning.space.search_space import SearchSpace
from tuning.study.optuna_record import create_record, load_record
from tuning.study.search import Search
from tuning.study.study import Study
from tuning.trials.trial import Outcome, Trial
from tuning.worker.guard import Report, newest_valid, run_guarded, stall_log, trial_log

EPOCHS = 9
PEAK = 0.7
NOT_FINITE = ("nan", "inf", "-inf")
SPACE = """
space:
  x: {type: float, low: 0, high: 1}
search:
  trials: 1000
  max_epochs: 9
  asha: {type: promotion, reduction_factor: 3}
"""


def value(x: float, epoch: int) -> float:
    """A learning curve: better near the peak, and with every epoch."""
    return (1 - abs(x - PEAK)) * (1 - 0.5**epoch)


def formula(config: dict[str, Any], *, folder: Path, faults: Sequence[str] = ()) -> None:
    """A trial that keeps checkpoints and acknowledges each epoch after its report has returned.

    Args:
        faults: what happens to the first trials, by their numbers.
    """
    number = config["number"]
    fault = faults[number] if number < len(faults) else ""
    limit = 2.0 if fault == "hangs" else 600.0
    run_guarded(
        lambda report: curve(config, folder, fault, report),
        stall_limit=limit,
        log=stall_log(folder / "logs", number),
        failure_log=trial_log(folder / "logs", number),
    )


def curve(config: dict[str, Any], folder: Path, fault: str, report: Report) -> None:
    """Each epoch's value, checkpoint and acknowledgement.

    Trials with a fault have the value of the peak: ASHA does not stop a trial that ties.
    """
    number, x = config["number"], PEAK if fault else config["params"]["x"]
    checkpoint = newest_valid(folder, config["history"])
    first = json.loads(checkpoint.read_text())["epoch"] + 1 if checkpoint else 1
    for epoch in range(first, EPOCHS + 1):
        score = value(x, epoch)
        if fault in NOT_FINITE and epoch == 3:
            score = float(fault)
        elif fault and epoch == (1 if fault == "alike" else 4):
            break_down(fault, folder / f"broke-{number}")
        path = folder / f"{number}-{epoch}.json"
        path.write_text(json.dumps({"epoch": epoch}))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        report({"epoch": epoch, "val_acc": score, "checkpoint": path.name, "sha256": digest})
        with (folder / f"acknowledged-{number}").open("a") as file:
            gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            file.write(f"{epoch} {score} {os.getpid()} {gpus}\n")


def break_down(fault: str, marker: Path) -> None:
    """Fail in this way; what happens once leaves the marker, and does not happen again."""
    first = not marker.exists()
    marker.touch()
    match fault:
        case "raises once" if first:
            raise ValueError("a bad\nday")
        case "raises always":
            raise ValueError(f"a bad day in process {os.getpid()}")
        case "killed once" if first:
            os.kill(os.getpid(), signal.SIGKILL)
        case "hangs":
            threading.Event().wait()
        case "out of memory":
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 GiB.")
        case "poisons its GPU" if first:
            import torch

            one = torch.ones(1, dtype=torch.int64, device="cuda")
            one[one].item()  # an index out of range: no later call of this process works
        case "alike":
            raise ImportError("no module named torch")


def space_in(folder: Path, asha: str = "promotion") -> SearchSpace:
    """The formula's search space."""
    path = folder / "space.yaml"
    path.write_text(SPACE.replace("promotion", asha))
    return read_space(path)


def search(
    folder: Path,
    url: str,
    *,
    trials: int,
    slots: Slots | None = None,
    faults: Sequence[str] = (),
    asha: str = "promotion",
) -> Study:
    """A whole search on the cluster that runs; then the checks that hold after any search.
    Returns the record, read anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    space = space_in(folder, asha)
    study = Study(create_record(url, space, folder.name), space, trials=trials)
    run(study, folder, slots or Slots(2, 1, 0), Interruptions(), faults=faults)
    recorded = Study(load_record(url, folder.name), space, trials=trials)
    assert str(recorded.trials) == str(study.trials), "what is in memory is what is on disk"
    check(recorded, folder)
    return recorded


def run(
    study: Study,
    folder: Path,
    slots: Slots,
    interruptions: Interruptions,
    *,
    cluster: Cluster | None = None,
    faults: Sequence[str] = (),
) -> None:
    """Work on a study until it has no more trials, on a Ray of this process or on the one given."""
    (folder / "logs").mkdir(exist_ok=True)
    shared = {"folder": folder, "faults": faults}
    run_trials(
        search_of(study, folder, slots), formula, shared, cluster or OwnCluster(), interruptions
    )
    if interruptions.number is None and not study.suspended:
        study.close_all()  # as the tuner does, when it hands over the result


def search_of(study: Study, folder: Path, slots: Slots) -> Search:
    """A search without data: the formula needs none."""
    folders = RunFolder(folder)
    return Search(folder.name, study.space, Options(), folders, study, slots, data=None)  # type: ignore[arg-type]


def search_without_ray(study: Study, train: Callable[[Trial], Iterable[dict[str, Any]]]) -> None:
    """The same search with one slot and no Ray: each trial ends before the next begins.

    Args:
        train: gives the results that a trial would report, epoch by epoch.
    """
    scheduler = RecordingScheduler(study)
    while trial := study.next_trial():
        tune_trial: Any = SimpleNamespace(config={"number": trial.number})
        scheduler.on_trial_add(None, tune_trial)
        for result in train(trial):
            if scheduler.on_trial_result(None, tune_trial, result) == TrialScheduler.STOP:
                break
    study.close_all()


def check(study: Study, folder: Path, *, ended: bool = True) -> None:
    """Check that no acknowledged epoch is lost and none is missing or recorded twice. If the search
    has `ended`, every trial must have an outcome.
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
    """(epoch, value) of the epochs that a trial acknowledged. An incomplete last line does not count."""
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
    """Everything that does not depend on the clock: parameters, outcomes and values."""
    return [
        (trial.params, trial.outcome, [epoch.metrics for epoch in trial.epochs]) for trial in trials
    ]
