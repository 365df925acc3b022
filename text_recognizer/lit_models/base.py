"""Training and judging a classifier: loss, metrics, optimizer, learning rate schedule."""

import inspect
from collections import defaultdict
from dataclasses import asdict
from math import inf
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import OneCycleLR

from text_recognizer.data.base_data_module import DataConfig
from text_recognizer.data.util import Batch
from text_recognizer.errors import ensure, ensure_range, unknown
from text_recognizer.whole_epochs import EpochLoader, Measured, train_epoch, training_steps

OPTIMIZERS: dict[str, type[Optimizer]] = {cls.__name__: cls for cls in (Adam, AdamW, SGD, RMSprop)}


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
        # (loss, logits, labels) of the batches of an epoch. Validation runs inside of the training
        # epoch, so each part has its own list.
        self.batches: defaultdict[str, list[Measured]] = defaultdict(list)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) normalised images to (batch, classes) logits."""
        logits: Tensor = self.model(images)
        return logits

    def configure_optimizers(self) -> OptimizerLRScheduler:
        # Fused kernels take a fifth off an epoch (on a CPU 151 µs a step instead of 411). With a
        # gradient scaler, or in mixed precision, Lightning refuses to clip gradients if they are
        # fused.
        plugin = self.trainer.precision_plugin
        clips = isinstance(plugin, MixedPrecision) and self.trainer.gradient_clip_val
        has_fused = (
            not clips
            and getattr(plugin, "scaler", None) is None
            and "fused" in inspect.signature(self.optimizer_class).parameters
        )
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
            cycle_momentum=False,  # it would replace the momentum that was asked for
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Batch | EpochLoader, batch_idx: int) -> Tensor | None:
        """The loss of a batch. Given all batches of an epoch, train on them instead."""
        if isinstance(batch, EpochLoader):
            train_epoch(self, batch)
            return None
        measured = self.measure(batch)
        self.keep("train", measured)
        return measured[0]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.keep("val", self.measure(batch))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.keep("test", self.measure(batch))

    def measure(self, batch: Batch) -> Measured:
        """The loss of a batch, its logits of shape (batch, classes), and its labels."""
        images, labels = batch
        logits = self.model(images)
        return cross_entropy(logits, labels), logits, labels

    def keep(self, part: str, measured: Measured) -> None:
        """Keep what was measured until the end of the epoch."""
        # Summing each batch here would take 0.1 ms, a fifth of a small step. All logits of an epoch
        # take 2 MB. Not detached, they would keep the autograd graphs of all steps in memory.
        loss, logits, labels = measured
        self.batches[part].append((loss.detach(), logits.detach(), labels))

    def on_train_epoch_end(self) -> None:
        self._log("train")

    def on_validation_epoch_end(self) -> None:
        self._log("val")

    def on_test_epoch_end(self) -> None:
        self._log("test")

    def _log(self, part: str) -> None:
        batches = self.batches.pop(part, [])
        if not batches:  # with `--limit_val_batches=0`, say
            return
        losses, logits, labels = zip(*batches, strict=True)
        # Means over the examples, because the last batch may be smaller than the others.
        sizes = torch.tensor([len(batch) for batch in labels])
        loss = torch.stack(losses) @ sizes.to(losses[0])
        hits = (torch.cat(logits).argmax(1) == torch.cat(labels)).sum()
        n = int(sizes.sum())
        self.log_dict({f"{part}_loss": loss / n, f"{part}_acc": hits / n}, prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # As tuples, texts and numbers, which torch loads with `weights_only`.
        checkpoint["data_config"] = asdict(self.data_config)
