"""The folder that a cluster's workers write to: made with the run or not at all, and no trial's
fault where it fails.
"""

from __future__ import annotations

import errno
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune

from text_recognizer.errors import InputError, StorageError
from text_recognizer.metrics import Objective
from tuning.run.folder import RunFolder, create_run
from tuning.tuner import place
from tuning.tuner.start import remove_on_error
from tuning.worker.guard import Report, run_guarded
from tuning.worker.trainable import TrialJob, run_trial


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a trial reports, without a worker."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(tune, "report", found.append)
    return found


def begin(tmp_path: Path, shared: Path) -> RunFolder:
    folder = create_run(tmp_path / "runs", "run", "mlp")
    with remove_on_error(folder.path):
        return place.begin_shared(folder, shared)


def test_it_is_its_owners_and_has_a_mark(tmp_path: Path) -> None:
    folder = begin(tmp_path, tmp_path / "shared")
    assert folder.shared == tmp_path / "shared/run"
    assert stat.S_IMODE(folder.for_workers.stat().st_mode) == 0o700
    assert len(place.mark_of(folder.for_workers)) == 32
    assert folder.checkpoints == tmp_path / "shared/run/trials"


def test_one_that_cannot_be_made_leaves_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for shared in (tmp_path / "file", tmp_path / "file/below", Path("/proc/x")):
        with pytest.raises(StorageError, match="a folder that can be made"):
            begin(tmp_path, shared)
        assert list((tmp_path / "runs").iterdir()) == []


def test_one_that_is_taken_leaves_no_run_and_is_untouched(tmp_path: Path) -> None:
    (tmp_path / "shared/run").mkdir(parents=True)
    with pytest.raises(InputError, match="Choose another --name"):
        begin(tmp_path, tmp_path / "shared")
    assert list((tmp_path / "runs").iterdir()) == []
    assert list((tmp_path / "shared/run").iterdir()) == []


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
