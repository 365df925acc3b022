"""What a search hands over is evaluated again, whatever its record says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from text_recognizer.data.digits import Digits
from text_recognizer.errors import CheckpointError
from text_recognizer.util import checksum
from training.experiment import build_data, train
from tuning.callbacks.artifacts import Artifacts
from tuning.callbacks.console import SearchConsole
from tuning.run.environment import environment
from tuning.run.files import Validation
from tuning.run.folder import create_run
from tuning.run.options import Options
from tuning.run.reading import read_existing, write_model
from tuning.run.resources import Slots
from tuning.space.reader import read_space
from tuning.study.optuna_record import create_record
from tuning.study.search import Search
from tuning.study.study import Study
from tuning.trials.trial import Epoch, Outcome
from tuning.tuner.export import export_weights
from tuning.worker.training_task import SILENT

SPACE = "experiment: {data_class: Digits}\nspace:\n  fc1: {type: int, low: 64, high: 65}\nsearch: {max_epochs: 1}\n"


@pytest.fixture
def search(tmp_path: Path, database: Path) -> Search:
    """Two trials. The record has a better accuracy of the second than its weights reach."""
    (tmp_path / "space.yaml").write_text(SPACE)
    space = read_space(tmp_path / "space.yaml")
    folder = create_run(tmp_path / "runs", "r", "small")
    write_model(folder.environment, environment())
    study = Study(create_record(f"sqlite:///{database}", space, "r"), space, trials=2)
    data = Digits().trainval
    search = Search("small", space, Options(keep=2), folder, study, Slots(1, 1, 0), data)
    settings = search.trial_settings | {"fc1": 64}
    trainer, _ = train(settings, build_data(settings), **SILENT)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    folder.checkpoints.mkdir()
    for pretended in (0, 0.05):
        trial = study.next_trial()
        assert trial is not None
        path = folder.checkpoints / f"{trial.number}.ckpt"
        trainer.save_checkpoint(path)
        measured = metrics | {"val_acc": metrics["val_acc"] + pretended}
        study.record_epoch(trial.number, Epoch(1, measured, path.name, checksum(path)))
        study.close(trial.number, Outcome.COMPLETE)
    return search


def test_weights_that_are_worse_than_recorded_are_not_handed_over(search: Search) -> None:
    artifacts = Artifacts(search)
    best = export_weights(search, artifacts, SearchConsole())
    assert best is not None
    assert best.trial.number == 0, "the next best"
    assert "as recorded for trial 1 at epoch 1, but got" in artifacts.damaged[1]
    answers = read_existing(search.folder.validation, Validation)
    assert (answers.trial, answers.sha256) == (0, checksum(search.folder.best_checkpoint))


def test_without_weights_as_good_as_recorded_nothing_is_handed_over(search: Search) -> None:
    search = replace(search, options=Options(keep=1))
    with pytest.raises(CheckpointError, match="val_acc"):
        export_weights(search, Artifacts(search), SearchConsole())
    assert not search.folder.best_checkpoint.exists()
    assert not search.folder.validation.exists()
