"""What the driver spends on a search, by what it was spent on: a study and its callbacks,
measured, and tables of it.
"""

from __future__ import annotations

import cProfile
import io
import os
import pstats
import statistics
import time
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from text_recognizer.data.util import BaseDataset
from tuning.callbacks.artifacts import Artifacts
from tuning.callbacks.console import SearchConsole, TrialTable
from tuning.callbacks.retention import Retention
from tuning.callbacks.tensorboard import Curves
from tuning.run.environment import environment
from tuning.run.files import Summary
from tuning.run.folder import RunFolder, create_run
from tuning.run.options import Options
from tuning.run.reading import write_model
from tuning.run.resources import Slots
from tuning.space.reader import read_space
from tuning.study.optuna_record import create_record
from tuning.study.search import Search
from tuning.study.storage import sqlite_url
from tuning.study.study import Callback, Study
from tuning.trials.trial import Epoch, Outcome, Trial

KEEP = 3
SPACE = """
experiment: {{model_class: MLP, data_class: Digits}}
space:
  fc1: {{type: int, low: 32, high: 1024, log: true}}
  fc2: {{type: int, low: 16, high: 512, log: true}}
  lr: {{type: float, low: 1e-4, high: 1e-1, log: true}}
search: {{trials: {trials}, max_epochs: {epochs}, sampler: {sampler}, scheduler: {scheduler}, stop: {stop}}}
"""
# all of them, none reached
LIMITS = "{epochs: 1000000000, time: 1000h, gpu_hours: 1000000, target: 1, plateau: 1000000}"
RECORD = "record an epoch"
LONG_MS = 100  # a call that is worth a row of its own
MB = 1e6  # bytes


@dataclass
class Spent:
    """Seconds that one kind of work took so far; `wall` and `cpu` leave out the measured work
    that it called.
    """

    wall: float = 0.0
    cpu: float = 0.0  # of the driver's main thread
    # wall, with all that it called, call by call
    whole: array[float] = field(default_factory=lambda: array("d"))


@dataclass(frozen=True)
class Mark:
    """The driver's state when so many trials had ended."""

    ended: int
    results: int
    wall: float  # seconds
    cpu: float  # seconds of the driver's main thread
    all_cpu: float  # seconds of all its threads: Ray has some of its own
    resident: float  # MB
    files: dict[str, float]  # MB
    spent: dict[str, tuple[float, float, int]]  # kind of work -> seconds `wall` and `cpu`, calls


class Meter:
    """Measures named work inside the driver's main thread, and marks the state when so many trials
    had ended.

    Args:
        edges: when to mark it; 0 is the start, to be marked by `mark`.
    """

    def __init__(self, edges: Sequence[int]) -> None:
        self.edges = set(edges)
        self.spent: dict[str, Spent] = defaultdict(Spent)
        self.marks: dict[int, Mark] = {}
        self.results = 0
        self.ended = 0
        self.folder: RunFolder | None = None
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
            spent.wall += wall - inner_wall
            spent.cpu += cpu - inner_cpu
            spent.whole.append(wall)

    def measuring(self, name: str, callback: Callback) -> Callback:
        """A callback, measured."""
        return MeasuredCallback(self, name, callback)

    def on_change(self, trial: Trial) -> None:
        """The last callback: counts, and marks."""
        if trial.outcome:
            self.ended += 1
            if self.ended in self.edges:
                self.mark()

    def mark(self) -> None:
        spent = {
            name: (spent.wall, spent.cpu, len(spent.whole)) for name, spent in self.spent.items()
        }
        files = sizes(self.folder) if self.folder else {}
        times = time.perf_counter(), time.thread_time(), time.process_time()
        self.marks[self.ended] = Mark(self.ended, self.results, *times, resident_mb(), files, spent)


@dataclass
class MeasuredCallback:
    """A callback whose time is measured under a name."""

    meter: Meter
    name: str
    callback: Callback

    def on_change(self, trial: Trial) -> None:
        with self.meter.measured(self.name):
            self.callback.on_change(trial)


class MeasuredStudy(Study):
    """The study, its three calls measured."""

    meter: Meter

    def next_trial(self) -> Trial | None:
        with self.meter.measured("ask for a trial (the sampler over all trials)"):
            return super().next_trial()

    def record_epoch(self, number: int, epoch: Epoch) -> None:
        with self.meter.measured(RECORD):
            super().record_epoch(number, epoch)
        self.meter.results += 1

    def close(self, number: int, outcome: Outcome, cause: str = "", log: str = "") -> None:
        with self.meter.measured("tell how a trial ended"):
            super().close(number, outcome, cause, log)


