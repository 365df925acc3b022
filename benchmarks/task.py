"""What every peer of `bench.py` is to do, and how it is told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Task:
    """Train `trials` MLPs of these widths for `epochs` on MNIST, two at once; the learning rates are the peer's to draw."""

    fc1: int
    fc2: int
    trials: int
    epochs: int
    data_dir: str
    batch_size: int = 128

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        return cls(**json.loads(text))
