"""Trains one config with one seed in a Ray worker, for the final script."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.callbacks import LambdaCallback

from training.experiment import build_data, quiet_lightning, train
from training.settings import Settings
from tuning.run import Slots
from tuning.worker.guard import clean_up
from tuning.worker.trainable import as_dataset, limit_memory

SILENT: Settings = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


@dataclass(frozen=True)
class Training:
    """One training of a config.

    Args:
        label: the config's name in messages.
        settings: flat settings with a seed.
        epochs: training ends after this epoch, at least 1.
        weights: None trains on the training data and evaluates on the validation data. A path
            trains on both, and the weights are written there.
    """

    label: str
    settings: Settings
    epochs: int
    weights: Path | None = None

    def __str__(self) -> str:
        return f"{self.label}, seed {self.settings['seed']}"


@dataclass(frozen=True)
class Trained:
    """The result of a training."""

    value: float  # the search's metric; NaN if it was not measured or the training diverged
    diverged: bool  # a weight is not finite
    seconds: float


def train_once(
    training: Training,
    *,
    metric: str,
    slots: Slots,
    images: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
) -> Trained:
    """Train to the given epoch. Raises the errors of `training.experiment.train`.

    Args:
        metric: the search's metric.
        slots: the CPUs and the share of a GPU that training may use.
        images, labels: the training and validation examples, in read-only shared memory.
    """
    start = time.monotonic()
    clean_up()
    quiet_lightning(silent=True)
    limit_memory(slots.gpus)
    settings = training.settings | {"threads": slots.cpus, "gpus": 1 if slots.gpus else 0}
    for name in ("min_epochs", "min_steps"):
        settings.pop(name, None)  # Lightning would go on to these, whatever `should_stop` says
    data = build_data(settings)
    data.trainval = as_dataset(images, labels)
    # One evaluation, after the last epoch: nothing looks at an earlier one.
    flags: Settings = {"check_val_every_n_epoch": training.epochs}
    if training.weights:
        data.fold_validation_in = True
        flags = {"limit_val_batches": 0}
    # `max_epochs` stays as it was in the search, because it is the length of the learning rate
    # schedule. So a callback ends the training.
    stop = LambdaCallback(
        on_train_epoch_end=lambda trainer, _: setattr(
            trainer, "should_stop", trainer.current_epoch + 1 >= training.epochs
        )
    )
    trainer, lit_model = train(
        settings, data, callbacks=[stop], whole_epochs=True, **SILENT | flags
    )
    if training.weights:
        trainer.save_checkpoint(training.weights, weights_only=True)
    value = float(trainer.callback_metrics.get(metric, math.nan))
    diverged = not all(weight.isfinite().all() for weight in lit_model.parameters())
    return Trained(math.nan if diverged else value, diverged, time.monotonic() - start)
