"""One trial in a Ray worker: an ordinary experiment plus one reporting callback.

A checkpoint is on disk before the epoch that names it is reported. An older one is deleted only
after that report has returned.
"""

import math
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from text_recognizer.atomic import checksum
from text_recognizer.data.util import BaseDataset
from text_recognizer.devices import hide_gpus
from text_recognizer.errors import ensure
from text_recognizer.metrics import METRICS, Objective
from training.experiment import build_data, quiet_lightning, train
from training.settings import Settings
from tuning.worker.guard import Report, newest_valid, run_guarded, stall_log, trial_log

# What a process with CUDA takes of a GPU beside torch's tensors, and torch's cap does not count:
# 0.65 GB before the first kernel, and 0.86 after a training (H200, torch 2.11).
CONTEXT_BYTES = 0.9e9


@dataclass(frozen=True)
class TrialJob:
    """What all trials of a search share. It goes to the workers once.

    Args:
        checkpoints: the folder with a folder for each trial's checkpoints.
        logs: where failing trials write their causes, and hanging ones their stacks.
        stall_limit: seconds without a report after which a trial ends.
        memory_share: the part of a GPU's memory that a trial may take; 0 on the CPU.
    """

    settings: Settings
    objective: Objective
    checkpoints: Path
    logs: Path
    stall_limit: float
    memory_share: float = 0


def run_trial(
    config: dict[str, Any],
    *,
    job: TrialJob,
    images: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
) -> None:
    """The body of a trial. It reports its epochs and its end by `tune.report`, and raises nothing.

    Args:
        config: the searcher's assignment: number, params, and the history to continue from.
        images, labels: the training and validation examples, in shared memory: not to be written.
    """
    # Ray's dashboard opens the log of stderr first, and a reused worker runs many trials.
    params = ", ".join(f"{name}={value}" for name, value in config["params"].items())
    history = config["history"]
    goes_on = f", going on after epoch {history[-1]['epoch']}" if history else ""
    print(f"trial {config['number']}: {params}{goes_on}", file=sys.stderr, flush=True)
    run_guarded(
        lambda report: train_trial(config, job, as_dataset(images, labels), report),
        folders=(job.checkpoints, job.logs),
        stall_limit=job.stall_limit,
        log=stall_log(job.logs, config["number"]),
        failure_log=trial_log(job.logs, config["number"]),
    )


def train_trial(config: dict[str, Any], job: TrialJob, data: BaseDataset, report: Report) -> None:
    """Train to the end, unless the scheduler stops the trial at a report. Raises whatever training
    raises.
    """
    quiet_lightning(silent=True)  # its advice would drown the trials' own lines in the log
    settings = job.settings | config["params"]
    limit_memory(job.memory_share)
    module = build_data(settings)
    module.trainval = data  # instead of reading the files again
    train(
        settings,
        module,
        callbacks=[Reporter(job, config["number"], config["history"], report)],
        continue_from=newest_valid(job.checkpoints, config["history"]),
        whole_epochs=True,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def limit_memory(share: float) -> None:
    """Cap the part of a GPU's memory that torch takes: Ray only books a share.

    Args:
        share: 0 hides the GPUs. Ray does not, and Lightning would begin a context on each of them
            for the state of their random numbers.

    Raises:
        InputError: the share is too small.
    """
    if not share:
        hide_gpus()
    elif torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(share_of_torch(share, total))


def share_of_torch(share: float, total: float) -> float:
    """The part of a GPU's memory that torch may take for tensors.

    Args:
        share: of the GPU, for the whole process.
        total: bytes of the GPU's memory.

    Raises:
        InputError: nothing is left beside the CUDA context.
    """
    least = CONTEXT_BYTES / total
    rule = f"gpus-per-trial > {least:.3g}, a CUDA context's part of {total / 1e9:.0f} GB"
    ensure("--gpus-per-trial", rule, share, share > least)
    return share - least


def as_dataset(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> BaseDataset:
    """Tensors over the shared arrays, without a copy; the same ones for all trials of a worker, so
    that they have one copy on a device.
    """
    key = (images.ctypes.data, labels.ctypes.data)
    if key not in shared_datasets:
        shared_datasets.clear()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable.*")  # nothing writes to them
            # The tensors keep the arrays alive. So no others come to lie at these addresses.
            shared_datasets[key] = BaseDataset(torch.from_numpy(images), torch.from_numpy(labels))
    return shared_datasets[key]


shared_datasets: dict[tuple[int, int], BaseDataset] = {}  # at most one: by the arrays' addresses


class Reporter(pl.callbacks.Checkpoint):
    """Writes a checkpoint, reports the epoch, then deletes the checkpoints that are not needed.

    It is a `Checkpoint` callback because Lightning runs those last: before, the epoch's training
    metrics do not exist.

    Args:
        history: the recorded epochs of the trial, which have checkpoints. New ones are added, so
            that a second attempt goes on from them.
    """

    def __init__(
        self, job: TrialJob, number: int, history: list[dict[str, Any]], report: Report
    ) -> None:
        self.job = job
        self.report = report
        self.history = history
        self.folder = job.checkpoints / str(number)
        self.files = {entry["epoch"]: job.checkpoints / entry["checkpoint"] for entry in history}
        self.best_epoch: int | None = None
        self.best_value: float | None = None
        for entry in history:
            self._compare(entry["epoch"], entry["value"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch, metric = trainer.current_epoch + 1, self.job.objective.metric
        measured = trainer.callback_metrics
        if metric not in measured:
            raise ValueError(f"{metric} was not measured in epoch {epoch}")
        # Numbers of Python: Ray would send tensors with their device.
        metrics = {name: float(measured.get(name, math.nan)) for name in METRICS}
        path = self.files[epoch] = self.folder / f"epoch-{epoch}.ckpt"
        self.folder.mkdir(exist_ok=True)
        trainer.save_checkpoint(path, weights_only=False)  # with the optimizer's state
        written = {
            "epoch": epoch,
            "checkpoint": str(path.relative_to(self.job.checkpoints)),
            "sha256": checksum(path),
        }
        self.report(metrics | written)  # the driver commits the epoch before this returns
        self.history.append(written | {"value": metrics[metric]})
        self._compare(epoch, metrics[metric])
        # The newest is kept to continue from, and the best for the result.
        for other in self.files.keys() - {epoch, self.best_epoch}:
            self.files.pop(other).unlink(missing_ok=True)

    def _compare(self, epoch: int, value: float) -> None:
        if self.job.objective.is_better(value, self.best_value):
            self.best_epoch, self.best_value = epoch, value
