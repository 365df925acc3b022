"""What a result costs the driver, and whether that grows: `python benchmarks/bench_driver.py`.

1,000 trials of five results each, a formula in place of training, on a real local Ray of two CPUs. The study is a SQLite file in
a temporary folder and is followed by what follows a search: retention, summary and table, console (quiet). Prints Markdown.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import json
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from text_recognizer.errors import exit_code_of
from tuning import engine
from tuning.checkpoints import Retention
from tuning.cluster import Daemons, own_cluster
from tuning.console import SearchConsole
from tuning.curves import Curves
from tuning.options import Options
from tuning.record import create_record, sqlite_url
from tuning.reporting import Report, to_its_end
from tuning.resources import Node, Slots
from tuning.results import Epoch, Outcome, Trial
from tuning.run_folder import create_run
from tuning.session import Session
from tuning.space import read_space
from tuning.study import Study

EPOCHS = 5
SPACE = """
experiment: {model_class: MLP, data_class: Digits}
space:
  fc1: {type: int, low: 32, high: 1024, log: true}
  fc2: {type: int, low: 16, high: 512, log: true}
  lr: {type: float, low: 1e-4, high: 1e-1, log: true}
search: {trials: TRIALS, max_epochs: EPOCHS, scheduler: none}
"""


def formula(config: dict[str, Any], *, epochs: int) -> None:
    """A trial without training and without checkpoints."""
    to_its_end(lambda report: curve(config["params"], epochs, report))


def curve(params: dict[str, Any], epochs: int, report: Report) -> None:
    quality = 1 - abs(params["lr"] - 3e-3) - 10 / params["fc1"] - 1 / params["fc2"]
    for epoch in range(1, epochs + 1):
        report({"epoch": epoch, "val_acc": quality * (1 - 0.5**epoch), "val_loss": 1 - quality})


@dataclass
class Spent:
    """Seconds that one kind of work took, call by call; `wall` and `cpu` leave out the measured work that it called."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # of the driver's main thread
    whole: list[float] = field(default_factory=list)  # wall, with all that it called


@dataclass(frozen=True)
class Mark:
    """The driver's state when so many trials had ended."""

    ended: int
    results: int
    wall: float  # seconds
    cpu: float  # seconds of the driver's main thread
    all_cpu: float  # seconds of all its threads: Ray has some of its own
    resident: float  # MB
    calls: dict[str, int]  # measured calls so far


class Meter:
    """Measures named work inside the driver's main thread, and marks the end of each trial."""

    def __init__(self) -> None:
        self.spent: dict[str, Spent] = defaultdict(Spent)
        self.marks: dict[int, Mark] = {}
        self.results = 0
        self._inner = [(0.0, 0.0)]  # what measured work inside the one that goes on took so far

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        start = time.perf_counter(), time.thread_time()
        self._inner.append((0.0, 0.0))
        try:
            yield
        finally:
            wall, cpu = time.perf_counter() - start[0], time.thread_time() - start[1]
            inner_wall, inner_cpu = self._inner.pop()
            outer_wall, outer_cpu = self._inner[-1]
            self._inner[-1] = outer_wall + wall, outer_cpu + cpu
            spent = self.spent[name]
            spent.wall.append(wall - inner_wall)
            spent.cpu.append(cpu - inner_cpu)
            spent.whole.append(wall)

    def listener(self, name: str, listener: Callable[[Trial], None]) -> Callable[[Trial], None]:
        """The same listener, measured."""

        def measured(trial: Trial) -> None:
            with self.measured(name):
                listener(trial)

        return measured

    def on_change(self, trial: Trial) -> None:
        """The last listener: counts, and marks."""
        if trial.outcome:
            calls = {name: len(spent.whole) for name, spent in self.spent.items()}
            times = time.perf_counter(), time.thread_time(), time.process_time()
            ended = len(self.marks) + 1
            self.marks[ended] = Mark(ended, self.results, *times, resident_mb(), calls)


