"""Training and judging a classifier: loss, metrics, optimizer, learning rate schedule."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from text_recognizer.data.base_data_module import DataConfig
from text_recognizer.data.util import Batch, EpochLoader
from text_recognizer.errors import InputError, Problem, check
from text_recognizer.text import did_you_mean, shown

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "SGD": torch.optim.SGD,
    "RMSprop": torch.optim.RMSprop,
}

# batches; a handful of small operations for each costs a twentieth of a small network's step
SUMMED_AT_ONCE = 64


class BaseLitModel(pl.LightningModule):
    """Cross-entropy training of a classifier, with loss and accuracy logged once an epoch.

    Args:
        model: maps (batch, channels, height, width) floats to (batch, classes) logits.
        data_config: what the model reads; kept in its checkpoints.
        settings: the experiment's flat settings; kept in its checkpoints, so that they explain
            themselves.
        optimizer: one of `OPTIMIZERS`.
        lr: learning rate, above 0; the highest one where `one_cycle` is on.
        weight_decay: at least 0; None leaves torch's default.
        momentum: in [0, 1), for an optimizer that has it; None leaves torch's default.
        one_cycle: one learning rate cycle over all of training, stepped per batch (Smith and Topin,
            2018).

    Raises:
        InputError: an argument is out of its range or is none of the optimizer's.
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
        check("lr", "0 < lr < inf", lr, 0 < lr < math.inf)
        check(
            "weight_decay",
            "0 <= weight_decay < inf",
            weight_decay,
            weight_decay is None or 0 <= weight_decay < math.inf,
        )
        check("momentum", "0 <= momentum < 1", momentum, momentum is None or 0 <= momentum < 1)
        super().__init__()
        self.model = model
        self.data_config = data_config
        self.save_hyperparameters(settings or {})
        self.optimizer_class = find_optimizer(optimizer)
        given = {"weight_decay": weight_decay, "momentum": momentum}
        self.optimizer_arguments: dict[str, Any] = {"lr": lr} | {
            name: value for name, value in given.items() if value is not None
        }
        refuse_unknown_arguments(self.optimizer_class, self.optimizer_arguments)
        self.one_cycle = one_cycle
        self.sums = Sums()

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) normalised images to (batch, classes) logits."""
        logits: Tensor = self.model(images)
        return logits

    def configure_optimizers(self) -> OptimizerLRScheduler:
        # Fused kernels took a fifth off an epoch; under a gradient scaler they would rule out
        # gradient clipping.
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        has_fused = scaler is None and "fused" in inspect.signature(self.optimizer_class).parameters
        arguments = self.optimizer_arguments | ({"fused": True} if has_fused else {})
        optimizer = self.optimizer_class(self.model.parameters(), **arguments)
        if not self.one_cycle:
            return optimizer
        steps = self.trainer.estimated_stepping_batches
        if isinstance(loader := self.trainer.train_dataloader, EpochLoader):
            steps *= loader.steps
        check(
            "one_cycle",
            "a training of known length, by max_epochs or max_steps",
            steps,
            math.isfinite(steps),
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.optimizer_arguments["lr"],
            total_steps=int(steps),
            cycle_momentum=False,  # the momentum asked for is the momentum used
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def take_whole_epochs(self) -> None:
        """Expect the batches of an epoch at once, from `BaseDataModule.serve_whole_epochs`.

        The same optimizer steps in the same order, without what Lightning does around each of them.
        """
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        """The loss of a batch; or, of an iterator of batches, all steps of an epoch."""
        if self.automatic_optimization:
            return self._step(batch)
        self._epoch(batch)
        return None

    def _epoch(self, batches: Iterator[Batch]) -> None:
        """Lightning's own optimizer wrapper costs 0.1 ms a step here, and torch's `zero_grad`
        another 0.08: neither is used.
        """
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        schedule: Any = self.lr_schedulers()
        steps = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        for batch in batches:
            loss: Any = self._step(batch)
            self.model.zero_grad()
            loss.backward()
            optimizer.step()
            steps.increment_completed()  # what `global_step` counts
            if schedule:
                schedule.step()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch)

    def _step(self, batch: Batch) -> Tensor:
        images, labels = batch
        logits = self.model(images)
        loss = cross_entropy(logits, labels)
        self.sums.add(loss.detach(), logits.detach(), labels)
        return loss

    # Validation runs inside the training epoch, so training's sums are closed when validation
    # begins.
    def on_train_epoch_start(self) -> None:
        self.sums = Sums()

    def on_validation_epoch_start(self) -> None:
        self.train_sums, self.sums = self.sums, Sums()

    def on_test_epoch_start(self) -> None:
        self.sums = Sums()

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.sums.means("val"), prog_bar=True)
        self.sums = self.train_sums

    def on_train_epoch_end(self) -> None:
        self.log_dict(self.sums.means("train"), prog_bar=True)

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.sums.means("test"))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["data_config"] = self.data_config.as_plain()


class Sums:
    """Loss and hits of one epoch, summed on the device and a few batches at a time: nothing is
    read back or logged per step.
    """

    def __init__(self) -> None:
        self.loss: Tensor | float = 0.0
        self.hits: Tensor | int = 0
        self.examples = 0
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add one batch: its mean loss, (batch, classes) logits, (batch,) labels."""
        self._waiting.append((loss, logits, labels))
        if len(self._waiting) == SUMMED_AT_ONCE:
            self._sum_up()

    def means(self, part: str) -> dict[str, Tensor | float]:
        """`{part}_loss` and `{part}_acc` over all examples seen; nothing where none was."""
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


def find_optimizer(name: str) -> type[torch.optim.Optimizer]:
    """The optimizer class called `name`. Raises `InputError`."""
    check(
        "optimizer",
        "the optimizer is a known one",
        name,
        name in OPTIMIZERS,
        did_you_mean(str(name), OPTIMIZERS),
    )
    return OPTIMIZERS[name]


def refuse_unknown_arguments(
    optimizer: type[torch.optim.Optimizer], arguments: dict[str, Any]
) -> None:
    """Raise `InputError` where `optimizer` does not take one of `arguments`: it would be dropped
    silently.
    """
    known = inspect.signature(optimizer).parameters
    problems = [
        Problem(
            name,
            f"{name} is an argument of the optimizer",
            f"{name}={shown(value)} with {optimizer.__name__}",
            f"Leave {name} out.",
        )
        for name, value in arguments.items()
        if name not in known
    ]
    if problems:
        raise InputError(*problems)
