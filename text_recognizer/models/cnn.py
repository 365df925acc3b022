"""A small convolutional network: the proof that a second model is one file and one line."""

from __future__ import annotations

from torch import Tensor, nn

from text_recognizer.errors import check
from text_recognizer.models.dropout import Dropout


class CNN(nn.Module):
    """Two 3x3 convolutions, one 2x2 pooling and a hidden layer.

    Args:
        input_dims: (channels, height, width), sides of at least 2 pixels.
        num_classes: width of the output.
        conv_dim: channels of each convolution, at least 1.
        fc_dim: width of the hidden layer, at least 1.
        conv_dropout: chance that a pooled value is left out of a training step, in [0, 1).

    Raises:
        InputError: an argument is out of its range.
    """

    def __init__(
        self,
        input_dims: tuple[int, int, int],
        num_classes: int,
        *,
        conv_dim: int = 32,
        fc_dim: int = 128,
        conv_dropout: float = 0.25,
    ) -> None:
        check("conv_dim", "conv_dim >= 1", conv_dim, conv_dim >= 1)
        check("fc_dim", "fc_dim >= 1", fc_dim, fc_dim >= 1)
        check("conv_dropout", "0 <= conv_dropout < 1", conv_dropout, 0 <= conv_dropout < 1)
        super().__init__()
        channels, height, width = input_dims
        self.layers = nn.Sequential(
            nn.Conv2d(channels, conv_dim, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(conv_dim, conv_dim, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (batch, conv_dim, height // 2, width // 2)
            Dropout(conv_dropout),
            nn.Flatten(),
            nn.Linear(conv_dim * (height // 2) * (width // 2), fc_dim),
            nn.ReLU(),
            nn.Linear(fc_dim, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) floats to (batch, num_classes) logits."""
        logits: Tensor = self.layers(images)
        return logits
