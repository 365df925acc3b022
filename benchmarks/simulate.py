"""Does honest reporting help? Our searcher and scheduler beside Ray's own, on recorded learning
curves.

Four simulated workers train from a table of real curves (`mnist_mlp_curves.csv`); what decides is
real: our Study, StudySearcher and RecordingScheduler, or Ray's OptunaSearch and
AsyncHyperBandScheduler, called as Tune's controller calls them. An epoch costs one unit. Prints
Markdown tables and writes them to `simulation.md`: `python benchmarks/simulate.py`.
"""

from __future__ import annotations

import argparse
import csv
import logging
import math
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import optuna
import torch
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from ray.tune.schedulers import TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from text_recognizer.command import exit_code_of
from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import InputError, Problem
from tuning.ray_backend.local_cluster import OwnCluster
from tuning.ray_backend.scheduler import RecordingScheduler, make_asha
from tuning.ray_backend.searcher import StudySearcher
from tuning.run.folder import RunFolder
from tuning.run.options import Options
from tuning.run.resources import Slots
from tuning.space.reader import read_space
from tuning.space.schema import IntParameter
from tuning.space.search_space import SearchSpace
from tuning.study.search import Search
from tuning.study.study import Study
from tuning.trials.trial import ranking

HERE = Path(__file__).parent
SPACE = HERE.parent / "search_spaces" / "mlp.yaml"
WORKERS = 4
BUDGETS = (50, 100, 200, 400)
NEAR = 0.001  # "found": the best value so far is this close to the table's best
ENDLESS = 1_000_000  # trials: the budget of epochs ends a simulation
METRIC = "val_acc"

Floats = npt.NDArray[np.float64]


Lookup = Literal["nearest", "linear"]


@dataclass(frozen=True)
class Curves:
    """Recorded learning curves on a regular grid.

    `nearest` gives the curve of the nearest grid point in log space, a real one; proposals close to
    each other then tie, and ASHA stops no trial that ties. `linear` goes between the eight points
    around a proposal: no ties, but smoother than life. Neither has a value above the table's best.
    """

    axes: dict[str, Floats]  # name -> logarithms of the grid's values, rising
    values: Floats  # (values of the first axis, …, of the last axis, epochs)
    lookup: Lookup = "nearest"

    def at(self, params: Mapping[str, float]) -> list[float]:
        """The curve at a proposal: a value for each epoch."""
        places = [
            float(np.interp(math.log(params[name]), axis, np.arange(len(axis))))
            for name, axis in self.axes.items()
        ]
        if self.lookup == "nearest":
            return [float(value) for value in self.values[tuple(round(place) for place in places)]]
        found = self.values
        for place in places:  # the first axis that is left goes with each step
            below = min(int(place), len(found) - 2)
            found = found[below] + (place - below) * (found[below + 1] - found[below])
        return [float(value) for value in found]

    @property
    def best(self) -> float:
        return float(self.values.max())


def read_curves(path: Path, lookup: Lookup = "nearest") -> Curves:
    """The table that `record_curves.py` wrote. Raises `InputError` where a point of the grid is
    missing.
    """
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = list(csv.reader(file))
    names = [name for name in head if not name.startswith(METRIC) and name != "epoch_s"]
    columns = [i for i, name in enumerate(head) if name.startswith(METRIC)]
    table = np.array(rows, dtype=np.float64)
    axes = {name: np.unique(table[:, i]) for i, name in enumerate(names)}
    shape = [len(axis) for axis in axes.values()]
    if len(table) != math.prod(shape):
        raise InputError(
            Problem(str(path), f"a full grid of {math.prod(shape)} curves", str(len(table)))
        )
    in_order = table[np.lexsort([table[:, i] for i in reversed(range(len(names)))])]
    values = in_order[:, columns].reshape(*shape, len(columns))
    return Curves({name: np.log(axis) for name, axis in axes.items()}, values, lookup)


@dataclass
class SimulatedTrial:
    """What searcher and scheduler see of a Tune trial, and its curve."""

    trial_id: str
    config: dict[str, Any]
    curve: list[float]
    epochs: int = 0
    ended: bool = False

    @property
    def seen(self) -> list[float]:
        return self.curve[: self.epochs]