class MeasuredStudy(Study):
    """The study, its three calls measured."""

    meter: Meter

    def next_trial(self) -> Trial | None:
        with self.meter.measured("ask for a trial (TPE over all trials)"):
            return super().next_trial()

    def record_epoch(self, number: int, epoch: Epoch) -> None:
        with self.meter.measured("record an epoch"):
            super().record_epoch(number, epoch)
        self.meter.results += 1

    def close(self, number: int, outcome: Outcome, cause: str = "") -> None:
        with self.meter.measured("tell how a trial ended"):
            super().close(number, outcome, cause)


class Windowed:
    """A listener that profiles the driver while the trials from `first` to `last` end."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.ended = 0
        self.profile = cProfile.Profile()

    def on_change(self, trial: Trial) -> None:
        self.ended += trial.outcome is not None
        if trial.outcome and self.ended == self.first:
            self.profile.enable()
        elif trial.outcome and self.ended == self.last:
            self.profile.disable()

    def text(self, lines: int) -> str:
        """The calls that took most of their own time, then those that took most with all they called."""
        text = io.StringIO()
        stats = pstats.Stats(self.profile, stream=text)
        stats.sort_stats("tottime").print_stats(lines)
        stats.sort_stats("cumulative").print_stats(lines)
        return text.getvalue()


def resident_mb() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def run(trials: int, count: int, folder: Path, meter: Meter, profiles: list[Windowed]) -> float:
    """The search; returns its wall seconds, Ray's start and end left out."""
    file = folder / "space.yaml"
    file.write_text(SPACE.replace("TRIALS", str(trials)).replace("EPOCHS", str(EPOCHS)))
    space = read_space(file)
    run_folder = create_run(folder / "runs", "bench", "formula")
    study = MeasuredStudy(create_record(sqlite_url(run_folder.study), space, "bench"), space, trials=trials)
    study.meter = meter
    slots = Slots(count, 1, 0)
    console = SearchConsole(space, trials, quiet=True)
    options = Options(dashboard=False, quiet=True)
    session = Session(options, "formula", space, run_folder, study, console, Node(slots.count, 0), slots)
    follow(study, session, meter, profiles)
    with own_cluster(dashboard=False, num_cpus=slots.count):
        start = time.perf_counter()
        engine.run_study(
            study,
            formula,
            slots,
            run_folder.ray,
            logs=run_folder.logs,
            name="formula",
            interrupt=session.interrupt,
            daemons=Daemons(),
            shared={"epochs": EPOCHS},
        )
        wall = time.perf_counter() - start
    assert [len(trial.epochs) for trial in study.trials] == [EPOCHS] * trials, "every trial was trained to its end"
    return wall


def follow(study: Study, session: Session, meter: Meter, profiles: list[Windowed]) -> None:
    """The listeners of a real session, measured; then those of this benchmark."""
    retention = Retention(study, session.folder.checkpoints, session.options.keep)
    curves = Curves(session.folder.tensorboard, study.metric, study.mode, session.console.note)
    study.listeners += [
        meter.listener("retention: which checkpoints stay", retention.on_change),
        meter.listener("summary.json, trials.csv, live report", session.findings.on_change),
        meter.listener("curves for TensorBoard", curves.on_change),
        meter.listener("console", session.console.on_change),
        meter.on_change,
        *(profile.on_change for profile in profiles),
    ]


@dataclass(frozen=True)
class Window:
    """What happened between two marks."""

    before: Mark
    after: Mark

    @property
    def results(self) -> int:
        return self.after.results - self.before.results

    def per_result(self, clock: str) -> float:
        """Milliseconds of `wall`, `cpu` or `all_cpu` per result."""
        return 1000 * (float(getattr(self.after, clock)) - float(getattr(self.before, clock))) / self.results

    def share(self, clock: str, name: str, spent: Spent) -> float:
        """Milliseconds of `wall` or `cpu` per result that one kind of work took."""
        calls = slice(self.before.calls.get(name, 0), self.after.calls.get(name, 0))
        return 1000 * float(sum(getattr(spent, clock)[calls])) / self.results


