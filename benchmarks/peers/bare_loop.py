"""The limit: a loop in plain PyTorch over normalised floats, with fused Adam and no metric but
validation's. Nothing is kept.
"""

from __future__ import annotations

import random
import sys
import time
from multiprocessing import get_context
from typing import Any

from benchmarks.task import SLOTS, Done, Task


def train(task: Task, lr: float) -> tuple[list[float], float]:
    """One network; when its epochs ended, and its best validation accuracy."""
    import torch
    from torch.nn.functional import cross_entropy
    from torchvision.datasets import MNIST

    from text_recognizer.models.mlp import MLP

    torch.set_num_threads(1)
    mnist = MNIST(task.data_dir, train=True)
    images = mnist.data.float().div_(255).sub_(0.1307).div_(0.3081).unsqueeze(1)
    labels = mnist.targets
    order = torch.randperm(len(images))
    training, validation = order[:55_000], order[55_000:]
    network = MLP((1, 28, 28), 10, fc1=task.fc1, fc2=task.fc2)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr, fused=True)
    ends, best = [], 0.0
    for _ in range(task.epochs):
        network.train()
        for batch in torch.split(training[torch.randperm(len(training))], task.batch_size):
            loss: Any = cross_entropy(network(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            parts = torch.split(validation, 1024)
            hits = sum(
                int((network(images[part]).argmax(1) == labels[part]).sum()) for part in parts
            )
        best = max(best, hits / len(validation))
        ends.append(time.time())
    return ends, best


def main() -> None:
    """Two processes share the trials."""
    task = Task.from_json(sys.argv[1])
    rates = [10 ** random.uniform(-4, -2) for _ in range(task.trials)]
    begin = time.time()
    with get_context("spawn").Pool(SLOTS) as pool:
        results = pool.starmap(train, [(task, rate) for rate in rates], chunksize=1)
    Done(begin, time.time(), [ends for ends, _ in results], max(best for _, best in results)).tell()


if __name__ == "__main__":
    main()
