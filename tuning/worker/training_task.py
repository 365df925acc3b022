"""One training of a config with one seed, in a Ray worker; what `tuning/retrain.py` is made of."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from training.experiment import build_data, quiet_lightning, train
from training.settings import Settings
from tuning.verification.evaluation import SILENT, save_weights
from tuning.worker.trainable import as_dataset

# settings that would keep Lightning from ending at the best epoch
NO_LEAST = ("min_epochs", "min_steps")


@dataclass(frozen=True)
class Training:
    """What a worker is to do.

    `weights` is where the weights go after a training on training and validation examples; None is
    a training on the training examples alone, which is judged on the validation examples.
    """

    label: str
    seed: int
    settings: Settings
    epochs: int
    weights: Path | None = None

    def __str__(self) -> str:
        return f"{self.label}, seed {self.seed}"


@dataclass(frozen=True)
class Trained:
    """What came of it. `value` is the search's metric, NaN where nothing was judged; `sound`
    that all weights are finite.
    """

    value: float
    sound: bool
    seconds: float


def train_once(
    training: Training,
    *,
    metric: str,
    memory_share: float | None,
    images: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
) -> Trained:
    """Train to the given epoch. Raises whatever training raises.

    Args:
        memory_share: the part of the GPU's memory that it may take, or None on the CPU.
        images, labels: the training and validation examples, shared memory that is not to be
            written.
    """
    start = time.monotonic()
    quiet_lightning(silent=True)
    if memory_share and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(memory_share)
    data = build_data(training.settings)
    data.share(as_dataset(images, labels))
    # at the end only: it changes nothing of the training
    judging: Settings = {"check_val_every_n_epoch": training.epochs}
    if training.weights:
        data.train_on_validation_too()
        judging = {"limit_val_batches": 0}
    settings = {name: value for name, value in training.settings.items() if name not in NO_LEAST}
    trainer, lit_model = train(
        settings,
        data,
        callbacks=[stop_after(training.epochs)],
        whole_epochs=True,
        **SILENT | judging,
    )
    if training.weights:
        save(trainer, training.weights)
    value = float(trainer.callback_metrics.get(metric, math.nan))
    sound = all(bool(weight.isfinite().all()) for weight in lit_model.parameters())
    return Trained(value, sound, time.monotonic() - start)


def stop_after(epochs: int) -> pl.Callback:
    """Ends training there, while the learning rate schedule keeps the length it had in the
    search.
    """
    return pl.callbacks.LambdaCallback(
        on_train_epoch_end=lambda trainer, _: setattr(
            trainer, "should_stop", trainer.current_epoch + 1 >= epochs
        )
    )


def save(trainer: pl.Trainer, target: Path) -> None:
    """What it takes to predict, without the optimizer's state."""
    whole = target.with_suffix(".training")
    trainer.save_checkpoint(whole, weights_only=True)
    save_weights(whole, target)
    whole.unlink()
