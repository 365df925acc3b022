"""The tasks that policies are compared on: a space, and a learning curve for each of its points.

Imports NumPy only (and onnxruntime or yaml where a task needs them): Syne Tune's policies run in an
environment without Ray, Optuna and torch.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from text_recognizer.metrics import Objective, mode_of

HERE = Path(__file__).parent
LCBENCH, TASKSET = HERE / "data" / "lcbench", HERE / "data" / "taskset"
SHORT = HERE.parent / "curves"  # recorded by the product
VALUES = HERE / "values.json"  # made by values.py

Floats = npt.NDArray[np.float64]
Params = dict[str, Any]
Space = dict[str, dict[str, Any]]  # as the section `space` of a search space file
Lookup = Callable[[Params], Floats]  # the value after each epoch


@dataclass(frozen=True)
class Task:
    """Something to search.

    Args:
        max_epochs: of one full training.
        best: the best value known, at any epoch.
        median: of each random point's best value.
        curves: called once for each simulation; gives the curve of a point.
    """

    name: str
    suite: str
    max_epochs: int
    metric: str
    space: Space
    best: float
    median: float
    curves: Callable[[], Lookup]

    @property
    def objective(self) -> Objective:
        return Objective(self.metric, mode_of(self.metric))

    def regret(self, value: float) -> float:
        """How far a value is from the best one known, in percent of the median's distance."""
        return 100 * (self.best - value) / (self.best - self.median)


@dataclass(frozen=True)
class Table:
    """Recorded curves.

    Args:
        points: places in the unit cube: (curves, parameters).
        values: (curves, epochs).
        weights: what a difference in each parameter counts.
    """

    space: Space
    points: Floats
    values: Floats
    weights: Floats

    def lookup(self) -> Lookup:
        """Gives the curve of the nearest point that it did not give before.

        With a plain nearest neighbour every sampler that exploits would look bad: it would be given
        the same curve again and again. Once all are given, all are free again.
        """
        is_free = np.ones(len(self.points), dtype=bool)
        is_choice = np.array([spec["type"] == "categorical" for spec in self.space.values()])

        def curve(params: Params) -> Floats:
            if not is_free.any():
                is_free[:] = True
            difference = np.abs(self.points - cube_point(self.space, params))
            difference[:, is_choice] = difference[:, is_choice] > 0
            distance = np.square(difference * self.weights).sum(axis=1)
            nearest = int(np.where(is_free, distance, np.inf).argmin())
            is_free[nearest] = False
            return np.asarray(self.values[nearest])

        return curve

    def task(self, name: str, suite: str, metric: str) -> Task:
        """The table as a task."""
        sign = Objective(metric, mode_of(metric)).sign
        best = sign * (sign * self.values).max(axis=1)
        return Task(
            name,
            suite,
            self.values.shape[1],
            metric,
            self.space,
            sign * float((sign * best).max()),
            float(np.median(best)),
            self.lookup,
        )


def cube_point(space: Space, params: Params) -> Floats:
    """A point's place in the unit cube; a choice has its index."""
    return np.array([place(spec, params[name]) for name, spec in space.items()])


def place(spec: dict[str, Any], value: Any) -> float:
    """Where a parameter's value lies between its ends: 0 to 1, or a choice's index."""
    if spec["type"] == "categorical":
        return float(spec["choices"].index(value))
    low, high = spec["low"], spec["high"]
    if spec.get("log"):
        return math.log(value / low) / math.log(high / low)
    return float((value - low) / (high - low))


def sample(space: Space, rng: np.random.Generator) -> Params:
    """A random point."""
    return {name: draw(spec, rng) for name, spec in space.items()}


def draw(spec: dict[str, Any], rng: np.random.Generator) -> Any:
    """A random value of a parameter; whole numbers are as wide as their roundings."""
    if spec["type"] == "categorical":
        return spec["choices"][int(rng.integers(len(spec["choices"])))]
    half = 0.5 if spec["type"] == "int" else 0.0
    low, high = spec["low"] - half, spec["high"] + half
    if spec.get("log"):
        value = math.exp(rng.uniform(math.log(low), math.log(high)))
    else:
        value = float(rng.uniform(low, high))
    value = min(max(value, spec["low"]), spec["high"])
    return round(value) if spec["type"] == "int" else value


