"""What a result costs the driver, and whether that grows: `python -m benchmarks.bench_driver`.

1,000 trials of five results each, a formula in place of training, on a real local Ray of as many
logical CPUs as there are slots. The study is a SQLite file in a temporary folder and is followed by
what follows a search: retention, summary and table, live report, curves, console (quiet). Prints
Markdown; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.formula import result_of
from benchmarks.meter import Meter, Window, Windowed, buckets, figures, followed, tables
from text_recognizer.command import exit_code_of
from tuning.ray_backend.local_cluster import own_cluster
from tuning.ray_backend.signals import Interruptions
from tuning.ray_backend.tune_run import run_trials
from tuning.run.resources import Node
from tuning.worker.guard import Report, run_guarded

# trials on either side of the 50th, and at the end: what is compared where no buckets are asked for
AROUND = 25


def formula(config: dict[str, Any], *, epochs: int) -> None:
    """A trial without training and without checkpoints."""
    run_guarded(lambda report: curve(config["params"], epochs, report))


def curve(params: dict[str, Any], epochs: int, report: Report) -> None:
    for epoch in range(1, epochs + 1):
        report(result_of(params, epoch))


def run(
    trials: int, epochs: int, count: int, folder: Path, meter: Meter, profiles: list[Windowed]
) -> float:
    """The search; returns its wall seconds, Ray's start and end left out."""
    search = {
        "trials": trials,
        "epochs": epochs,
        "sampler": "tpe",
        "scheduler": "none",
        "stop": "{}",
    }
    ground = followed(folder, meter, count, profiles, **search)
    with own_cluster(Node(count, 0), dashboard=False) as cluster:
        start = time.perf_counter()
        meter.mark()
        run_trials(ground.search, formula, {"epochs": epochs}, cluster, Interruptions())
        wall = time.perf_counter() - start
    assert [len(trial.epochs) for trial in ground.study.trials] == [epochs] * trials, (
        "every trial was trained to its end"
    )
    return wall


def report(meter: Meter, windows: list[Window], found: dict[str, Any], wall: float) -> str:
    """All figures as Markdown."""
    early, late = windows[0], windows[-1]
    lines = [
        (
            f"{meter.ended} trials, {meter.results} results in {wall:.0f} s; load average now "
            f"{os.getloadavg()[0]:.1f}"
        ),
        "",
    ]
    lines += tables(meter, windows)
    growth = late.after.resident - early.after.resident
    lines += [
        f"- resident memory: {meter.marks[0].resident:.0f} MB at the start, "
        f"{early.after.resident:.0f} MB after "
        f"{early.after.ended} trials, then {late.after.resident:.0f} MB: {growth:+.0f} MB "
        "(target < 100 for 1,000 trials)"
    ]
    lines += [
        (
            f"- Study.record_epoch, median of {meter.results}: {found['record_epoch_ms']:.1f} ms "
            "(target < 15)"
        )
    ]
    ratios = {
        clock: late.per_result(clock) / early.per_result(clock) for clock in ("all_cpu", "wall")
    }
    lines += [
        (
            f"- per result, late to early: CPU x {ratios['all_cpu']:.2f}, wall x "
            f"{ratios['wall']:.2f} (target <= 1.5)"
        )
    ]
    return "\n".join(lines)


def main() -> int:
    """Run, then print; the last line is JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--trials", type=int, default=1000, metavar="N", help="at least 100 (default 1000)"
    )
    parser.add_argument(
        "--epochs", type=int, default=5, metavar="N", help="results of a trial (default 5)"
    )
    parser.add_argument(
        "--slots",
        type=int,
        default=2,
        metavar="N",
        help="trials at once, one logical CPU each (default 2)",
    )
    parser.add_argument(
        "--bucket",
        type=int,
        metavar="N",
        help="figures for each N trials, not around the 50th and at the end",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="profile first and last window as well; the figures are too high",
    )
    flags = parser.parse_args()
    around = [(AROUND, 3 * AROUND), (flags.trials - AROUND, flags.trials)]
    bounds = buckets(flags.trials, flags.bucket) if flags.bucket else around
    profiles = (
        [Windowed(*bound) for bound in dict.fromkeys((bounds[0], bounds[-1]))]
        if flags.profile
        else []
    )
    meter = Meter([edge for bound in bounds for edge in bound])
    with tempfile.TemporaryDirectory(prefix="bench-driver-") as folder:
        wall = run(flags.trials, flags.epochs, flags.slots, Path(folder), meter, profiles)
    windows = [Window(meter.marks[first], meter.marks[last]) for first, last in bounds]
    found = figures(meter, windows, flags.slots) | {
        "wall_s": wall,
        "memory_at_start_mb": meter.marks[0].resident,
    }
    print(report(meter, windows, found, wall))
    for profile in profiles:
        print(f"\nProfile while trials {profile.first}-{profile.last} ended\n{profile.text(25)}")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
