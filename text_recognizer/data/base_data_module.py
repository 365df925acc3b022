"""What every data set offers: raw examples, a fixed split, loaders, and how a batch becomes a
network's input.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from text_recognizer.data.util import (
    BaseDataset,
    Batch,
    BatchLoader,
    BatchSampler,
    EpochLoader,
    normalise,
    random_shift_and_rotation,
    split,
)
from text_recognizer.errors import InputError, Problem
from text_recognizer.text import shown

SPLIT_SEED = 42  # every experiment and every trial sits the same exam, whatever its training seed
EVALUATION_BATCH_SIZE = 1024  # a searched batch size must not change how a model is judged
DATA_DIR_VARIABLE = "TEXT_RECOGNIZER_DATA_DIR"


@dataclass(frozen=True)
class DataConfig:
    """What a network and its user must know of the data: shape, class names, and the statistics
    of pixels in [0, 1].
    """

    input_dims: tuple[int, int, int]  # channels, height, width
    mapping: tuple[str, ...]  # class number -> class name
    mean: float
    std: float

    def as_plain(self) -> dict[str, Any]:
        """Plain lists and numbers, fit for a checkpoint that is loaded weights-only."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> DataConfig:
        """The inverse of `as_plain`. Raises KeyError, TypeError or ValueError on anything else."""
        channels, height, width = (int(size) for size in plain["input_dims"])
        names = tuple(str(name) for name in plain["mapping"])
        return cls((channels, height, width), names, float(plain["mean"]), float(plain["std"]))


