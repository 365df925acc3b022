"""A dropout layer that is fast on CPUs."""

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """`nn.Dropout` with the same probabilities and scale, from 32-bit uniform numbers on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Any shape to the same shape."""
        # On a CPU torch draws each unit from a Bernoulli distribution in double precision: 2.3 of
        # the 8 ms of a training step of lab 1's MLP, more than the layer before it. A 128x1024
        # layer took 2.6 ms forward and backward, this one 1.0. Other devices have a fast kernel.
        if not self.training or not self.p or not input.is_cpu or input.dtype != torch.float32:
            return super().forward(input)
        keep = 1 - self.p
        return input * torch.rand(input.shape).lt_(keep).div_(keep)
