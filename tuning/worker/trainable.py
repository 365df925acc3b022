"""One trial in a Ray worker: an ordinary experiment plus one reporting callback.

A checkpoint stands on disk before the epoch that names it is reported; an older one goes only after
that report has returned.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from text_recognizer.data.util import BaseDataset
from text_recognizer.metrics import METRICS, Objective
from text_recognizer.util import checksum
from training.experiment import build_data, quiet_lightning, train
from training.settings import Settings
from tuning.worker.guard import Report, newest_valid, run_guarded, stall_log

# nobody watches a trial
QUIET: Settings = {"enable_progress_bar": False, "enable_model_summary": False}


@dataclass(frozen=True)
class TrialJob:
    """What all trials of a search have in common; goes to the workers once.

    `stall_limit` is in seconds. `memory_share` is the part of a GPU's memory that a trial may take,
    or None on the CPU.
    """

    settings: Settings
    objective: Objective
    checkpoints: Path
    logs: Path
    stall_limit: float
    memory_share: float | None = None


def run_trial(
    config: dict[str, Any],
    *,
    job: TrialJob,
    images: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
) -> None:
    """The body of a trial. Its epochs and its end are told by `tune.report`; it raises nothing.

    Args:
        config: the searcher's assignment: number, params, and the history to go on from.
        images, labels: the training and validation examples, shared memory that is not to be
            written.
    """
    print(
        first_line_of(config), file=sys.stderr, flush=True
    )  # the log that Ray's dashboard shows first; a worker has many trials
    run_guarded(
        lambda report: train_trial(config, job, images, labels, report),
        folders=(job.checkpoints, job.logs),
        stall_limit=job.stall_limit,
        log=stall_log(job.logs, config["number"]),
    )


def first_line_of(config: dict[str, Any]) -> str:
    """Which trial begins here, or goes on, with its parameters."""
    params = ", ".join(f"{name}={value}" for name, value in config["params"].items())
    goes_on = (
        f", going on after epoch {config['history'][-1]['epoch']}" if config["history"] else ""
    )
    return f"trial {config['number']}: {params}{goes_on}"


def train_trial(
    config: dict[str, Any],
    job: TrialJob,
    images: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    report: Report,
) -> None:
    """Train to the end, unless the scheduler stops it at a report. Raises whatever training
    raises.
    """
    quiet_lightning(silent=True)  # the worker's log is to show the trials
    settings = job.settings | config["params"]
    if job.memory_share and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(job.memory_share)
    data = build_data(settings)
    data.share(as_dataset(images, labels))
    reporter = Reporter(job, config["number"], config["history"], report)
    newest = newest_valid(job.checkpoints, config["history"])
    train(settings, data, callbacks=[reporter], continue_from=newest, whole_epochs=True, **QUIET)


def as_dataset(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> BaseDataset:
    """Tensors over the shared arrays, without a copy."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")  # nothing writes to them
        return BaseDataset(torch.from_numpy(images), torch.from_numpy(labels))


class Reporter(pl.callbacks.Checkpoint):
    """Writes a checkpoint, reports the epoch, then deletes the checkpoints that nobody needs any
    more.

    It is a `Checkpoint` callback because Lightning runs those last, when the epoch's training
    metrics exist.

    Args:
        history: the epochs of this trial that are recorded already.
    """

    def __init__(
        self, job: TrialJob, number: int, history: Sequence[Mapping[str, Any]], report: Report
    ) -> None:
        self.job = job
        self.report = report
        self.folder = job.checkpoints / str(number)
        self.files = {entry["epoch"]: job.checkpoints / entry["checkpoint"] for entry in history}
        self.best: tuple[int, float] | None = None  # epoch, value
        for entry in history:
            self._compare(entry["epoch"], entry["value"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        measured = trainer.callback_metrics
        if self.job.objective.metric not in measured:
            raise ValueError(f"{self.job.objective.metric} was not measured in epoch {epoch}")
        metrics = {name: float(measured.get(name, math.nan)) for name in METRICS}
        path = self._write(trainer, epoch)
        self.report(
            {
                "epoch": epoch,
                **metrics,
                "checkpoint": str(path.relative_to(self.job.checkpoints)),
                "sha256": checksum(path),
            }
        )
        self._compare(epoch, metrics[self.job.objective.metric])
        self._delete_all_but(epoch)

    def _write(self, trainer: pl.Trainer, epoch: int) -> Path:
        """The checkpoint of `epoch`, whole and durable."""
        path = self.folder / f"epoch-{epoch}.ckpt"
        temporary = path.with_suffix(".writing")
        self.folder.mkdir(exist_ok=True)
        try:
            # with the optimizer, to go on from
            trainer.save_checkpoint(temporary, weights_only=False)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)  # half a file would only keep a full disk full
            raise
        self.files[epoch] = path
        return path

    def _compare(self, epoch: int, value: float) -> None:
        if self.job.objective.is_better(value, self.best[1] if self.best else None):
            self.best = (epoch, value)

    def _delete_all_but(self, newest: int) -> None:
        """The newest is for going on, the best for the result."""
        needed = {newest, self.best[0]} if self.best else {newest}
        for epoch in self.files.keys() - needed:
            self.files.pop(epoch).unlink(missing_ok=True)
