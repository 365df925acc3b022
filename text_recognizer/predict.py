"""A trained recogniser: `Recognizer.load("best.ckpt").predict(images)`, and the same for picture
files on the command line.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from text_recognizer.command import exit_code_of, leave
from text_recognizer.data.base_data_module import DataConfig
from text_recognizer.data.util import normalise
from text_recognizer.errors import CheckpointError, InputError, check
from text_recognizer.tables import build_model
from text_recognizer.text import printable
from text_recognizer.util import read_image

# Bytes. The largest network of our search spaces has 3.7 million weights, with the optimizer's
# state 45 MB; this has room for 350 million, which is more than 28x28 pixels ask for, and can still
# be read where a model can be trained.
MAX_CHECKPOINT = 4 << 30


class Prediction(NamedTuple):
    """The most probable class of one image."""

    label: str
    probability: float  # in [0, 1]


class Recognizer:
    """A network with all it needs to read images."""

    def __init__(self, model: nn.Module, data: DataConfig) -> None:
        self.model = model.eval()
        self.data = data

    @classmethod
    def load(cls, path: str | Path) -> Recognizer:
        """The recogniser in a checkpoint of this project; no other argument is needed, no code in
        the file is run.

        Raises:
            CheckpointError: the file is missing, damaged, or not such a checkpoint.
        """
        checkpoint = read_checkpoint(Path(path))
        try:
            data = DataConfig.from_plain(checkpoint["data_config"])
            weights = {
                name.removeprefix("model."): value
                for name, value in checkpoint["state_dict"].items()
            }
            with torch.device("meta"):  # takes no memory: a file may name any width
                check_shapes(build_model(checkpoint["hyper_parameters"], data), weights)
            model = build_model(checkpoint["hyper_parameters"], data)
            model.load_state_dict(weights)
        except (InputError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"{path}: `a checkpoint of this project` must hold, but got "
                f"{type(error).__name__}: {error}"
            ) from None
        return cls(model, data)

    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> Tensor:
        """uint8 images of shape (n, channels, height, width) or (n, height, width) to (n, classes)
        probabilities.

        Raises:
            InputError: the images have another type or shape.
        """
        if images.ndim == 3:
            images = images.unsqueeze(1)
        dims = tuple(self.data.input_dims)
        check(
            "images", "uint8 values from 0 to 255", str(images.dtype), images.dtype == torch.uint8
        )
        check(
            "images",
            f"shape (n, {', '.join(map(str, dims))})",
            tuple(images.shape),
            tuple(images.shape[1:]) == dims,
        )
        logits: Tensor = self.model(normalise(images, self.data.mean, self.data.std))
        return logits.softmax(1)

    def predict(self, images: Any) -> list[Prediction]:
        """The most probable class of each image, a tensor or array as `probabilities` takes it."""
        best = self.probabilities(torch.as_tensor(images)).max(1)
        return [
            Prediction(self.data.mapping[int(index)], float(value))
            for value, index in zip(best.values, best.indices, strict=True)
        ]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, tensors on the CPU, unpickling nothing but tensors and plain
    values.

    Raises:
        CheckpointError: there is no such file, it is none, or it is too large.
    """
    try:
        check_size(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # on a damaged file the unpickler may raise anything
        reason = (
            "no such file"
            if isinstance(error, FileNotFoundError)
            else "a file that is not tensors and plain values"
        )
        raise CheckpointError(
            f"{path}: `a readable checkpoint` must hold, but got {reason}."
        ) from None
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f"{path}: `a checkpoint of this project` must hold, but got a "
            f"{type(checkpoint).__name__}"
        )
    return checkpoint


def check_size(path: Path) -> None:
    """Refuse a file that would take too much memory: by its own size, or by what it unpacks to.

    torch writes what a checkpoint holds as it is; but it also reads entries that are packed, or lie
    on one another, of which a small file can have any amount.

    Raises:
        CheckpointError: it is too large.
        OSError, zipfile.BadZipFile: it cannot be read, or is no checkpoint.
    """
    size = path.stat().st_size
    if size > MAX_CHECKPOINT:
        raise CheckpointError(
            f"{path}: `at most {MAX_CHECKPOINT:,} bytes` must hold, but got {size:,}. It is not "
            "read."
        )
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > size:
        rule = f"entries that take no more than the file's {size:,} bytes"
        raise CheckpointError(
            f"{path}: `{rule}` must hold, but got {unpacked:,}. torch wrote no such file; it is "
            "not read."
        )


def check_shapes(sketch: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """See that weights are those of a network that is only sketched, and are there in full: a view
    can repeat one number.

    Raises:
        RuntimeError, AttributeError: they are not.
    """
    sketch.load_state_dict(weights, assign=True)
    for name, value in weights.items():
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise RuntimeError(f"{name} is larger than what the file has of it")


def main() -> None:
    """`python -m text_recognizer.predict CHECKPOINT IMAGE…`: one line an image."""
    parser = argparse.ArgumentParser(description="Read the digit in each picture.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="image",
        help="PNG or JPEG; ink on paper is inverted",
    )
    arguments = parser.parse_args()
    recognizer = Recognizer.load(arguments.checkpoint)
    channels, height, width = recognizer.data.input_dims
    pictures = torch.stack(
        [read_image(path, (height, width), grey=channels == 1) for path in arguments.images]
    )
    for path, prediction in zip(arguments.images, recognizer.predict(pictures), strict=True):
        # the label is the file's
        print(printable(f"{path}: {prediction.label} ({prediction.probability:.1%})"))


if __name__ == "__main__":
    leave(exit_code_of(main))
