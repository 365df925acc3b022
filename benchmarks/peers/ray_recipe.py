"""Ray's own recipe for Lightning with Tune, as its documentation and the example it ships
(`mnist_ptl_mini.py`) teach it.

A function trainable builds a LightningModule with torchmetrics logged at each step and a DataModule
of torchvision's MNIST with a transform for each sample; `TuneReportCheckpointCallback` reports and
saves after each validation. Only the network is this project's, so that all that are compared train
the same, and what the example has left of Lightning 1 is brought up to date.
"""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

import pytorch_lightning as pl
import ray
import torch
from ray import tune
from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, random_split
from torchmetrics import Accuracy
from torchvision import transforms
from torchvision.datasets import MNIST

from benchmarks.task import SLOTS, Done, Task
from text_recognizer.models.mlp import MLP


class MNISTDataModule(pl.LightningDataModule):
    """55,000 images to train on, 5,000 to validate; each is made a normalised tensor whenever it
    is read.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def setup(self, stage: str | None = None) -> None:
        transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
        )
        mnist = MNIST(self.task.data_dir, train=True, transform=transform)
        self.training, self.validation = random_split(mnist, [55_000, 5_000])

    def train_dataloader(self) -> Any:
        return DataLoader(self.training, batch_size=self.task.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.validation, batch_size=self.task.batch_size)


class MNISTClassifier(pl.LightningModule):
    """Logs loss and accuracy of every step, as the example does."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.network = MLP((1, 28, 28), 10, fc1=config["fc1"], fc2=config["fc2"])
        self.lr = config["lr"]
        self.accuracy = Accuracy(task="multiclass", num_classes=10, top_k=1)

    def forward(self, images: Tensor) -> Any:
        return self.network(images)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.lr)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss = cross_entropy(logits, labels)
        self.log("ptl/train_loss", loss)
        self.log("ptl/train_accuracy", self.accuracy(logits, labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = self(images)
        self.log("ptl/val_loss", cross_entropy(logits, labels))
        self.log("ptl/val_accuracy", self.accuracy(logits, labels))


class Timed(TuneReportCheckpointCallback):
    """The recipe's callback; the time of a report travels with it."""

    def _get_report_dict(self, trainer: Any, pl_module: Any) -> Any:
        found = super()._get_report_dict(trainer, pl_module)
        return found and found | {"time": time.time()}


def train_mnist(config: dict[str, Any], task: Task) -> None:
    """The trainable."""
    torch.set_num_threads(1)
    trainer = pl.Trainer(
        max_epochs=task.epochs,
        accelerator="gpu" if task.gpus else "cpu",
        enable_progress_bar=False,
        callbacks=[Timed({"loss": "ptl/val_loss", "acc": "ptl/val_accuracy"}, on="validation_end")],
    )
    trainer.fit(MNISTClassifier(config), MNISTDataModule(task))


def main() -> None:
    """Search."""
    task = Task.from_json(sys.argv[1])
    ray.init(num_cpus=None if task.gpus else SLOTS, include_dashboard=task.dashboard)
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(train_mnist, task=task), {"cpu": 1, "gpu": task.gpus}
            ),
            tune_config=tune.TuneConfig(metric="acc", mode="max", num_samples=task.trials),
            run_config=tune.RunConfig(name="tune_mnist", storage_path=folder),
            param_space={"fc1": task.fc1, "fc2": task.fc2, "lr": tune.loguniform(1e-4, 1e-2)},
        )
        timed(tuner, "time", "acc").tell()


def timed(tuner: tune.Tuner, moment: str, accuracy: str) -> Done:
    """Run it; `moment` and `accuracy` are what a report calls its time and its validation
    accuracy.
    """
    begin = time.time()
    found = tuner.fit()
    end = time.time()
    curves: list[Any] = [found[trial].metrics_dataframe for trial in range(len(found))]
    best = max(float(curve[accuracy].max()) for curve in curves)
    return Done(begin, end, [[float(value) for value in curve[moment]] for curve in curves], best)


if __name__ == "__main__":
    main()