class MeasuredFindings(Artifacts):
    """The files of a run; summary and table are measured apart from the live report."""

    meter: Meter

    def write_summary(self, status: str, stop_reason: str | None = None) -> Summary:
        with self.meter.measured("summary.json, trials.csv"):
            return super().write_summary(status, stop_reason)


class Windowed:
    """A callback that profiles the driver while the trials from `first` to `last` end."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.ended = 0
        self.profile = cProfile.Profile(time.thread_time)

    def on_change(self, trial: Trial) -> None:
        self.ended += trial.outcome is not None
        if trial.outcome and self.ended == max(1, self.first):
            self.profile.enable()
        elif trial.outcome and self.ended == self.last:
            self.profile.disable()

    @property
    def trials(self) -> int:
        return self.last - max(1, self.first)

    def text(self, lines: int) -> str:
        """The calls that took most of their own time, then those that took most with all they
        called.
        """
        text = io.StringIO()
        stats = pstats.Stats(self.profile, stream=text)
        stats.sort_stats("tottime").print_stats(lines)
        stats.sort_stats("cumulative").print_stats(lines)
        return text.getvalue()


def grown(early: Windowed, late: Windowed, lines: int) -> list[str]:
    """The functions that take longest to be done with a trial, compared to an earlier one, as a
    Markdown table.

    With all that they call: of a chain of calls the innermost is why.
    """
    before, after = (pstats.Stats(profile.profile).stats for profile in (early, late))  # type: ignore[attr-defined]
    cells = []
    for place, (_, calls, own, whole, _) in after.items():
        _, _, own_before, whole_before, _ = before.get(place, (0, 0, 0.0, 0.0, {}))
        times = [1000 * part / late.trials for part in (whole, own)]
        gained = [
            now - 1000 * then / early.trials
            for now, then in zip(times, (whole_before, own_before), strict=True)
        ]
        cells.append(
            (
                gained[0],
                [
                    named(*place),
                    f"{calls / late.trials:.1f}",
                    *(f"{ms:.2f}" for ms in (*times, *gained)),
                ],
            )
        )
    cells.sort(key=lambda cell: -cell[0])
    head = [
        "function",
        "calls a trial",
        "ms a trial",
        "thereof its own",
        "gained",
        "thereof its own",
    ]
    return table(head, [row for _, row in cells[:lines]])


def named(file: str, number: int, function: str) -> str:
    """A function as a profile has it, its file shortened to what follows the environment or the
    repository.
    """
    short = file.split("site-packages/")[-1].removeprefix(f"{Path.cwd()}/")
    return f"{short}:{number} {function}".replace("|", "\\|")


@dataclass(frozen=True)
class Followed:
    """A new study on disk, and what follows a search."""

    search: Search
    study: MeasuredStudy
    findings: MeasuredFindings
    console: SearchConsole
    table: TrialTable


def followed(
    folder: Path, meter: Meter, slots: int, profiles: Sequence[Windowed], **search: Any
) -> Followed:
    """A study in SQLite in a run's folder, with the callbacks of a real search, measured; then
    those of a benchmark.

    Args:
        search: what `SPACE` leaves open.
    """
    file = folder / "space.yaml"
    file.write_text(SPACE.format(**search))
    space = read_space(file)
    run = create_run(folder / "runs", "bench", "formula")
    write_model(run.environment, environment())
    study = MeasuredStudy(
        create_record(sqlite_url(run.study), space, "bench"), space, trials=space.search.trials
    )
    console = SearchConsole(quiet=True)
    table = TrialTable(console, study, slots)
    nothing = BaseDataset(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), torch.zeros(1).long())
    search_value = Search("bench", space, Options(), run, study, Slots(slots, 1, 0), nothing)
    findings = MeasuredFindings(search_value)
    study.meter = findings.meter = meter
    meter.folder = run
    study.callbacks += [
        meter.measuring(
            "retention: which checkpoints stay", Retention(study, run.checkpoints, KEEP)
        ),
        meter.measuring("live report", findings),
        meter.measuring(
            "curves for TensorBoard", Curves(run.tensorboard, study.objective, console.note)
        ),
        meter.measuring("console", table),
        meter,
        *profiles,
    ]
    return Followed(search_value, study, findings, console, table)


@dataclass(frozen=True)
class Window:
    """What happened between two marks."""

    before: Mark
    after: Mark

    @property
    def results(self) -> int:
        return self.after.results - self.before.results

    @property
    def trials(self) -> int:
        return self.after.ended - self.before.ended

    def per_result(self, clock: str) -> float:
        """Milliseconds of `wall`, `cpu` or `all_cpu` per result."""
        return (
            1000
            * (float(getattr(self.after, clock)) - float(getattr(self.before, clock)))
            / self.results
        )

    def share(self, clock: str, name: str) -> float:
        """Milliseconds of `wall` or `cpu` per result that one kind of work took."""
        place = ("wall", "cpu").index(clock)
        before, after = (
            mark.spent.get(name, (0.0, 0.0, 0))[place] for mark in (self.before, self.after)
        )
        return 1000 * (after - before) / self.results

    def longest(self, name: str, spent: Spent) -> float:
        """Milliseconds that the longest call took, with all that it called: for so long no other
        trial is answered.
        """
        first, last = (mark.spent.get(name, (0.0, 0.0, 0))[2] for mark in (self.before, self.after))
        return 1000 * max(spent.whole[first:last], default=0.0)


def buckets(trials: int, size: int) -> list[tuple[int, int]]:
    """Windows of so many trials, by the numbers of ended trials at both ends."""
    return [(first, min(first + size, trials)) for first in range(0, trials, size)]


def tables(meter: Meter, windows: Sequence[Window]) -> list[str]:
    """All figures as a Markdown table with a column for each window, and the last one's ratio to
    the first's.
    """
    spans = [f"trials {window.before.ended}-{window.after.ended}" for window in windows]
    return table(["driver, ms per result", *spans, "ratio"], list(rows(meter, windows)))


def rows(meter: Meter, windows: Sequence[Window]) -> Iterator[list[str]]:
    """Everything, then what it consists of; the rest is what was not measured: Ray Tune, where
    it runs, and its waiting.
    """
    yield line("results of a trial", [window.results / window.trials for window in windows])
    yield line("CPU, all threads", [window.per_result("all_cpu") for window in windows])
    for clock, title in (("cpu", "CPU, main thread"), ("wall", "wall")):
        whole = [window.per_result(clock) for window in windows]
        yield line(title, whole)
        shares = {name: [window.share(clock, name) for window in windows] for name in meter.spent}
        for name, share in shares.items():
            yield line(f"{title}: {name}", share)
        known = [sum(column) for column in zip(*shares.values(), strict=True)]
        yield line(
            f"{title}: the rest",
            [all_of_it - part for all_of_it, part in zip(whole, known, strict=True)],
        )
    for name, spent in meter.spent.items():
        longest = [window.longest(name, spent) for window in windows]
        if max(longest) >= LONG_MS:
            yield line(f"longest call, ms: {name}", longest, digits=0)
    yield line("memory at the end, MB", [window.after.resident for window in windows], digits=0)
    for name in windows[-1].after.files:
        yield line(
            f"{name}, kB",
            [1000 * window.after.files.get(name, 0.0) for window in windows],
            digits=0,
        )


def line(name: str, values: Sequence[float], digits: int = 2) -> list[str]:
    ratio = f"{values[-1] / values[0]:.2f}" if values[0] else ""
    return [name, *(f"{value:.{digits}f}" for value in values), ratio]


def table(head: list[str], cells: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *cells]] + [""]


def figures(meter: Meter, windows: Sequence[Window], slots: int) -> dict[str, Any]:
    """What is kept, one number for each window: CPU in ms per result, ours and Ray's, the
    driver's memory and its files in MB.
    """
    parts = {name: [window.share("cpu", name) for window in windows] for name in meter.spent}
    ours = [sum(column) for column in zip(*parts.values(), strict=True)]
    everything = [window.per_result("all_cpu") for window in windows]
    return {
        "slots": slots,
        "trials": [window.after.ended for window in windows],
        "results": [window.results for window in windows],
        "ours_cpu_ms": ours,
        "ray_cpu_ms": [whole - own for whole, own in zip(everything, ours, strict=True)],
        "parts_cpu_ms": parts,
        "longest_ms": {
            name: [window.longest(name, spent) for window in windows]
            for name, spent in meter.spent.items()
        },
        "wall_ms": [window.per_result("wall") for window in windows],
        "memory_mb": [window.after.resident for window in windows],
        "memory_at_first_mb": windows[0].before.resident,
        "files_mb": {
            name: [window.after.files.get(name, 0.0) for window in windows]
            for name in windows[-1].after.files
        },
        "record_epoch_ms": 1000 * statistics.median(meter.spent[RECORD].whole),
    }


def resident_mb() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB


def sizes(folder: RunFolder) -> dict[str, float]:
    """MB of the files that are written while a search runs."""
    files = (folder.study, folder.summary, folder.trials_csv, folder.report)
    return {file.name: file.stat().st_size / MB if file.exists() else 0.0 for file in files}