@dataclass
class Choice:
    """What an arm would hand over at the end: the parameters, and the score that its own
    leaderboard gives them.
    """

    params: dict[str, Any]
    announced: float


@dataclass
class Arm:
    """A searcher with a scheduler, and the choice that they make."""

    searcher: Any
    scheduler: Any
    choose: Callable[[], Choice]


@dataclass
class Outcome:
    """One simulation: the best value after each epoch spent, and the choice at the end."""

    best: list[float] = field(default_factory=list)
    trials: int = 0
    full: int = 0  # trials that were trained to their last epoch
    announced: float = 0.0
    best_ended: float = 0.0  # best epoch of all trials that ended
    chosen_in_full: float = 0.0  # best epoch of the chosen point, trained to the end


def our_arm(space: SearchSpace) -> Arm:
    """This project's: the study is kept in memory, nothing else differs."""
    study = Study(optuna.create_study(direction="maximize"), space, trials=ENDLESS)
    nothing = BaseDataset(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), torch.zeros(1).long())
    search = Search("ours", space, Options(), RunFolder(HERE), study, Slots(WORKERS, 1, 0), nothing)

    def choose() -> Choice:
        best = ranking(study.trials, study.objective)[0]
        return Choice(best.trial.params, best.value)

    return Arm(
        StudySearcher(search, OwnCluster(), lambda: False), RecordingScheduler(study), choose
    )


def stock_arm(space: SearchSpace) -> Arm:
    """Ray's own with its default sampler, and the same ASHA; drawn from only when a worker is
    free, as behind a limiter.
    """
    searcher = OptunaSearch(distributions(space), metric=METRIC, mode="max", seed=space.search.seed)

    def choose() -> Choice:
        best = searcher._ot_study.best_trial  # type: ignore[attr-defined]
        return Choice(best.params, best.value)

    return Arm(searcher, make_asha(space.search), choose)


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space as a user of OptunaSearch would write it down."""
    return {
        name: IntDistribution(int(p.low), int(p.high), log=p.log)
        if isinstance(p, IntParameter)
        else FloatDistribution(float(p.low), float(p.high), log=p.log)  # type: ignore[union-attr]
        for name, p in space.parameters.items()
    }


# name -> what it is, how it is made, what it overrides in mlp.yaml
ARMS: dict[str, tuple[str, Callable[[SearchSpace], Arm], dict[str, str]]] = {
    "ours": (
        "Study + StudySearcher + RecordingScheduler: TPE, ASHA, stopped trials told as PRUNED",
        our_arm,
        {},
    ),
    "stock": (
        "ray.tune's OptunaSearch (TPE) + AsyncHyperBandScheduler: stopped trials told as COMPLETE",
        stock_arm,
        {},
    ),
    "random": ("ours with `sampler: random`: random search + ASHA", our_arm, {"sampler": "random"}),
    "no ASHA": (
        "ours with `scheduler: none`: TPE, every trial trained to its end",
        our_arm,
        {"scheduler": "none"},
    ),
}


class Controller:
    """The calls that Tune's controller makes, in its order
    (`ray/tune/execution/tune_controller.py`).
    """

    def __init__(self, arm: Arm, curves: Curves) -> None:
        self.searcher, self.scheduler = arm.searcher, arm.scheduler
        self.curves = curves
        self.trials: list[SimulatedTrial] = []

    def start(self) -> SimulatedTrial:
        """Ask for a trial and run it."""
        trial_id = f"{len(self.trials):05}"
        config = self.searcher.suggest(trial_id)
        assert isinstance(config, dict), f"a free worker gets a trial, not {config}"
        trial = SimulatedTrial(trial_id, config, self.curves.at(config.get("params", config)))
        self.scheduler.on_trial_add(None, trial)
        self.trials.append(trial)
        return trial

    def train(self, trial: SimulatedTrial) -> None:
        """One epoch and what is made of it."""
        trial.epochs += 1
        result = {
            "epoch": trial.epochs,
            "training_iteration": trial.epochs,
            METRIC: trial.curve[trial.epochs - 1],
        }
        decision = self.scheduler.on_trial_result(None, trial, dict(result))
        trial.ended = decision == TrialScheduler.STOP or trial.epochs == len(trial.curve)
        # the searcher does not hear of the result that stops a trial …
        if decision != TrialScheduler.STOP:
            self.searcher.on_trial_result(trial.trial_id, dict(result))
        if trial.ended:  # … but it is the trial's last
            self.scheduler.on_trial_complete(None, trial, dict(result))
            self.searcher.on_trial_complete(trial.trial_id, result=dict(result))


def simulate(name: str, seed: int, curves: Curves) -> Outcome:
    """Spend the budget. Epochs are equally long, so that workers report in turn: first in, first
    out.
    """
    quiet()
    _, make, changes = ARMS[name]
    arm = make(space_with(seed, changes))
    controller = Controller(arm, curves)
    outcome = Outcome()
    working = deque(controller.start() for _ in range(WORKERS))
    for _ in range(max(BUDGETS)):
        trial = working.popleft()
        controller.train(trial)
        outcome.best.append(max(*outcome.best[-1:], trial.seen[-1], 0.0))
        working.append(controller.start() if trial.ended else trial)
    return finished(outcome, controller, arm.choose(), curves)


def finished(outcome: Outcome, controller: Controller, choice: Choice, curves: Curves) -> Outcome:
    """The outcome with what is known at the end."""
    ended = [trial for trial in controller.trials if trial.ended]
    outcome.trials = len(ended)
    outcome.full = sum(trial.epochs == len(trial.curve) for trial in ended)
    outcome.announced = choice.announced
    outcome.best_ended = max(max(trial.seen) for trial in ended)
    outcome.chosen_in_full = max(curves.at(choice.params))
    return outcome


def space_with(seed: int, changes: Mapping[str, str]) -> SearchSpace:
    """The project's MLP space without lab 1's point, which would be everybody's first answer."""
    values: dict[str, Any] = {"seed": seed, "start_with": [], **changes}
    return read_space(SPACE, {("search", key): (key, value) for key, value in values.items()})


