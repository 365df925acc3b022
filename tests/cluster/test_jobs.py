"""A search as a job of the cluster."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.cluster.test_nodes import SPACE
from tests.hosts import Hosts
from tests.processes import ROOT, Command
from tuning.run.folder import RunFolder
from tuning.study.optuna_record import load_record
from tuning.study.storage import sqlite_url

RAY = str(Path(sys.executable).with_name("ray"))


def submitted(network: Hosts, folder: Path, *flags: str) -> Command:
    """`ray job submit … -- python tuning/search.py --address auto …`, which follows the job to
    its end.
    """
    submit = [
        RAY,
        "job",
        "submit",
        "--address",
        "http://127.0.0.1:8265",
        "--working-dir",
        str(ROOT),
        "--",
    ]
    search = [
        "python",
        "tuning/search.py",
        "--address",
        "auto",
        "--space",
        str(folder / "small.yaml"),
        "--name",
        "run",
        *flags,
    ]
    (folder / "small.yaml").write_text(SPACE.replace("EPOCHS", "3"))
    return network.head.command([*submit, *search], folder)


def test_a_search_as_a_job_prints_the_same_and_its_run_outlives_the_job(
    network: Hosts, tmp_path: Path
) -> None:
    network.start_head(tmp_path)
    network.start_worker(tmp_path)
    lost = submitted(network, tmp_path)
    assert lost.end() != 0
    assert "--runs-dir: `a folder that outlives the job` must hold, but got runs" in lost.output
    job = submitted(network, tmp_path, "--runs-dir", str(tmp_path / "kept"))
    assert job.end() == 0, job.output + job.errors
    run = RunFolder(tmp_path / "kept/run")
    for line in (
        "cluster   2 nodes, 2 CPUs, 0 GPUs",
        "best: trial ",
        f"wrote {run.best_checkpoint}",
        f"retrain.py {run.path}",
    ):
        assert line in job.output
    assert json.loads(run.summary.read_text())["status"] == "complete"
    assert len(load_record(sqlite_url(run.study), "run").get_trials()) == 4
