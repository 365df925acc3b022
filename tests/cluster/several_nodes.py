"""A search with the formula on `ray.cluster_utils.Cluster`, which loses a node on the way.

`python -m tests.cluster.several_nodes FOLDER`
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ray.cluster_utils import Cluster

from tests.formula import check, run, space_in
from tuning.ray_backend import tune_run
from tuning.ray_backend.remote_cluster import joined_cluster
from tuning.run.resources import Slots
from tuning.study.optuna_record import create_record
from tuning.study.storage import sqlite_url
from tuning.study.study import Study
from tuning.trials.trial import Trial

TRIALS = 12
KILL_AT = 20  # epochs


def main(folder: Path) -> None:
    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    workers = [nodes.add_node(num_cpus=1) for _ in range(2)]
    space = space_in(folder)
    study = Study(
        create_record(sqlite_url(folder / "study.db"), space, "nodes"),
        space,
        trials=TRIALS,
        retries=0,
    )
    epochs = 0

    def lose_a_node(trial: Trial) -> None:
        nonlocal epochs
        epochs += 1
        if epochs == KILL_AT:
            nodes.remove_node(workers[0], allow_graceful=False)

    study.listeners.append(lose_a_node)
    begun = time.time()
    with joined_cluster(nodes.address, print) as joined:
        run(study, folder, Slots(3, 1, 0, most=TRIALS), tune_run.Interrupt(), cluster=joined)
        assert joined.lost_node(begun), "whether or not a trial was on it"
        print("room for", joined.room(Slots(3, 1, 0)))
    check(study, folder)
    print("ended", len(study.trials), "charged", sum(len(trial.failures) for trial in study.trials))
    nodes.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
