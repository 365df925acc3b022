"""A trained recogniser: `Recognizer.load("best.ckpt").predict(images)`. Also a command."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from text_recognizer.command import exit_code_of, leave
from text_recognizer.data.base_data_module import DataConfig
from text_recognizer.data.util import normalise
from text_recognizer.errors import CheckpointError, InputError, ensure
from text_recognizer.tables import build_model
from text_recognizer.text import clipped, printable
from text_recognizer.util import read_image

# Bytes. This is enough for 350 million weights with the optimizer's state; the largest network of
# our search spaces has 3.7 million.
MAX_CHECKPOINT = 4 << 30


class Prediction(NamedTuple):
    """The most probable class of one image."""

    label: str
    probability: float  # in [0, 1]


class Recognizer:
    """A trained network that reads images."""

    def __init__(self, model: nn.Module, data: DataConfig) -> None:
        self.model = model.eval()
        self.data = data

    @classmethod
    def load(cls, path: str | Path) -> Recognizer:
        """Load the recogniser of a checkpoint. Nothing else is needed, and no code in it is run.

        Raises:
            CheckpointError: the file is missing, damaged, or not a checkpoint of this project.
        """
        checkpoint = read_checkpoint(Path(path))
        try:
            data = DataConfig.from_plain(checkpoint["data_config"])
            settings = checkpoint["hyper_parameters"]
            weights = {
                name.removeprefix("model."): value
                for name, value in checkpoint["state_dict"].items()
            }
            # A file may name any width. On the meta device a network takes no memory, and one that
            # does not fit the weights is refused.
            with torch.device("meta"):
                build_model(settings, data).load_state_dict(weights, assign=True)
            # Built again, because an assigned weight keeps its precision. Here all become 32 bits.
            model = build_model(settings, data)
            model.load_state_dict(weights)
        except (InputError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"{path}: not a checkpoint of this project: {type(error).__name__}: {error}"
            ) from None
        return cls(model, data)

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """The logit of each class for each image, of shape (n, classes).

        Args:
            images: uint8 of shape (n, channels, height, width) or (n, height, width).

        Raises:
            InputError: the images have another type or shape.
        """
        if images.ndim == 3:
            images = images.unsqueeze(1)
        dims = self.data.input_dims
        rule = f"uint8 of shape (n, {', '.join(map(str, dims))})"
        fits = images.dtype == torch.uint8 and images.shape[1:] == dims
        ensure("images", rule, (images.dtype, tuple(images.shape)), fits)
        logits: Tensor = self.model(normalise(images, self.data.mean, self.data.std))
        return logits

    def probabilities(self, images: Tensor) -> Tensor:
        """The probability of each class for each image, of shape (n, classes); see `logits`."""
        return self.logits(images).softmax(1)

    def predict(self, images: Any) -> list[Prediction]:
        """The most probable class of each image; `images` as for `logits`, or an array."""
        best = self.probabilities(torch.as_tensor(images)).max(1)
        return [
            Prediction(self.data.mapping[int(index)], float(value))
            for value, index in zip(best.values, best.indices, strict=True)
        ]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint with its tensors on the CPU. Only tensors and plain values are unpickled.

    Raises:
        CheckpointError: the file is missing, too large, or not a checkpoint.
    """
    check_size(path)
    try:
        # A checkpoint is a pickle, which could run any code without `weights_only`.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(checkpoint, dict):
            raise TypeError(f"it holds a {type(checkpoint).__name__}")
    except Exception as error:  # on a damaged file the unpickler may raise anything
        reason = str(error).partition("\n")[0]
        # Of another kind of file torch says anything, and its advice is about its versions.
        if not isinstance(error, OSError | RuntimeError | TypeError):
            reason = "it is another kind of file, or holds more than weights and plain values"
        raise CheckpointError(f"{path}: not a readable checkpoint: {clipped(reason)}") from None
    return checkpoint


def check_size(path: Path) -> None:
    """Raise `CheckpointError` if a file has more than `MAX_CHECKPOINT` bytes."""
    size = 0
    with suppress(OSError):  # whoever reads it says why it cannot be read
        size = path.stat().st_size
    if size > MAX_CHECKPOINT:
        raise CheckpointError(
            f"{path}: `at most {MAX_CHECKPOINT:,} bytes` must hold, but got {size:,}."
        )


def main() -> None:
    """Print a line for each image of `python -m text_recognizer.predict CHECKPOINT IMAGE…`."""
    parser = argparse.ArgumentParser(description="Read the digit in each picture.")
    parser.add_argument("checkpoint", type=Path)
    about = "PNG or JPEG; ink on paper is inverted"
    parser.add_argument("images", type=Path, nargs="+", metavar="image", help=about)
    arguments = parser.parse_args()
    recognizer = Recognizer.load(arguments.checkpoint)
    channels, height, width = recognizer.data.input_dims
    pictures = torch.stack(
        [read_image(path, (height, width), grey=channels == 1) for path in arguments.images]
    )
    for path, prediction in zip(arguments.images, recognizer.predict(pictures), strict=True):
        # The label comes from the checkpoint, which may be a stranger's.
        print(printable(f"{path}: {prediction.label} ({prediction.probability:.1%})"))


if __name__ == "__main__":
    leave(exit_code_of(main, output_is_result=True))
