"""A disk or a node that fails under a trial suspends the search; the trial is not charged."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune

from text_recognizer.metrics import Objective
from tuning.worker.guard import Report, run_guarded
from tuning.worker.trainable import TrialJob, run_trial


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a trial reports, without a worker."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(tune, "report", found.append)
    return found


@pytest.mark.parametrize("made", [(), ("trials",)])
def test_a_node_without_it_suspends_the_search_and_plants_nothing(
    made: tuple[str, ...], tmp_path: Path, told: list[dict[str, Any]]
) -> None:
    run = tmp_path / "mnt/run"
    for name in made:
        (run / name).mkdir(parents=True)
    job = TrialJob({}, Objective("val_acc", "max"), run / "trials", run / "logs", stall_limit=600)
    run_trial(
        {"number": 0, "params": {}, "history": []}, job=job, images=np.empty(0), labels=np.empty(0)
    )
    (end,) = told
    assert end.keys() == {"disk"}
    assert f"does not see {run}" in end["disk"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        {*made, *(("mnt", "run") if made else ())}
    )


@pytest.mark.parametrize(
    ("number", "where", "key"),
    [
        (errno.EIO, "trials/0/epoch-1.writing", "disk"),
        (errno.ESTALE, "logs", "disk"),
        (errno.EACCES, "trials", "disk"),
        (errno.ENOSPC, "/tmp/elsewhere", "disk"),
        (errno.EACCES, "/etc/shadow", "outcome"),
        (errno.ENOENT, None, "outcome"),
    ],
)
def test_what_the_file_system_says_of_it_is_no_trials_fault(
    number: int, where: str | None, key: str, tmp_path: Path, told: list[dict[str, Any]]
) -> None:
    folders = (tmp_path / "trials", tmp_path / "logs")
    for folder in folders:
        folder.mkdir()

    def work(report: Report) -> None:
        raise OSError(number, "what the disk says", str(tmp_path / where) if where else None)

    run_guarded(work, folders=folders)
    assert key in told[-1]
