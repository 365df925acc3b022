"""Training and judging a classifier: loss, metrics, optimizer, learning rate schedule."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator
from math import inf
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import OneCycleLR

from text_recognizer.data.base_data_module import DataConfig
from text_recognizer.data.util import Batch
from text_recognizer.errors import ensure, ensure_range, unknown
from text_recognizer.whole_epochs import train_epoch, training_steps

OPTIMIZERS: dict[str, type[Optimizer]] = {cls.__name__: cls for cls in (Adam, AdamW, SGD, RMSprop)}
SUMMED_AT_ONCE = 64  # batches; summing each by itself takes 0.1 ms, a fifth of a small step


class BaseLitModel(pl.LightningModule):
    """Cross-entropy training of a classifier, with loss and accuracy logged once an epoch.

    Args:
        model: maps (batch, channels, height, width) floats to (batch, classes) logits.
        data_config: describes the model's input; kept in its checkpoints.
        settings: the experiment's flat settings; kept in its checkpoints, so that nothing else is
            needed to load them.
        optimizer: one of `OPTIMIZERS`.
        lr: learning rate, above 0; the highest one if `one_cycle` is on.
        weight_decay: at least 0; None leaves torch's default.
        momentum: in [0, 1), for an optimizer that has it; None leaves torch's default.
        one_cycle: one learning rate cycle over all of training, a step per batch (Smith and Topin,
            2018).

    Raises:
        InputError: an argument is out of its range, or the optimizer does not take it.
    """

    def __init__(
        self,
        model: nn.Module,
        data_config: DataConfig,
        settings: dict[str, Any] | None = None,
        *,
        optimizer: str = "Adam",
        lr: float = 1e-3,
        weight_decay: float | None = None,
        momentum: float | None = None,
        one_cycle: bool = False,
    ) -> None:
        if optimizer not in OPTIMIZERS:
            raise unknown("optimizer", optimizer, OPTIMIZERS)
        ensure("lr", "0 < lr < inf", lr, 0 < lr < inf)
        ensure_range(0, weight_decay=weight_decay)
        ensure_range(0, 1, momentum=momentum)
        super().__init__()
        self.model = model
        self.data_config = data_config
        self.save_hyperparameters(settings or {})  # under Lightning's key in the checkpoint
        self.optimizer_class = OPTIMIZERS[optimizer]
        self.optimizer_arguments: dict[str, Any] = {"lr": lr}
        # An argument that the optimizer does not know must not be dropped silently.
        known = inspect.signature(self.optimizer_class).parameters
        for name, value in {"weight_decay": weight_decay, "momentum": momentum}.items():
            if value is not None:
                rule = f"{name} is an argument of {optimizer}"
                ensure(name, rule, value, name in known, f"Leave {name} out.")
                self.optimizer_arguments[name] = value
        self.one_cycle = one_cycle
        self.sums: defaultdict[str, Sums] = defaultdict(Sums)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) normalised images to (batch, classes) logits."""
        logits: Tensor = self.model(images)
        return logits

    def configure_optimizers(self) -> OptimizerLRScheduler:
        # Fused kernels take a fifth off an epoch. With a gradient scaler they rule out clipping.
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        has_fused = scaler is None and "fused" in inspect.signature(self.optimizer_class).parameters
        arguments = self.optimizer_arguments | ({"fused": True} if has_fused else {})
        optimizer: Optimizer = self.optimizer_class(self.model.parameters(), **arguments)
        if not self.one_cycle:
            return optimizer
        steps = training_steps(self.trainer)
        rule = "a training of known length, by max_epochs or max_steps"
        ensure("one_cycle", rule, steps, steps < inf)
        schedule = OneCycleLR(
            optimizer,
            max_lr=arguments["lr"],
            total_steps=int(steps),
            cycle_momentum=False,  # use the momentum that was asked for
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Batch | Iterator[Batch], batch_idx: int) -> Tensor | None:
        """The loss of a batch. Given an iterator of batches, train on all of them instead."""
        if isinstance(batch, Iterator):
            train_epoch(self, batch)
            return None
        return self._step("train", batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._step("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._step("test", batch)

    def _step(self, part: str, batch: Batch) -> Tensor:
        images, labels = batch
        logits = self.model(images)
        loss = cross_entropy(logits, labels)
        # Detached, or the graphs of 64 steps would stay in memory.
        self.sums[part].add(loss.detach(), logits.detach(), labels)
        return loss

    def on_train_epoch_end(self) -> None:
        self._log("train")

    def on_validation_epoch_end(self) -> None:
        self._log("val")

    def on_test_epoch_end(self) -> None:
        self._log("test")

    def _log(self, part: str) -> None:
        # Validation runs inside of the training epoch: each part has sums of its own.
        self.log_dict(self.sums.pop(part, Sums()).means(part), prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["data_config"] = self.data_config.as_plain()


class Sums:
    """Sums of loss and hits over an epoch, on the device.

    Nothing is read back or logged per step, and a few batches are added at a time.
    """

    def __init__(self) -> None:
        self.loss: Tensor | float = 0.0
        self.hits: Tensor | int = 0
        self.examples = 0
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            loss: its mean, a scalar.
            logits: (batch, classes).
            labels: (batch,).
        """
        self._waiting.append((loss, logits, labels))
        if len(self._waiting) == SUMMED_AT_ONCE:
            self._sum_up()

    def means(self, part: str) -> dict[str, Tensor | float]:
        """`{part}_loss` and `{part}_acc` over all examples; empty if there were none."""
        self._sum_up()
        if not self.examples:
            return {}
        return {f"{part}_loss": self.loss / self.examples, f"{part}_acc": self.hits / self.examples}

    def _sum_up(self) -> None:
        if not self._waiting:
            return
        losses, logits, labels = zip(*self._waiting, strict=True)
        self._waiting = []
        sizes = torch.tensor([len(batch) for batch in labels])
        self.loss = self.loss + torch.stack(losses) @ sizes.to(losses[0])
        self.hits = self.hits + (torch.cat(logits).argmax(1) == torch.cat(labels)).sum()
        self.examples += int(sizes.sum())
