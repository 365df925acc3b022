"""Trains a whole epoch in one training step of Lightning: the same weights in less time."""

# What Lightning does around a training step is a third of a small network's epoch: an MLP 128-64 on
# MNIST takes 0.97 s an epoch in a bare loop, 1.5 s in single steps and 1.05 s here (one core,
# docs/decisions.md). So Lightning is handed an epoch as one batch, the iterator of its batches, and
# the model takes all optimizer steps in one `training_step`. The weights are the same bit by bit.

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

from text_recognizer.data.base_data_module import BaseDataModule
from text_recognizer.data.util import Batch, BatchLoader

# The Trainer flags that do not depend on single steps. Any other flag may: autocast, for one, keeps
# cast weights for the time of a step.
FLAGS_WITHOUT_STEPS = {
    "accelerator",
    "benchmark",
    "check_val_every_n_epoch",
    "default_root_dir",
    "deterministic",
    "devices",
    "enable_checkpointing",
    "enable_model_summary",
    "enable_progress_bar",
    "limit_val_batches",
    "max_epochs",
    "min_epochs",
    "num_sanity_val_steps",
}


def with_whole_epochs(
    lit_model: pl.LightningModule, data: BaseDataModule, flags: Iterable[str]
) -> pl.LightningDataModule:
    """Prepare a model for whole epochs, and return the data module to train it with.

    Args:
        lit_model: its `training_step` calls `train_epoch` with an iterator of batches, and it asks
            `training_steps` for the length of a schedule.
        flags: the names of the Trainer flags in use. Where one of them may need single steps,
            nothing changes.
    """
    if not FLAGS_WITHOUT_STEPS.issuperset(flags):
        return data
    lit_model.automatic_optimization = False
    return EpochData(data)


def train_epoch(lit_model: pl.LightningModule, batches: Iterator[Batch]) -> None:
    """Take the optimizer steps of an epoch, in the order of single steps."""
    # Lightning's own optimizer wrapper costs 0.1 ms a step, and the optimizer's `zero_grad` 0.08.
    optimizer: Any = lit_model.optimizers(use_pl_optimizer=False)
    schedule: Any = lit_model.lr_schedulers()
    progress = lit_model.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    for index, batch in enumerate(batches):
        loss: Any = lit_model.training_step(batch, index)
        lit_model.zero_grad()
        loss.backward()
        optimizer.step()
        progress.increment_completed()  # `trainer.global_step` reads it
        if schedule:
            schedule.step()


def training_steps(trainer: pl.Trainer) -> float:
    """The optimizer steps of the whole training; infinite if it has no given end."""
    steps = trainer.estimated_stepping_batches
    loader = trainer.train_dataloader  # which the line before may have set up
    return steps * len(loader.loader) if isinstance(loader, EpochLoader) else steps


class EpochData(pl.LightningDataModule):
    """A data module that serves a training epoch as one batch."""

    def __init__(self, data: BaseDataModule) -> None:
        super().__init__()
        self.data = data

    def setup(self, stage: str) -> None:
        # The order of an epoch and the device of the batches come from the trainer.
        self.data.trainer = self.trainer

    def train_dataloader(self) -> EpochLoader:
        return EpochLoader(self.data, self.data.train_dataloader())

    def val_dataloader(self) -> BatchLoader:
        return self.data.val_dataloader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch if isinstance(batch, Iterator) else self.data.prepared(batch)


@dataclass(eq=False)
class EpochLoader:
    """A loader with one batch: the iterator of the prepared batches of an epoch."""

    data: BaseDataModule
    loader: BatchLoader

    def __len__(self) -> int:
        return 1  # Lightning counts steps by it, see `training_steps`

    def __iter__(self) -> Iterator[Iterator[Batch]]:
        yield map(self.data.prepared, self.loader)
