"""A finished run, made once and copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.finished import finished_run
from tuning.analysis.run_data import RunData, read_run_data
from tuning.final.retraining import Request, Retraining
from tuning.run.folder import RunFolder
from tuning.run.options import Options
from tuning.trials.trial import Epoch

Start = Callable[..., Retraining]


def curve(settings: dict[str, Any]) -> list[Epoch]:
    """Adam is best at epoch 2, SGD at epoch 1."""
    values = (0.5, 0.9) if settings["optimizer"] == "Adam" else (0.8, 0.7)
    rest = {"train_loss": 1.0, "train_acc": 0.5, "val_loss": 1.0}
    return [Epoch(i, rest | {"val_acc": value}, time=float(i)) for i, value in enumerate(values, 1)]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> RunFolder:
    return finished_run(tmp_path_factory.mktemp("finished"), empty_database, curve)


@pytest.fixture(scope="session")
def search(finished: RunFolder) -> RunData:
    """What is in the folder of the finished run; to open its study takes a while."""
    return read_run_data(finished)


@pytest.fixture
def run(finished: RunFolder, tmp_path: Path) -> RunFolder:
    """Trial 1 (Adam) is best at epoch 2, then trial 0 (SGD) at epoch 1."""
    return RunFolder(Path(shutil.copytree(finished.path, tmp_path / "done")))


@pytest.fixture
def start(run: RunFolder) -> Start:
    """Begins the final script's work on the run."""

    def begin(said: list[str] | None = None, **changes: Any) -> Retraining:
        asked: dict[str, Any] = {"seeds": 2, "top": 1, "data_dir": None, "options": Options()}
        return Retraining(run, Request(**asked | changes), ([] if said is None else said).append)

    return begin
