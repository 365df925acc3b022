"""The base of all data sets: raw examples, a fixed split, loaders, and batches as network input."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from torch import Tensor

from text_recognizer.command import exit_code_of
from text_recognizer.data.util import (
    BaseDataset,
    Batch,
    BatchLoader,
    normalise,
    random_shift_and_rotation,
    split,
)
from text_recognizer.errors import InputError, Problem, ensure
from text_recognizer.paths import resolved
from text_recognizer.seeds import seed_of
from text_recognizer.text import shown

SPLIT_SEED = 42  # the same split for every experiment and trial, whatever its training seed
EVALUATION_BATCH_SIZE = 1024  # a searched batch size must not change how a model is judged
DATA_DIR_VARIABLE = "TEXT_RECOGNIZER_DATA_DIR"


@dataclass(frozen=True)
class DataConfig:
    """Describes the input of a network: its shape, the class names, statistics of the pixels.

    Args:
        input_dims: (channels, height, width).
        mapping: class number -> class name.
        mean, std: of pixels in [0, 1].
    """

    input_dims: tuple[int, int, int]
    mapping: tuple[str, ...]
    mean: float
    std: float

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> DataConfig:
        """The inverse of `asdict`. Raises KeyError, TypeError or ValueError for anything else."""
        # Each value is converted, because a stranger's checkpoint may hold anything.
        channels, height, width = (int(size) for size in plain["input_dims"])
        names = tuple(str(name) for name in plain["mapping"])
        return cls((channels, height, width), names, float(plain["mean"]), float(plain["std"]))


class BaseDataModule(pl.LightningDataModule):
    """Downloads or generates raw data, splits it with a fixed seed, and serves it in batches.

    A subclass sets the class attributes and defines `load_trainval` and `load_test`. If there is
    something to download, it overrides `prepare_data`, which must be safe to call again and from
    several processes at once.

    Args:
        seed: training seed; the order of epoch e is a function of (seed, e).
        data_dir: folder of the raw files; None means $TEXT_RECOGNIZER_DATA_DIR, or else `data/` in
            the project.
        batch_size: examples in a training step, at least 1 and at most all training examples.
        augment: shift and rotate each training image at random.

    Raises:
        InputError: `batch_size` is out of its range, or `data_dir` cannot be a path.
    """

    config: DataConfig
    trainval_size: int  # training and validation examples together
    val_size: int

    def __init__(
        self,
        seed: int = 0,
        *,
        data_dir: str | None = None,
        batch_size: int = 128,
        augment: bool = False,
    ) -> None:
        super().__init__()
        size = self.trainval_size - self.val_size
        rule = f"1 <= batch_size <= {size}, the training examples of {type(self).__name__}"
        ensure("batch_size", rule, batch_size, 1 <= batch_size <= size)
        self.seed = seed
        self.data_dir = find_data_dir(data_dir)
        self.batch_size = batch_size
        self.augment = augment
        # A final model trains on the validation examples, too, and without a validation.
        self.fold_validation_in = False

    def load_trainval(self) -> BaseDataset:
        """Read the training and validation examples in their raw order. Raises `DataError`."""
        raise NotImplementedError

    def load_test(self) -> BaseDataset:
        """Read the test examples. Raises `DataError`."""
        raise NotImplementedError

    @cached_property
    def trainval(self) -> BaseDataset:
        """Training and validation examples, read once, or never if a caller sets the attribute."""
        # The workers of a search set it: they share one copy in Ray's object store, 47 MB for
        # MNIST. An entry of the instance's own takes the place of the cached property.
        return self.load_trainval()

    @cached_property
    def test(self) -> BaseDataset:
        """Test examples, read once."""
        return self.load_test()

    def splits(self) -> tuple[Tensor, Tensor]:
        """Indices into `trainval` of the (training, validation) examples."""
        training, validation = split(self.trainval_size, self.val_size, SPLIT_SEED)
        if self.fold_validation_in:
            return torch.cat([training, validation]), validation[:0]
        return training, validation

    def train_dataloader(self) -> BatchLoader:
        # Overfitting needs the same few batches in each epoch, so they are not shuffled.
        overfitting = getattr(self.trainer, "overfit_batches", 0) > 0
        order = None if overfitting else self.shuffled
        return self._loader(self.trainval, self.splits()[0], self.batch_size, order)

    def val_dataloader(self) -> BatchLoader:
        return self._loader(self.trainval, self.splits()[1])

    def test_dataloader(self) -> BatchLoader:
        return self._loader(self.test, torch.arange(len(self.test)))

    def _loader(
        self,
        dataset: BaseDataset,
        indices: Tensor,
        batch_size: int = EVALUATION_BATCH_SIZE,
        order: Callable[[Tensor], Tensor] | None = None,
    ) -> BatchLoader:
        """A loader whose examples are on the trainer's device."""
        # Copied once, for all who train on them in this process, and as bytes: slicing and
        # normalising a batch takes 44 µs, slicing normalised floats 33, but those would take 188 MB
        # in each worker.
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        return BatchLoader(dataset.to(device), indices.to(device), batch_size, order)

    def shuffled(self, indices: Tensor) -> Tensor:
        """`indices` in the order of the current epoch, a function of (seed, epoch)."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        generator = torch.Generator().manual_seed(seed_of("order", self.seed, epoch))
        return indices[torch.randperm(len(indices), generator=generator).to(indices.device)]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return self.prepared(batch)

    def prepared(self, batch: Batch) -> Batch:
        """A batch as network input: normalised, and augmented while training."""
        images, labels = batch
        inputs = normalise(images, self.config.mean, self.config.std)
        if self.trainer:
            if self.augment and self.trainer.training:
                inputs = random_shift_and_rotation(inputs)
            # For `--precision=64-true` Lightning has converted the batch already, but as bytes,
            # which it leaves alone.
            inputs = self.trainer.precision_plugin.convert_input(inputs)
        return inputs, labels

    def __str__(self) -> str:
        sizes = [len(part) for part in (*self.splits(), self.test)]
        inputs, labels = self.prepared(next(iter(self.train_dataloader())))
        return f"""{type(self).__name__} in {self.data_dir}
