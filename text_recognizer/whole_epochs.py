"""Trains a whole epoch in one training step of Lightning: the same weights in less time."""

# What Lightning does around a training step is a third of a small network's epoch: an MLP 128-64 on
# MNIST takes 0.97 s an epoch in a bare loop, 1.5 s in single steps and 1.05 s here (one core,
# docs/decisions.md). So Lightning is handed an epoch as one batch, and the model takes all
# optimizer steps in one `training_step`. The weights are the same bit by bit.
#
# On a GPU, starting a small network's kernels one by one takes most of the time: of 1.3 ms a step
# 1.1. There a step is captured as a CUDA graph, which starts all of them at once. What a model
# decides in Python would be decided once for all steps, so only a model that says
# `capturable = True` is captured.

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from text_recognizer.data.base_data_module import BaseDataModule
from text_recognizer.data.util import Batch, BatchLoader

if TYPE_CHECKING:
    from text_recognizer.lit_models.base import BaseLitModel

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
WARM_UP = 3  # ordinary steps before the capture: they allocate what is allocated once

Measured = tuple[Tensor, Tensor, Tensor]  # loss, logits and labels of a batch


def with_whole_epochs(
    lit_model: pl.LightningModule, data: BaseDataModule, flags: Iterable[str]
) -> pl.LightningDataModule:
    """Prepare a model for whole epochs, and return the data module to train it with.

    Args:
        lit_model: its `training_step` calls `train_epoch` with an `EpochLoader`, and it asks
            `training_steps` for the length of a schedule.
        flags: the names of the Trainer flags in use. Where one of them may need single steps,
            nothing changes.
    """
    if not FLAGS_WITHOUT_STEPS.issuperset(flags):
        return data
    lit_model.automatic_optimization = False
    return EpochData(data)


def train_epoch(lit_model: BaseLitModel, epoch: EpochLoader) -> None:
    """Take the optimizer steps of an epoch, in the order of single steps."""
    # Lightning's own optimizer wrapper costs 0.1 ms a step, and the optimizer's `zero_grad` 0.08.
    optimizer: Any = lit_model.optimizers(use_pl_optimizer=False)
    schedule: Any = lit_model.lr_schedulers()
    progress = lit_model.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress

    def step(indices: Tensor) -> Measured:
        measured = lit_model.measure(epoch.batch(indices))
        loss: Any = measured[0]
        lit_model.zero_grad()
        loss.backward()
        optimizer.step()
        return measured

    fit_to_device(optimizer, lit_model.device, scheduled=bool(schedule))
    graphs = (
        can_capture(lit_model.device)
        and getattr(lit_model.model, "capturable", False)
        and (not schedule or rates_on_device(optimizer))
    )
    if graphs and epoch.graph is None:
        epoch.graph = GraphedStep(step, epoch.loader.batch_size, lit_model.device)
    take = epoch.graph or step
    with epoch.graph.stream() if epoch.graph else nullcontext():
        for indices in epoch.loader.slices():
            lit_model.keep("train", take(indices))
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
        return batch if isinstance(batch, EpochLoader) else self.data.prepared(batch)


class EpochLoader:
    """A loader of one batch, which is itself: all batches of an epoch."""

    def __init__(self, data: BaseDataModule, loader: BatchLoader) -> None:
        self.data = data
        self.loader = loader
        self.graph: GraphedStep | None = None  # of a fit on a GPU

    def __len__(self) -> int:
        return 1  # Lightning counts steps by it, see `training_steps`

    def __iter__(self) -> Iterator[EpochLoader]:
        yield self

    def batch(self, indices: Tensor) -> Batch:
        """These examples as network input."""
        return self.data.prepared(self.loader.batch(indices))


class GraphedStep:
    """A training step that is replayed from a CUDA graph. It reads and writes fixed tensors.

    Ordinary steps are the first ones, those of smaller batches, which an epoch ends with, and all
    if the step cannot be captured.

    Source: torch's notes on CUDA graphs, "whole network capture".

    Args:
        step: the ordinary step.
        size: examples in a batch.
    """

    def __init__(self, step: Callable[[Tensor], Measured], size: int, device: torch.device) -> None:
        self.step = step
        self.indices = torch.zeros(size, dtype=torch.long, device=device)
        self.taken = 0
        self.replay: Callable[[], None] | None = None
        # One for all epochs: each stream has its own pool of memory.
        self.own_stream: Any = None
        if device.type == "cuda":
            self.own_stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Take the steps of the block on a stream of their own, because what ran on the default one
        cannot be captured.
        """
        if self.own_stream is None:  # a test on a CPU
            yield
            return
        default = torch.cuda.current_stream()
        self.own_stream.wait_stream(default)
        with torch.cuda.stream(self.own_stream):
            yield
        default.wait_stream(self.own_stream)

    def __call__(self, indices: Tensor) -> Measured:
        if len(indices) != len(self.indices):
            return self.step(indices)
        if self.taken == WARM_UP:
            self._capture()
        self.taken += 1
        if self.replay is None:
            return self.step(indices)
        self.indices.copy_(indices)
        self.replay()
        loss, logits, labels = self.measured
        return loss.clone(), logits.clone(), labels.clone()

    def _capture(self) -> None:
        try:
            self.replay = capture(self._work)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # for a model that asks the device for a number, say
            reason = str(error).partition("\n")[0]
            warnings.warn(f"trains without a CUDA graph: {reason}", stacklevel=1)

    def _work(self) -> None:
        loss, logits, labels = self.step(self.indices)
        self.measured = loss.detach(), logits.detach(), labels


def can_capture(device: torch.device) -> bool:
    """Whether `capture` works with this device."""
    return device.type == "cuda"


def capture(work: Callable[[], None]) -> Callable[[], None]:
    """Record the kernels that `work` starts, without running them; the result runs them.

    Raises:
        RuntimeError: `work` does what a graph cannot.
    """
    graph = torch.cuda.CUDAGraph()
    # Else whatever another thread asks of CUDA meanwhile would be an error.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


def fit_to_device(
    optimizer: torch.optim.Optimizer, device: torch.device, *, scheduled: bool
) -> None:
    """On a GPU, have the optimizer keep there what a graph reads; its state may come from a
    checkpoint of another device.
    """
    on_gpu = device.type == "cuda"
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = on_gpu
        rate = group["lr"]
        if scheduled and on_gpu and group.get("fused"):
            # Kept in later epochs: the graph reads this one.
            if not (isinstance(rate, Tensor) and rate.device == device):
                group["lr"] = torch.tensor(float(rate), device=device)
        else:
            group["lr"] = float(rate)


def rates_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a schedule changes learning rates that a graph reads."""
    return all(isinstance(group["lr"], Tensor) for group in optimizer.param_groups)
