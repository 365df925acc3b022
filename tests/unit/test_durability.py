"""What must outlive a loss of power: file and folder are synced, in this order."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from text_recognizer.atomic import atomic_write
from text_recognizer.data.digits import Digits
from text_recognizer.metrics import Objective
from tuning.final.folder import replace_final
from tuning.run.folder import RunFolder
from tuning.run.resources import Slots
from tuning.worker.trainable import TrialJob, run_trial
from tuning.worker.training_task import Training, train_once

SETTINGS = {"data_class": "Digits", "fc1": 8, "max_epochs": 1, "limit_train_batches": 1, "gpus": 0}


@dataclass(frozen=True)
class Sync:
    """A call of `os.fsync`: of which file or folder, and its size and the folder's names then."""

    path: Path
    size: int
    names: set[str]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Sync]:
    """The calls of `os.fsync`, which syncs as ever."""
    found: list[Sync] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        names = {entry.name for entry in (path if path.is_dir() else path.parent).iterdir()}
        found.append(Sync(path, os.fstat(descriptor).st_size, names))

    monkeypatch.setattr(os, "fsync", recorded)
    return found


def assert_durable(path: Path, synced: list[Sync]) -> None:
    """The whole file was synced before it had its name, and then its folder, which may be new."""
    (at,) = [i for i, sync in enumerate(synced) if f".{path.name}." in sync.path.name]
    file, folder, above = synced[at : at + 3]
    assert (file.path.parent, file.size) == (path.parent, path.stat().st_size)
    assert path.name not in file.names
    assert (folder.path, above.path) == (path.parent, path.parent.parent)
    assert path.name in folder.names


def test_a_written_file_is_durable(tmp_path: Path, synced: list[Sync]) -> None:
    path = tmp_path / "run" / "summary.json"
    path.parent.mkdir()
    with atomic_write(path) as file:
        file.write(b"content")
    assert_durable(path, synced)


def test_a_checkpoint_is_durable_when_its_epoch_is_reported(
    tmp_path: Path, synced: list[Sync], monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[dict[str, Any]] = []

    def report(result: dict[str, Any]) -> None:
        if "epoch" in result:
            assert_durable(tmp_path / "trials" / result["checkpoint"], synced)
        reported.append(result)

    monkeypatch.setattr(tune, "report", report)
    folders = (tmp_path / "trials", tmp_path / "logs")
    job = TrialJob(SETTINGS, Objective("val_acc", "max"), *folders, stall_limit=600)
    for folder in folders:
        folder.mkdir()
    data = Digits().trainval
    run_trial(
        {"number": 3, "params": {}, "history": []},
        job=job,
        images=data.images.numpy(),
        labels=data.labels.numpy(),
    )
    assert [result.get("epoch") for result in reported] == [1, None]
    assert reported[-1]["outcome"] == "complete", reported[-1]


def test_a_final_model_is_durable(tmp_path: Path, synced: list[Sync]) -> None:
    run, weights = RunFolder(tmp_path), tmp_path / "new" / "0.ckpt"
    weights.parent.mkdir()
    data = Digits().trainval
    train_once(
        Training("this", SETTINGS | {"seed": 0}, 1, weights),
        metric="val_acc",
        slots=Slots(1, 1, 0),
        images=data.images.numpy(),
        labels=data.labels.numpy(),
    )
    assert_durable(weights, synced)
    synced.clear()
    replace_final(run, weights.parent)
    (folder,) = synced
    assert folder.path == run.path
    assert "final" in folder.names