class BaseDataModule(pl.LightningDataModule):
    """Downloads or generates raw data, splits it with a fixed seed, and serves batches sliced from
    tensors.

    A subclass sets the class attributes and `load_trainval` / `load_test`; where there is something
    to download it overrides `prepare_data` (idempotent, safe to call from several processes at
    once).

    Args:
        data_dir: folder of the raw files; None means $TEXT_RECOGNIZER_DATA_DIR, else `data/` in the
            project.
        batch_size: examples a training step sees, at least 1 and at most the training examples.
        augment: shift and turn each training image at random.
        seed: training seed; the order of epoch e is a function of (seed, e).

    Raises:
        InputError: `batch_size` is out of its range.
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
        train_size = self.trainval_size - self.val_size
        if not 1 <= batch_size <= train_size:
            rule = (
                f"1 <= batch_size <= {train_size}, the training examples of {type(self).__name__}"
            )
            raise InputError(Problem("batch_size", rule, shown(batch_size)))
        self.seed = seed
        self.data_dir = find_data_dir(data_dir)
        self.batch_size = batch_size
        self.augment = augment
        self.fold_validation_in = False
        self.whole_epochs = False
        self._trainval: BaseDataset | None = None
        self._test: BaseDataset | None = None

    def load_trainval(self) -> BaseDataset:
        """The training and validation examples in their raw order. Raises `DataError`."""
        raise NotImplementedError

    def load_test(self) -> BaseDataset:
        """The test examples. Raises `DataError`."""
        raise NotImplementedError

    @property
    def train_transform(self) -> Callable[[Tensor], Tensor] | None:
        """What augmentation does to a batch of normalised training images, or None."""
        return random_shift_and_rotation if self.augment else None

    @property
    def trainval(self) -> BaseDataset:
        """Training and validation examples, loaded when first asked for."""
        if self._trainval is None:
            self._trainval = self.load_trainval()
        return self._trainval

    def share(self, trainval: BaseDataset) -> None:
        """Use examples that are in memory already instead of reading them again."""
        self._trainval = trainval

    def train_on_validation_too(self) -> None:
        """For a final model: training sees the validation examples, and there is no validation
        any more.
        """
        self.fold_validation_in = True

    def serve_whole_epochs(self) -> None:
        """Hand Lightning the batches of a training epoch at once, as the model expects that
        takes all their steps itself.
        """
        self.whole_epochs = True

    def splits(self) -> tuple[Tensor, Tensor]:
        """Indices into `trainval` of the (training, validation) examples."""
        training, validation = split(self.trainval_size, self.val_size, SPLIT_SEED)
        return (
            (torch.cat([training, validation]), validation[:0])
            if self.fold_validation_in
            else (training, validation)
        )

    def train_dataloader(self) -> BatchLoader | EpochLoader:
        # on the same few batches each epoch
        overfitting = getattr(self.trainer, "overfit_batches", 0) > 0
        seed = None if overfitting else self.seed
        loader = self._loader(self.trainval, self.splits()[0], self.batch_size, shuffle_seed=seed)
        return EpochLoader(loader, self.prepared) if self.whole_epochs else loader

    def val_dataloader(self) -> BatchLoader:
        return self._loader(self.trainval, self.splits()[1], EVALUATION_BATCH_SIZE)

    def test_dataloader(self) -> BatchLoader:
        if self._test is None:
            self._test = self.load_test()
        return self._loader(self._test, torch.arange(len(self._test)), EVALUATION_BATCH_SIZE)

    def _loader(
        self,
        dataset: BaseDataset,
        indices: Tensor,
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
    ) -> BatchLoader:
        """A loader whose examples live on the trainer's device: one copy for all epochs, no copy
        per batch.
        """
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        sampler = BatchSampler(indices.to(device), batch_size, shuffle_seed=shuffle_seed)
        return BatchLoader(dataset.to(device), sampler)

    def on_after_batch_transfer(
        self, batch: Batch | Iterator[Batch], dataloader_idx: int
    ) -> Batch | Iterator[Batch]:
        return self.prepared(batch) if isinstance(batch, tuple | list) else batch

    def prepared(self, batch: Batch) -> Batch:
        """A batch as the network reads it: normalised, and augmented where it trains."""
        images, labels = batch
        inputs = normalise(images, self.config.mean, self.config.std)
        if self.train_transform and self.trainer and self.trainer.training:
            inputs = self.train_transform(inputs)
        # `--precision=64-true` and its like: Lightning converted the batch while it was still bytes
        if self.trainer:
            inputs = self.trainer.precision_plugin.convert_input(inputs)
        return inputs, labels

    def __str__(self) -> str:
        training, validation = self.splits()
        images, labels = next(
            iter(self._loader(self.trainval, training, self.batch_size, shuffle_seed=self.seed))
        )
        inputs, _ = self.prepared((images, labels))
        return "\n".join(
            [
                f"{type(self).__name__} in {self.data_dir}",
                (
                    f"sizes      train {len(training):,}, validation {len(validation):,}, test "
                    f"{len(self.load_test()):,}"
                ),
                f"dimensions {self.config.input_dims} (channels, height, width)",
                f"classes    {len(self.config.mapping)}: {', '.join(self.config.mapping)}",
                f"raw values {images.dtype}, {images.min().item()} to {images.max().item()}",
                f"a batch    {tuple(inputs.shape)} {inputs.dtype}, mean {inputs.mean():.2f}, "
                f"std {inputs.std():.2f}, "
                f"{inputs.min():.2f} to {inputs.max():.2f}; labels {tuple(labels.shape)} "
                f"{labels.dtype}",
            ]
        )


def find_data_dir(named: str | None) -> Path:
    """The folder of raw data: the named one, else $TEXT_RECOGNIZER_DATA_DIR, else `data/` in the
    project. Raises `InputError`.
    """
    wanted = named or os.environ.get(DATA_DIR_VARIABLE)
    if wanted:
        try:
            return Path(wanted).expanduser().resolve()
        # a NUL, an unknown ~user, a link to itself
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                Problem("data_dir", "the path of a folder", shown(wanted), f"{error}.")
            ) from None
    project = Path(__file__).resolve().parents[2]
    return (project if (project / "pyproject.toml").exists() else Path.cwd()) / "data"


def load_and_print(data_class: type[BaseDataModule]) -> None:
    """Prepare the data set and say what it is: the body of `python -m
    text_recognizer.data.<name>`.
    """
    data = data_class()
    data.prepare_data()
    print(data)
