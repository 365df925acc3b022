"""Data sets as tensors, loaders that slice them, and what is done to a batch of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from text_recognizer.seeds import seed_of

MAX_ROTATION_DEG = 10.0
MAX_SHIFT = 2 / 28  # of the image's side

Batch = tuple[Tensor, Tensor]  # images (batch, channels, height, width), labels (batch,)


@dataclass
class BaseDataset:
    """Images, uint8 of shape (n, channels, height, width), and labels, int64 of shape (n,).

    `dataset[i]` is one example; a tensor of indices gives a batch by one slice.
    """

    images: Tensor
    labels: Tensor
    transform: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(
                f"`len(images) == len(labels)` must hold, but got {len(self.images)} and "
                f"{len(self.labels)}."
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | Tensor) -> tuple[Tensor, Tensor]:
        # `images[tensor]` does the same in ten times the time.
        images = (
            self.images.index_select(0, index) if isinstance(index, Tensor) else self.images[index]
        )
        return (self.transform(images) if self.transform else images), self.labels[index]

    def to(self, device: torch.device) -> BaseDataset:
        """The same examples on `device`."""
        return BaseDataset(self.images.to(device), self.labels.to(device), self.transform)


class BatchSampler:
    """Yields index tensors of at most `batch_size`; the order of an epoch is a function of
    (seed, epoch) alone.
    """

    def __init__(
        self, indices: Tensor, batch_size: int, *, shuffle_seed: int | None = None
    ) -> None:
        self.indices = indices
        self.batch_size = batch_size
        self.shuffle_seed = shuffle_seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at each epoch's start, after a resume too."""
        self.epoch = epoch

    @property
    def sampler(self) -> BatchSampler:
        """Where Lightning looks for `set_epoch`."""
        return self

    def __len__(self) -> int:
        return math.ceil(len(self.indices) / self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        # A generator, so that the order is drawn with the first batch: on a resume Lightning asks
        # for the iterator before it sets the epoch.
        order = self.indices
        if self.shuffle_seed is not None:
            generator = torch.Generator().manual_seed(
                seed_of("order", self.shuffle_seed, self.epoch)
            )
            order = order[torch.randperm(len(order), generator=generator).to(order.device)]
        yield from torch.split(order, self.batch_size)


class BatchLoader:
    """What Lightning iterates: (images, labels) batches sliced from a data set in its sampler's
    order.
    """

    def __init__(self, dataset: BaseDataset, batch_sampler: BatchSampler) -> None:
        self.dataset = dataset
        self.batch_sampler = batch_sampler

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        return (self.dataset[index] for index in self.batch_sampler)


class EpochLoader:
    """What Lightning iterates where it is handed an epoch at once: one item, the iterator of the
    epoch's prepared batches.
    """

    def __init__(self, loader: BatchLoader, prepare: Callable[[Batch], Batch]) -> None:
        self.loader = loader
        self.prepare = prepare

    @property
    def batch_sampler(self) -> BatchSampler:
        """Where Lightning looks for a sampler with `set_epoch`."""
        return self.loader.batch_sampler

    @property
    def steps(self) -> int:
        """Batches of the one item."""
        return len(self.loader)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Iterator[Batch]]:
        yield map(self.prepare, self.loader)


def split(n: int, validation: int, seed: int) -> tuple[Tensor, Tensor]:
    """A random but fixed partition of range(n): indices of (training, validation)."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[validation:], order[:validation]


def normalise(images: Tensor, mean: float, std: float) -> Tensor:
    """uint8 images in [0, 255] to floats of about zero mean and unit variance; `mean` and `std`
    are of images in [0, 1].
    """
    return images.float().sub_(255 * mean).mul_(1 / (255 * std))


def random_shift_and_rotation(images: Tensor) -> Tensor:
    """Move and turn each image (batch, channels, height, width) by its own small random amount;
    edges repeat.
    """
    n, device = len(images), images.device
    angle = (torch.rand(n, device=device) * 2 - 1) * math.radians(MAX_ROTATION_DEG)
    # grid coordinates span [-1, 1]
    shift = (torch.rand(n, 2, device=device) * 2 - 1) * (2 * MAX_SHIFT)
    cos, sin = angle.cos(), angle.sin()
    # (batch, 2, 3)
    theta = torch.stack(
        [torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1
    )
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)
