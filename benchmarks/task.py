"""What every peer of `bench.py` is told to do, and what it tells."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import pairwise

MARK = "done: "
SLOTS = 2  # trials at once, one thread each


@dataclass(frozen=True)
class Task:
    """Train `trials` MLPs of these widths for `epochs` on MNIST; the learning rates are the peer's
    to draw.

    `gpus` is the share of a GPU for each trial; with 0 they are trained on CPUs, `SLOTS` at once.
    A GPU machine may lack what Ray's `dashboard` needs.
    """

    fc1: int
    fc2: int
    trials: int
    epochs: int
    data_dir: str
    batch_size: int = 128
    gpus: float = 0
    dashboard: bool = True

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Done:
    """When (seconds since 1970) the search itself began and ended, when each trial's epochs did,
    and the best accuracy.

    The search begins when imports and Ray, where there is one, are up; the whole command is timed
    from outside.
    """

    begin: float
    end: float
    epochs: list[list[float]]
    best: float

    def tell(self) -> None:
        """Print as a line of its own, for `bench.py` to find among whatever else is printed."""
        print(f"\n{MARK}{json.dumps(asdict(self))}", flush=True)

    @classmethod
    def heard(cls, output: str) -> Done:
        """The inverse of `tell`."""
        line = next(line for line in output.splitlines() if line.startswith(MARK))
        return cls(**json.loads(line.removeprefix(MARK)))

    @property
    def seconds(self) -> float:
        """Of the search itself."""
        return self.end - self.begin

    @property
    def steady(self) -> list[float]:
        """Seconds from each epoch of a trial to its next: training, validation, checkpoint and
        report.
        """
        return [after - before for trial in self.epochs for before, after in pairwise(trial)]