examples   {sizes} (training, validation, test)
dimensions {self.config.input_dims} (channels, height, width)
classes    {len(self.config.mapping)}: {", ".join(self.config.mapping)}
a batch    {tuple(inputs.shape)} {inputs.dtype}, mean {inputs.mean():.2f}, std {inputs.std():.2f}
labels     {tuple(labels.shape)} {labels.dtype}"""


def find_data_dir(named: str | None) -> Path:
    """The folder of raw data: `named`, or $TEXT_RECOGNIZER_DATA_DIR, or `data/` in the project.

    Raises:
        InputError: it cannot be a path.
    """
    # An empty name is a mistake, such as a variable of the shell that is not set.
    ensure("data_dir", "the path of a folder", named, named != "")
    wanted = named or os.environ.get(DATA_DIR_VARIABLE)
    if wanted:
        try:
            folder = resolved(Path(wanted).expanduser())
            rule, is_file = "the path of a folder", folder.is_file()
            ensure("data_dir", rule, str(folder), not is_file, "That is a file.")
            return folder
        # for a link to itself, a NUL in it, an unknown ~user
        except (OSError, ValueError, RuntimeError) as error:
            rule = "the path of a folder"
            raise InputError(Problem("data_dir", rule, shown(wanted), f"{error}.")) from None
    # Installed elsewhere, the package has no project around it.
    project = Path(__file__).resolve().parents[2]
    return (project if (project / "pyproject.toml").exists() else Path.cwd()) / "data"


def load_and_print(data_class: type[BaseDataModule]) -> NoReturn:
    """The command `python -m text_recognizer.data.<name>`: prepares a data set and describes it."""

    def command() -> None:
        data = data_class()
        data.prepare_data()
        print(data)

    sys.exit(exit_code_of(command, output_is_result=True))
