"""Lab 1's network: a multi-layer perceptron with two hidden layers."""

import math

from torch import Tensor, nn

from text_recognizer.errors import ensure_range
from text_recognizer.models.dropout import Dropout


class MLP(nn.Module):
    """Flattens an image and passes it through two hidden layers with dropout.

    Args:
        input_dims: (channels, height, width).
        num_classes: width of the output.
        fc1: width of the first hidden layer, at least 1.
        fc2: width of the second hidden layer, at least 1.
        dropout: probability that training drops a hidden unit, in [0, 1).

    Raises:
        InputError: an argument is out of its range.
    """

    capturable = True  # runs the same kernels in each step, see `text_recognizer.whole_epochs`

    def __init__(
        self,
        input_dims: tuple[int, int, int],
        num_classes: int,
        *,
        fc1: int = 1024,
        fc2: int = 128,
        dropout: float = 0.5,
    ) -> None:
        ensure_range(1, fc1=fc1, fc2=fc2)
        ensure_range(0, 1, dropout=dropout)
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),  # (batch, channels * height * width)
            nn.Linear(math.prod(input_dims), fc1),  # (batch, fc1)
            nn.ReLU(),
            Dropout(dropout),
            nn.Linear(fc1, fc2),  # (batch, fc2)
            nn.ReLU(),
            Dropout(dropout),
            nn.Linear(fc2, num_classes),  # (batch, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) floats to (batch, num_classes) logits."""
        logits: Tensor = self.layers(images)
        return logits
