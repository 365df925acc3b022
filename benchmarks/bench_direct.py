"""How the cost of a search grows with its trials, without Ray: `python -m benchmarks.bench_direct`.

Searcher, scheduler and study are called as Tune's controller calls them, for 10,000 trials of a
formula in 16 virtual slots; the study is a SQLite file in a temporary folder and is followed by
what follows a search. Then what happens once: a frame of the terminal's table, the last report, a
resume. Prints Markdown; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from ray.tune.schedulers import TrialScheduler

from benchmarks.formula import result_of
from benchmarks.meter import (
    LIMITS,
    Followed,
    Meter,
    Window,
    Windowed,
    buckets,
    figures,
    followed,
    grown,
    table,
    tables,
)
from text_recognizer.command import exit_code_of
from tuning.callbacks.tensorboard import Curves
from tuning.ray_backend.local_cluster import OwnCluster
from tuning.ray_backend.scheduler import RecordingScheduler
from tuning.ray_backend.searcher import StudySearcher
from tuning.study.optuna_record import load_record
from tuning.study.storage import sqlite_url
from tuning.study.study import Study

GROWN = 60  # functions of a profile


@dataclass
class VirtualTrial:
    """What searcher and scheduler see of a Tune trial."""

    trial_id: str
    config: dict[str, Any]
    epoch: int = 0


class Controller:
    """The calls that Tune's controller makes, in its order
    (`ray/tune/execution/tune_controller.py`); slots report in turn.
    """

    def __init__(self, ground: Followed, meter: Meter) -> None:
        self.slots = ground.search.slots.count
        self.searcher = StudySearcher(ground.search, OwnCluster(), lambda: False)
        self.scheduler = RecordingScheduler(ground.study)
        ask = self.scheduler.asha.on_trial_result

        def measured(*arguments: Any) -> Any:
            with meter.measured("ask ASHA (the rung's values)"):
                return ask(*arguments)

        self.scheduler.asha.on_trial_result = measured
        self.live: deque[VirtualTrial] = deque()
        self._ids = count()

    def run(self) -> None:
        """Until the study has no more trials."""
        self.fill()
        while self.live:
            self.train(self.live.popleft())
            self.fill()

    def fill(self) -> None:
        """Start a trial in each free slot."""
        while len(self.live) < self.slots:
            trial_id = f"{next(self._ids):05}"
            config = self.searcher.suggest(trial_id)
            if not isinstance(config, dict):
                return
            self.live.append(VirtualTrial(trial_id, config))
            self.scheduler.on_trial_add(None, self.live[-1])  # type: ignore[arg-type]

    def train(self, trial: VirtualTrial) -> None:
        """One epoch and what is made of it."""
        trial.epoch += 1
        result = {
            **result_of(trial.config["params"], trial.epoch),
            "training_iteration": trial.epoch,
        }
        decision = self.scheduler.on_trial_result(None, trial, result)  # type: ignore[arg-type]
        if decision == TrialScheduler.STOP:
            self.scheduler.on_trial_complete(None, trial, result)  # type: ignore[arg-type]
            self.searcher.on_trial_complete(trial.trial_id, result)
        else:
            self.searcher.on_trial_result(trial.trial_id, result)
            self.live.append(trial)


class Once:
    """Milliseconds of work that is not done for each result."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.ms[name] = 1000 * (time.process_time() - start)


def afterwards(ground: Followed) -> dict[str, float]:
    """CPU milliseconds of what a search of so many trials does once, or at its own pace."""
    once, study = Once(), ground.study
    ground.console.quiet = False
    with once.timed("a frame of the terminal's table (4 a second)"):
        ground.table._now()
    with once.timed("the last report, with importances"):
        ground.findings.write_unfinished("interrupted", "the end of the benchmark")
    with once.timed("resume: load the study"):
        record = load_record(sqlite_url(ground.search.folder.study), "bench")
        again = Study(record, study.space, trials=study.wanted)
    with once.timed("resume: fill ASHA's rungs"):
        RecordingScheduler(again)
    with once.timed("resume: look through the curves"):
        Curves(ground.search.folder.tensorboard, study.objective, ground.console.note).catch_up(
            again.trials
        )
    assert str(again.trials) == str(study.trials), "what is in memory is what is on disk"
    return once.ms


def main() -> int:
    """Run, then print; the last line is JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=10_000, metavar="N", help="default 10000")
    parser.add_argument(
        "--epochs", type=int, default=5, metavar="N", help="of a trial, at most (default 5)"
    )
    parser.add_argument(
        "--slots", type=int, default=16, metavar="N", help="trials at once (default 16)"
    )
    parser.add_argument("--sampler", choices=["gp", "tpe", "random"], default="tpe")
    parser.add_argument(
        "--scheduler",
        choices=["asha", "none"],
        default="asha",
        help="none: every trial reports all its epochs",
    )
    parser.add_argument(
        "--limits",
        action="store_true",
        help="with every limit of `search.stop`, none of which is reached",
    )
    parser.add_argument(
        "--bucket",
        type=int,
        default=1000,
        metavar="N",
        help="figures for each N trials (default 1000)",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="profile first and last bucket as well; the figures are too high",
    )
    parser.add_argument("--loop-only", action="store_true", help="leave out what is done once")
    flags = parser.parse_args()
    bounds = buckets(flags.trials, flags.bucket)
    profiles = (
        [Windowed(*bound) for bound in dict.fromkeys((bounds[0], bounds[-1]))]
        if flags.profile
        else []
    )
    meter = Meter([edge for bound in bounds for edge in bound])
    search = {name: getattr(flags, name) for name in ("trials", "epochs", "sampler", "scheduler")}
    with tempfile.TemporaryDirectory(prefix="bench-direct-") as folder:
        ground = followed(
            Path(folder),
            meter,
            flags.slots,
            profiles,
            **search,
            stop=LIMITS if flags.limits else "{}",
        )
        controller = Controller(ground, meter)
        start = time.perf_counter()
        meter.mark()
        controller.run()
        wall = time.perf_counter() - start
        assert meter.ended == flags.trials, ground.study.stop_reason
        windows = [Window(meter.marks[first], meter.marks[last]) for first, last in bounds]
        print(
            f"{meter.ended} trials, {meter.results} results in {wall:.0f} s; load average now "
            f"{os.getloadavg()[0]:.1f}\n"
        )
        print("\n".join(tables(meter, windows)), flush=True)
        if flags.profile:
            print(
                f"what grew from trials {bounds[0][0]}-{bounds[0][1]} to "
                f"{bounds[-1][0]}-{bounds[-1][1]}\n"
            )
            print("\n".join(grown(profiles[0], profiles[-1], GROWN)), flush=True)
        once = {} if flags.loop_only else afterwards(ground)
    if once:
        cells = [[name, f"{ms:.0f}"] for name, ms in once.items()]
        print("\n".join(table([f"once, with {meter.ended} trials", "CPU, ms"], cells)))
    found = figures(meter, windows, flags.slots) | {
        "wall_s": wall,
        "once_ms": once,
        "asked": vars(flags),
    }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