def quiet() -> None:
    """Optuna says each trial, and what is experimental in Ray's use of it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray").setLevel(logging.ERROR)


def interval(differences: Floats) -> tuple[float, float]:
    """A 95 % bootstrap interval of the mean."""
    draws = np.random.default_rng(0).choice(differences, size=(10_000, len(differences)))
    low, high = np.percentile(draws.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


Results = dict[str, list[Outcome]]


def report(results: Results, curves: Curves) -> str:
    """All of it as Markdown."""
    seeds = len(next(iter(results.values())))
    lines = ["# Does honest reporting help?", ""]
    lines += [
        f"Made by `python benchmarks/simulate.py --seeds {seeds} --lookup {curves.lookup}` from"
    ]
    lines += [f"{math.prod(curves.values.shape[:-1])} curves of {curves.values.shape[-1]} epochs;"]
    lines += [
        (
            f"{WORKERS} simulated workers, {seeds} seeds, best {METRIC} of the table "
            f"{curves.best:.4f}."
        ),
        "",
    ]
    lines += [f"- **{name}**: {what}" for name, (what, _, _) in ARMS.items()]
    lines += [
        "",
        *quality(results, curves),
        *speed(results, curves),
        *paired(results, curves),
        *choices(results, curves),
    ]
    return "\n".join(lines)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table and a blank line."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines] + [""]


def at(outcomes: Sequence[Outcome], budget: int) -> Floats:
    """The best value after so many epochs, by seed."""
    return np.array([outcome.best[budget - 1] for outcome in outcomes])


def quality(results: Results, curves: Curves) -> list[str]:
    """How good the best is for what was spent."""
    rows = []
    for budget in BUDGETS:
        for name, outcomes in results.items():
            values = at(outcomes, budget)
            low, middle, high = np.percentile(values, [25, 50, 75])
            cells = [values.mean(), middle, low, high, curves.best - values.mean()]
            rows.append([str(budget), name, *(f"{cell:.5f}" for cell in cells)])
    head = ["epochs", "arm", "mean", "median", "lower quartile", "upper quartile", "mean regret"]
    return [f"## Best {METRIC} against epochs spent", "", *markdown(head, rows)]


def epochs_to(outcome: Outcome, value: float) -> int | None:
    """How many epochs it took to see `value`, or None."""
    return next((spent for spent, best in enumerate(outcome.best, 1) if best >= value), None)


def speed(results: Results, curves: Curves) -> list[str]:
    """How soon the best is nearly found."""
    rows = []
    for name, outcomes in results.items():
        needed = [epochs_to(outcome, curves.best - NEAR) for outcome in outcomes]
        capped = np.array([max(BUDGETS) if epochs is None else epochs for epochs in needed])
        found = sum(epochs is not None for epochs in needed)
        trials, full = (
            float(np.mean([getattr(outcome, what) for outcome in outcomes]))
            for what in ("trials", "full")
        )
        rows.append(
            [
                name,
                f"{found}/{len(needed)}",
                f"{capped.mean():.0f}",
                f"{np.median(capped):.0f}",
                f"{trials:.0f}",
                f"{full:.1f}",
            ]
        )
    head = [
        "arm",
        "seeds that found it",
        "mean epochs",
        "median epochs",
        "trials ended",
        "of them trained in full",
    ]
    title = (
        f"## Epochs until within {NEAR} of the table's best ({max(BUDGETS)} where it was not found)"
    )
    return [title, "", *markdown(head, rows)]


def paired(results: Results, curves: Curves) -> list[str]:
    """Ours minus each other one, seed by seed."""
    rows = []
    for other in [name for name in results if name != "ours"]:
        for budget in BUDGETS:
            differences = at(results["ours"], budget) - at(results[other], budget)
            low, high = interval(differences)
            won, lost = int((differences > 0).sum()), int((differences < 0).sum())
            score = f"{won} / {lost} / {len(differences) - won - lost}"
            rows.append(
                [
                    other,
                    str(budget),
                    f"{differences.mean():+.5f}",
                    f"{low:+.5f} to {high:+.5f}",
                    score,
                ]
            )
    head = [
        "ours minus",
        "epochs",
        "mean difference",
        "95 % interval (bootstrap)",
        "won / lost / tied",
    ]
    return [f"## Paired differences in best {METRIC}", "", *markdown(head, rows)]


def choices(results: Results, curves: Curves) -> list[str]:
    """What each would hand over after the last epoch."""
    rows = []
    for name, outcomes in results.items():
        columns = ("announced", "best_ended", "chosen_in_full")
        announced, ended, full = (
            np.array([getattr(outcome, column) for outcome in outcomes]) for column in columns
        )
        missed = int((ended > announced).sum())
        cells = [
            announced.mean(),
            (ended - announced).mean(),
            full.mean(),
            curves.best - full.mean(),
        ]
        rows.append([name, *(f"{cell:.5f}" for cell in cells), f"{missed}/{len(outcomes)}"])
    head = [
        "arm",
        "announced",
        "best epoch of all ended trials minus announced",
        "chosen point trained in full",
        "its regret",
        "seeds with a better epoch than announced",
    ]
    return [
        f"## The trial that each one's own leaderboard names after {max(BUDGETS)} epochs",
        "",
        *markdown(head, rows),
    ]


def main() -> int:
    """Simulate every arm with every seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--curves", type=Path, default=HERE / "mnist_mlp_curves.csv", metavar="FILE"
    )
    parser.add_argument(
        "--lookup",
        choices=get_args(Lookup),
        default="nearest",
        help="the curve between the grid's points",
    )
    parser.add_argument("--seeds", type=int, default=20, metavar="N")
    parser.add_argument(
        "--processes", type=int, default=2, metavar="N", help="simulations at once (default 2)"
    )
    parser.add_argument("--to", type=Path, default=HERE / "simulation.md", metavar="FILE")
    flags = parser.parse_args()
    curves = read_curves(flags.curves, flags.lookup)
    jobs = [(name, seed) for name in ARMS for seed in range(flags.seeds)]
    with ProcessPoolExecutor(flags.processes) as pool:
        outcomes = list(pool.map(partial(simulate, curves=curves), *zip(*jobs, strict=True)))
    results: Results = {
        name: [o for (arm, _), o in zip(jobs, outcomes, strict=True) if arm == name]
        for name in ARMS
    }
    text = report(results, curves)
    flags.to.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