@cache
def surrogate() -> Any:
    """LCBench's model, on one thread. onnxruntime is the extra `bench`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(LCBENCH / "model.onnx", options)


LCBENCH_EPOCHS = 52
# in the order in which the model takes them, after the epoch
LCBENCH_NAMES = (
    "batch_size",
    "learning_rate",
    "momentum",
    "weight_decay",
    "num_layers",
    "max_units",
    "max_dropout",
)


def lcbench_curve(code: int, params: Params) -> Floats:
    """All epochs of a point in one call, as a share of 1."""
    inputs = np.empty((LCBENCH_EPOCHS, 1 + len(LCBENCH_NAMES)), dtype=np.float32)
    inputs[:, 0] = np.arange(1, LCBENCH_EPOCHS + 1)
    inputs[:, 1:] = [params[name] for name in LCBENCH_NAMES]
    codes = np.full((LCBENCH_EPOCHS, 1), code, dtype=np.int32)
    (outputs,) = surrogate().run(None, {"x_cat": codes, "x_cont": inputs})
    return np.asarray(outputs[:, 1], dtype=np.float64) / 100


def lcbench() -> list[Task]:
    """The tasks at even places of the list are for development, the odd ones for a last look."""
    listed = json.loads((LCBENCH / "config_space.json").read_text("utf-8"))["hyperparameters"]
    by_name = {one["name"]: one for one in listed}
    codes = json.loads((LCBENCH / "encoding.json").read_text("utf-8"))["OpenML_task_id"]
    values = json.loads(VALUES.read_text("utf-8")) if VALUES.exists() else {}
    space: Space = {}
    for name in LCBENCH_NAMES:
        one = by_name[name]
        spec = {"type": one["type"].removeprefix("uniform_"), "low": one["lower"]}
        space[name] = {**spec, "high": one["upper"], "log": one["log"]}

    def task(place: int, number: str) -> Task:
        name = f"lcbench {number}"
        best, median = values.get(name, (math.nan, math.nan))
        suite = "lcbench-odd" if place % 2 else "lcbench"

        def curves() -> Lookup:
            return lambda params: lcbench_curve(codes[number], params)

        return Task(name, suite, LCBENCH_EPOCHS, "val_acc", space, best, median, curves)

    return [task(*one) for one in enumerate(by_name["OpenML_task_id"]["choices"])]


def taskset() -> list[Task]:
    """Eight parameters of an optimizer, by the names of their columns."""
    found = []
    for path in sorted(TASKSET.glob("*.npz")):
        with np.load(path) as data:
            points, values, weights = data["X"], -data["Y"], data["w"]
        space: Space = {
            f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(points.shape[1])
        }
        table = Table(space, points, values, weights)
        found.append(table.task(f"taskset {path.stem}", "taskset", "val_loss"))
    return found


def read_table(path: Path, space: Space, metric: str) -> Table:
    """A table that record.py wrote: a column for each parameter, and one for each epoch."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    epochs = [name for name in rows[0] if name.startswith(f"{metric}_")]
    points = [
        cube_point(space, {name: read(space[name], row[name]) for name in space}) for row in rows
    ]
    values = [[float(row[name]) for name in epochs] for row in rows]
    return Table(space, np.array(points), np.array(values), np.ones(len(space)))


def read(spec: dict[str, Any], text: str) -> Any:
    """A parameter's value from its text."""
    if spec["type"] == "categorical":
        return next(choice for choice in spec["choices"] if str(choice) == text)
    return float(text)


def short() -> list[Task]:
    """Short trainings that the product recorded."""
    import yaml

    found = []
    for path in sorted(SHORT.glob("*.csv")):
        space = yaml.safe_load(path.with_suffix(".yaml").read_text("utf-8"))["space"]
        for spec in space.values():
            if spec["type"] == "float":  # PyYAML takes 1e-4 for a text
                spec |= {end: float(spec[end]) for end in ("low", "high")}
        table = read_table(path, space, "val_acc")
        found.append(table.task(path.stem, "short", "val_acc"))
    return found


SUITES = {"lcbench": lcbench, "lcbench-odd": lcbench, "taskset": taskset, "short": short}


@cache
def tasks(suite: str) -> dict[str, Task]:
    """The tasks of a suite by name."""
    return {task.name: task for task in SUITES[suite]() if task.suite == suite}
