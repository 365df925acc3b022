"""The real search command. Its trials also write down each epoch after its report has returned.

`python -m tests.faults.acknowledging --space …` runs `tuning/search.py --space …`. The epochs are
written to `acknowledged/` in the run's folder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ray.util import get_node_ip_address

from text_recognizer.command import exit_code_of
from tuning import search
from tuning.tuner import tuner
from tuning.worker.guard import Watchdog
from tuning.worker.trainable import TrialJob
from tuning.worker.trainable import run_trial as real_run_trial

FOLDER = "acknowledged"


def run_trial(config: dict[str, Any], *, job: TrialJob, images: Any, labels: Any) -> None:
    """The real trial in a worker that acknowledges."""
    folder = job.checkpoints.parent / FOLDER
    folder.mkdir(exist_ok=True)
    report = Watchdog.report

    def acknowledged(watch: Watchdog, result: dict[str, Any]) -> None:
        report(watch, result)
        with (folder / f"acknowledged-{config['number']}").open("a") as file:
            file.write(
                f"{result['epoch']} {result[job.objective.metric]} {get_node_ip_address()}\n"
            )

    Watchdog.report = acknowledged  # type: ignore[method-assign]
    try:
        real_run_trial(config, job=job, images=images, labels=labels)
    finally:
        Watchdog.report = report  # type: ignore[method-assign]


def folder_of(run: Path) -> Path:
    """Where the trials of a run left their acknowledgements."""
    return run / FOLDER


if __name__ == "__main__":
    from tests.faults import acknowledging  # by its name: workers import it

    tuner.run_trial = acknowledging.run_trial
    sys.exit(exit_code_of(search.main))
