"""A small convolutional network. It shows that a new model is one file and one line."""

from torch import Tensor, nn

from text_recognizer.errors import ensure_range
from text_recognizer.models.dropout import Dropout


class CNN(nn.Module):
    """Two 3x3 convolutions, one 2x2 pooling and a hidden layer.

    Args:
        input_dims: (channels, height, width), sides of at least 2 pixels.
        num_classes: width of the output.
        conv_dim: channels of each convolution, at least 1.
        fc_dim: width of the hidden layer, at least 1.
        conv_dropout: probability that training drops a pooled value, in [0, 1).

    Raises:
        InputError: an argument is out of its range.
    """

    capturable = True  # runs the same kernels in each step, see `text_recognizer.whole_epochs`

    def __init__(
        self,
        input_dims: tuple[int, int, int],
        num_classes: int,
        *,
        conv_dim: int = 32,
        fc_dim: int = 128,
        conv_dropout: float = 0.25,
    ) -> None:
        ensure_range(1, conv_dim=conv_dim, fc_dim=fc_dim)
        ensure_range(0, 1, conv_dropout=conv_dropout)
        super().__init__()
        channels, height, width = input_dims
        self.layers = nn.Sequential(
            nn.Conv2d(channels, conv_dim, 3, padding=1),  # (batch, conv_dim, height, width)
            nn.ReLU(),
            nn.Conv2d(conv_dim, conv_dim, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (batch, conv_dim, height // 2, width // 2)
            Dropout(conv_dropout),
            nn.Flatten(),  # (batch, conv_dim * (height // 2) * (width // 2))
            nn.Linear(conv_dim * (height // 2) * (width // 2), fc_dim),
            nn.ReLU(),
            nn.Linear(fc_dim, num_classes),  # (batch, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) floats to (batch, num_classes) logits."""
        logits: Tensor = self.layers(images)
        return logits
