"""How a search ends: what it hands over is evaluated again, and what is cut says how to go on."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from tests.conftest import ROOT
from text_recognizer.atomic import checksum
from text_recognizer.data.digits import Digits
from text_recognizer.errors import CheckpointError, ClusterError, StorageError
from text_recognizer.text import shown_path
from training.experiment import build_data, train
from tuning.callbacks.artifacts import Artifacts
from tuning.callbacks.console import SearchConsole
from tuning.run.environment import environment
from tuning.run.files import Summary, Validation
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
from tuning.tuner.tuner import Tuner
from tuning.worker.training_task import SILENT

SPACE = "experiment: {data_class: Digits}\nspace:\n  fc1: {type: int, low: 64, high: 65}\nsearch: {max_epochs: 1}\n"


@pytest.fixture
def search(tmp_path: Path, database: Path) -> Search:
    """Two trials. The record has a better accuracy of the second than its weights reach."""
    folder = create_run(tmp_path / "runs", "r", "small")
    folder.space.write_text(SPACE)
    space = read_space(folder.space)
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


def without_ray(last_words: object) -> NoReturn:
    pytest.fail("Ray was started")


def test_a_search_without_work_hands_over_its_result(
    search: Search, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Tuner(search, SearchConsole(), without_ray).run() == 0
    folder, said = search.folder, capsys.readouterr().out
    assert "best: trial 0, val_acc 0." in said
    for path in (folder.best_config, folder.best_checkpoint, folder.report):
        assert f"wrote {path}" in said
        assert path.is_file()
    assert f"python {shown_path(ROOT / 'tuning/retrain.py')} {folder.path}" in said
    summary = read_existing(folder.summary, Summary)
    assert (summary.status, summary.stop_reason) == ("complete", "all trials are done")
    assert summary.sha256["best.ckpt"] == checksum(folder.best_checkpoint)
    assert any("cannot be exported" in warning for warning in summary.warnings)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_ray_starts_interrupts_the_search(
    number: signal.Signals, code: int, search: Search, capsys: pytest.CaptureFixture[str]
) -> None:
    search.study.wanted = 3
    tuner = Tuner(search, SearchConsole(), lambda _: signal.raise_signal(number))  # type: ignore[arg-type,return-value]
    assert tuner.run() == code
    said = capsys.readouterr().out
    assert "interrupted; nothing is lost. 2 complete" in said
    assert "best so far: trial 1, val_acc" in said
    assert f"{shown_path(ROOT / 'tuning/search.py')} --resume {search.folder.path}" in said
    summary = read_existing(search.folder.summary, Summary)
    assert (summary.status, summary.stop_reason) == ("interrupted", number.name)


def test_a_suspended_search_says_why_and_how_to_go_on(search: Search) -> None:
    search.study.suspend("the disk is full")
    with pytest.raises(StorageError, match=r"the disk is full\. .*\nresume: .* --resume"):
        Tuner(search, SearchConsole(), without_ray).run()
    summary = read_existing(search.folder.summary, Summary)
    assert (summary.status, summary.stop_reason) == ("interrupted", "the disk is full")


def no_ray_here(last_words: object) -> NoReturn:
    raise ClusterError("Ray cannot start: its raylet died.")


def test_a_new_run_whose_ray_does_not_start_is_removed_and_a_resumed_one_is_not(
    search: Search,
) -> None:
    search.study.wanted = 3
    removed: list[bool] = []
    tuner = Tuner(search, SearchConsole(), no_ray_here, lambda: removed.append(True))
    with pytest.raises(ClusterError, match=r"its raylet died\.\nresume: .* --resume"):
        tuner.run()
    summary = read_existing(search.folder.summary, Summary)
    assert summary.status == "interrupted"
    assert removed == [], "it has trained epochs"
    search.study._trials.clear()
    with pytest.raises(ClusterError, match=r"its raylet died\.$"):
        tuner.run()
    assert removed == [True]


class Interrupted(SearchConsole):
    """A console that is interrupted while the result is said."""

    def say(self, text: str, style: str = "") -> None:
        if text.startswith("best:"):
            raise KeyboardInterrupt


def test_once_a_result_is_written_nothing_makes_the_run_unfinished(search: Search) -> None:
    with pytest.raises(KeyboardInterrupt):
        Tuner(search, Interrupted(), without_ray).run()
    assert read_existing(search.folder.summary, Summary).status == "complete"


def test_a_damaged_result_is_written_again_from_the_trials_checkpoints(
    search: Search, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = search.folder
    assert Tuner(search, SearchConsole(), without_ray).run() == 0
    sound = checksum(folder.best_checkpoint)
    os.truncate(folder.best_checkpoint, 1000)
    folder.best_config.write_text("fc1: 9\n")
    capsys.readouterr()
    assert Tuner(search, SearchConsole(), without_ray).run() == 0
    said = capsys.readouterr().out
    for path in (folder.best_checkpoint, folder.best_config):
        assert f"{path} is not the file that was written" in said
    assert checksum(folder.best_checkpoint) == sound
    assert folder.best_config.with_suffix(".changed.yaml").read_text() == "fc1: 9\n"
    assert Tuner(search, SearchConsole(), without_ray).run() == 0
    assert "r has ended: all trials are done" in capsys.readouterr().out
    shutil.rmtree(folder.checkpoints)
    folder.report.unlink()
    folder.best_config.write_text("fc1: 9\n")
    assert Tuner(search, SearchConsole(), without_ray).run() == 0
    assert checksum(folder.best_checkpoint) == sound, "it needs no checkpoint of a trial"
    assert folder.report.is_file()


def test_the_first_signal_says_how_to_go_on_and_another_capacity_is_written_down(
    search: Search, capsys: pytest.CaptureFixture[str]
) -> None:
    tuner = Tuner(search, SearchConsole(), without_ray)
    tuner._on_first_signal()
    assert f"to go on: {tuner._resume_command()}\n" in capsys.readouterr().out
    tuner._on_capacity(7)
    assert tuner.artifacts.write_summary("running").resources.slots == 7
    assert tuner.table.slots == 7
