"""Compare search policies on many tasks, by event simulation.

Simulated slots train from recorded curves or a surrogate of them; what decides is real. Each
simulation is appended to FILE's neighbour with the ending .jsonl as it ends, and the tables in FILE
are of all that stands there: a command that was cut short goes on where it was, and more arms, or
those of the other environment, are added by a second command.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from benchmarks.search.report import report
from benchmarks.search.simulation import Job, arms, run
from benchmarks.search.tasks import SUITES, tasks
from text_recognizer.command import exit_code_of

DEFAULT = [suite for suite in SUITES if suite != "lcbench-odd"]  # which is for a last look


def main() -> int:
    """Simulate what is missing, and write the tables."""
    known = arms()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", nargs="+", choices=SUITES, default=DEFAULT, metavar="NAME")
    parser.add_argument("--arms", nargs="+", choices=known, default=list(known), metavar="NAME")
    parser.add_argument("--slots", nargs="+", type=int, default=[1, 2, 8, 64], metavar="N")
    parser.add_argument("--seeds", type=int, default=20, metavar="N")
    parser.add_argument("--processes", type=int, default=2, metavar="N")
    parser.add_argument("--to", type=Path, default=Path("runs/search.md"), metavar="FILE")
    flags = parser.parse_args()
    jobs = [
        Job(arm, suite, task, slots, seed)
        for seed in range(flags.seeds)  # first, so that what was cut short is balanced
        for slots in flags.slots
        for suite in flags.suite
        for task in tasks(suite)
        for arm in flags.arms
    ]
    raw = flags.to.with_suffix(".jsonl")
    raw.parent.mkdir(parents=True, exist_ok=True)
    done = {job_of(record) for record in read(raw)}
    simulate_all([job for job in jobs if job not in done], raw, flags.processes)
    command = shlex.join(["python", "-m", "benchmarks.search", *sys.argv[1:]])
    flags.to.write_text(report(read(raw), command), encoding="utf-8")
    print(f"wrote {flags.to}")
    return 0


def simulate_all(jobs: Sequence[Job], raw: Path, processes: int) -> None:
    """Append the outcome of each job as it ends."""
    # Processes that are spawned read these before they import NumPy, torch and the like.
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
    try:
        futures = [pool.submit(run, job) for job in jobs]
        with raw.open("a", encoding="utf-8") as file:
            for count, future in enumerate(as_completed(futures), 1):
                print(json.dumps(future.result()), file=file, flush=True)
                if count % 20 == 0 or count == len(jobs):
                    print(f"{count} of {len(jobs)} simulations", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


def read(raw: Path) -> list[dict[str, Any]]:
    """What was simulated so far."""
    lines = raw.read_text("utf-8").splitlines() if raw.exists() else []
    return [json.loads(line) for line in lines]


def job_of(record: dict[str, Any]) -> Job:
    """The job of a recorded simulation."""
    return Job(**{name: record[name] for name in Job.__dataclass_fields__})


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