def report(meter: Meter, early: Window, late: Window, wall: float) -> str:
    """All figures as Markdown."""
    trials = len(meter.marks)
    recording = statistics.median(meter.spent["record an epoch"].whole) * 1000
    lines = [f"{trials} trials x {EPOCHS} results in {wall:.0f} s; load average now {os.getloadavg()[0]:.1f}", ""]
    spans = [f"trials {window.before.ended}-{window.after.ended}" for window in (early, late)]
    lines += table(["driver, ms per result", *spans, "ratio"], list(rows(meter, early, late)))
    growth = late.after.resident - early.after.resident
    lines += [
        f"- resident memory: {early.after.resident:.0f} MB, then {late.after.resident:.0f} MB: {growth:+.0f} MB (target < 100)"
    ]
    lines += [f"- Study.record_epoch, median of {meter.results}: {recording:.1f} ms (target < 15)"]
    ratios = {clock: late.per_result(clock) / early.per_result(clock) for clock in ("all_cpu", "wall")}
    lines += [f"- per result, late to early: CPU x {ratios['all_cpu']:.2f}, wall x {ratios['wall']:.2f} (target <= 1.5)"]
    return "\n".join(lines)


def rows(meter: Meter, early: Window, late: Window) -> Iterator[list[str]]:
    """Everything, then what it consists of; the rest is Ray Tune and its waiting."""
    yield line("CPU, all threads", early.per_result("all_cpu"), late.per_result("all_cpu"))
    for clock, title in (("cpu", "CPU, main thread"), ("wall", "wall")):
        yield line(title, early.per_result(clock), late.per_result(clock))
        shares = {name: [window.share(clock, name, spent) for window in (early, late)] for name, spent in meter.spent.items()}
        for name, share in shares.items():
            yield line(f"{title}: {name}", *share)
        measured = [sum(column) for column in zip(*shares.values(), strict=True)]
        rest = [window.per_result(clock) - known for window, known in zip((early, late), measured, strict=True)]
        yield line(f"{title}: the rest (Ray Tune{', waiting for workers' if clock == 'wall' else ''})", *rest)


def line(name: str, early: float, late: float) -> list[str]:
    return [name, f"{early:.2f}", f"{late:.2f}", f"{late / early:.2f}" if early else ""]


def table(head: list[str], cells: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *cells]] + [""]


def figures(meter: Meter, windows: list[Window], slots: int) -> dict[str, Any]:
    """What `bench.py` keeps, one number for each window: CPU in ms per result, ours and Ray's, and the driver's memory in MB."""
    ours = [sum(window.share("cpu", name, spent) for name, spent in meter.spent.items()) for window in windows]
    everything = [window.per_result("all_cpu") for window in windows]
    return {
        "slots": slots,
        "trials": [window.after.ended for window in windows],
        "ours_cpu_ms": ours,
        "ray_cpu_ms": [whole - own for whole, own in zip(everything, ours, strict=True)],
        "wall_ms": [window.per_result("wall") for window in windows],
        "memory_mb": [window.after.resident for window in windows],
    }


def main() -> int:
    """Run, then print; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, metavar="N", help="at least 100 (default 1000)")
    parser.add_argument("--slots", type=int, default=2, metavar="N", help="trials at once (default 2)")
    parser.add_argument("--profile", action="store_true", help="profile both windows as well; the figures are then too high")
    flags = parser.parse_args()
    bounds = [(25, 75), (flags.trials - 25, flags.trials)]
    profiles = [Windowed(*bound) for bound in bounds] if flags.profile else []
    meter = Meter()
    with tempfile.TemporaryDirectory(prefix="bench-driver-") as folder:
        wall = run(flags.trials, flags.slots, Path(folder), meter, profiles)
    early, late = (Window(meter.marks[first], meter.marks[last]) for first, last in bounds)
    print(report(meter, early, late, wall))
    for (first, last), profile in zip(bounds, profiles, strict=bool(profiles)):
        print(f"\nProfile while trials {first}-{last} ended\n{profile.text(25)}")
    print(json.dumps(figures(meter, [early, late], flags.slots)))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
