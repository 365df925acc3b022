"""The recipe of Ray's documentation for Lightning with Tune: each trial is a `TorchTrainer` of Ray
Train around Lightning's.

The classes are those of `ray_recipe`, which leaves Ray Train out. Since Ray Train's second version
a function that Tune starts builds the trainer and hands its reports on. Ray counts a CPU for each
of the two, and is told of as many: or one trial would run.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import pytorch_lightning as pl
import ray
import torch
from ray import train, tune
from ray.train.lightning import (
    RayDDPStrategy,
    RayLightningEnvironment,
    RayTrainReportCallback,
    prepare_trainer,
)
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from benchmarks.peers.ray_recipe import MNISTClassifier, MNISTDataModule, timed
from benchmarks.task import SLOTS, Task


def train_func(config: dict[str, Any]) -> None:
    """What Ray Train's worker does."""
    task: Task = config["task"]
    torch.set_num_threads(1)
    trainer = pl.Trainer(
        max_epochs=task.epochs,
        devices="auto",
        accelerator="gpu" if task.gpus else "cpu",
        strategy=RayDDPStrategy(),
        callbacks=[RayTrainReportCallback()],
        plugins=[RayLightningEnvironment()],
        enable_progress_bar=False,
    )
    prepare_trainer(trainer).fit(MNISTClassifier(config), MNISTDataModule(task))


def trial(config: dict[str, Any]) -> None:
    """What Tune starts."""
    task: Task = config["task"]
    reporting: Any = TuneReportCallback()  # its type is that of Ray Train's first version
    resources = {"CPU": 1, "GPU": task.gpus} if task.gpus else {"CPU": 1}
    TorchTrainer(
        train_func,
        train_loop_config=config,
        scaling_config=train.ScalingConfig(
            num_workers=1, use_gpu=task.gpus > 0, resources_per_worker=resources
        ),
        run_config=train.RunConfig(storage_path=config["folder"], callbacks=[reporting]),
    ).fit()


def main() -> None:
    """Search."""
    task = Task.from_json(sys.argv[1])
    ray.init(num_cpus=None if task.gpus else 2 * SLOTS, include_dashboard=not task.gpus)
    with tempfile.TemporaryDirectory() as folder:
        space = {
            "fc1": task.fc1,
            "fc2": task.fc2,
            "lr": tune.loguniform(1e-4, 1e-2),
            "task": task,
            "folder": folder,
        }
        tuner = tune.Tuner(
            trial,
            tune_config=tune.TuneConfig(
                metric="ptl/val_accuracy",
                mode="max",
                num_samples=task.trials,
                max_concurrent_trials=SLOTS,
            ),
            run_config=tune.RunConfig(name="tune_mnist", storage_path=folder),
            param_space=space,
        )
        timed(tuner, "timestamp", "ptl/val_accuracy").tell()


if __name__ == "__main__":
    main()
