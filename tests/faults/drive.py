"""A search with a formula in place of training, in its own process: it can be killed and started
again.

`python -m tests.faults.drive FOLDER TRIALS` begins or continues the search in FOLDER with one slot.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.formula import run, space_in
from text_recognizer.command import exit_code_of, leave
from tuning.ray_backend.ending import complain
from tuning.ray_backend.local_cluster import own_cluster
from tuning.ray_backend.signals import Interruptions
from tuning.run.resources import Node, Slots
from tuning.study.optuna_record import create_record, load_record
from tuning.study.storage import sqlite_url
from tuning.study.study import Study

RETRIES = 1000  # a soak kills one trial often
CREATED = "created"


def main(folder: Path, trials: int) -> None:
    """Run all trials that are left."""
    space, url = space_in(folder), sqlite_url(folder / "study.db")
    record = (
        load_record(url, folder.name)
        if (folder / CREATED).exists()
        else create_record(url, space, folder.name)
    )
    (folder / CREATED).touch()
    study = Study(record, space, trials=trials, retries=RETRIES)
    interruptions = Interruptions()
    with (
        own_cluster(Node(1, 0), dashboard=False) as cluster,
        interruptions.ray_watched(cluster, complain),
    ):
        run(study, folder, Slots(1, 1, 0), interruptions, cluster=cluster)


if __name__ == "__main__":
    leave(exit_code_of(lambda: main(Path(sys.argv[1]), int(sys.argv[2]))))
