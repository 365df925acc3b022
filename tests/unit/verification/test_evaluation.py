"""The exported checkpoint is the recorded one, and as good as was recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from text_recognizer.data.digits import Digits
from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import CheckpointError
from text_recognizer.predict import Recognizer
from text_recognizer.util import checksum
from training.experiment import build_data, train
from tuning.trials.trial import Best, Epoch, Outcome, Trial
from tuning.verification.evaluation import evaluate, export_best, verify
from tuning.worker.training_task import SILENT

SETTINGS = {"data_class": "Digits", "fc1": 64, "fc2": 32, "max_epochs": 1, "gpus": 0}


@pytest.mark.parametrize("damage", ["deleted", "truncated", "one bit"])
def test_a_checkpoint_that_is_not_what_was_recorded_is_not_exported(
    damage: str, tmp_path: Path
) -> None:
    path = tmp_path / "epoch-1.ckpt"
    path.write_bytes(b"weights" * 100)
    epoch = Epoch(1, {"val_acc": 0.5}, path.name, checksum(path))
    flipped = bytearray(path.read_bytes())
    flipped[50] ^= 1
    match damage:
        case "deleted":
            path.unlink()
        case "truncated":
            path.write_bytes(b"weights")
        case "one bit":
            path.write_bytes(flipped)
    with pytest.raises(CheckpointError, match="sha256"):
        export_best(
            tmp_path,
            Best(Trial(0, {}, (epoch,), Outcome.COMPLETE), epoch, 0.5),
            tmp_path / "best.ckpt",
        )
    assert not (tmp_path / "best.ckpt").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Best]:
    """A checkpoint after one epoch, and what Lightning measured of it."""
    path = tmp_path_factory.mktemp("trained") / "epoch-1.ckpt"
    trainer, _ = train(SETTINGS, build_data(SETTINGS), **SILENT)
    trainer.save_checkpoint(path)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    epoch = Epoch(1, metrics, path.name, checksum(path))
    return path, Best(Trial(3, {}, (epoch,), Outcome.COMPLETE), epoch, metrics["val_acc"])


def test_weights_of_a_gpu_are_exported_and_evaluated_without_one(
    trained: tuple[Path, Best], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, best = trained
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    torch.save(torch.load(path, weights_only=True), tmp_path / path.name)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA device"):
            torch.load(tmp_path / path.name, weights_only=True)
    monkeypatch.undo()
    epoch = replace(best.epoch, sha256=checksum(tmp_path / path.name))
    export_best(tmp_path, replace(best, epoch=epoch), tmp_path / "best.ckpt")
    verify(tmp_path / "best.ckpt", best, SETTINGS, Digits().trainval)


def test_an_exported_checkpoint_is_small_and_evaluates_to_what_lightning_measured(
    trained: tuple[Path, Best], tmp_path: Path
) -> None:
    path, best = trained
    data = Digits()
    export_best(path.parent, best, tmp_path / "best.ckpt")
    assert (tmp_path / "best.ckpt").stat().st_size < path.stat().st_size / 2, "no optimizer's state"
    found = evaluate(tmp_path / "best.ckpt", BaseDataset(*data.trainval[data.splits()[1]]))
    assert found.accuracy == pytest.approx(best.epoch.metrics["val_acc"], rel=1e-6)
    assert found.loss == pytest.approx(best.epoch.metrics["val_loss"], rel=1e-5)
    answers = verify(tmp_path / "best.ckpt", best, SETTINGS, data.trainval)
    assert (answers.trial, answers.sha256) == (3, checksum(tmp_path / "best.ckpt"))
    assert answers.confusion == found.confusion
    worst = answers.worst[0]
    labels = data.trainval.labels
    assert worst.label == str(int(labels[worst.index]))
    assert worst.probability <= answers.worst[-1].probability
    assert worst.predicted != worst.label


def test_a_confusion_has_a_row_for_each_true_class(trained: tuple[Path, Best]) -> None:
    """With labels made so that each answer is one less than the truth."""
    path, images = trained[0], Digits().trainval.images[:200]
    answers = Recognizer.load(path).probabilities(images).argmax(1)
    found = evaluate(path, BaseDataset(images, (answers + 1) % 10))
    expected = [[0] * 10 for _ in range(10)]
    for answer in answers.tolist():
        expected[(answer + 1) % 10][answer] += 1
    assert found.confusion == expected
    assert found.accuracy == 0


@pytest.mark.parametrize(("name", "wrong"), [("val_acc", 0.02), ("val_loss", 0.05)])
def test_a_checkpoint_that_is_not_as_good_as_recorded_is_refused(
    name: str, wrong: float, trained: tuple[Path, Best]
) -> None:
    path, best = trained
    metrics = best.epoch.metrics | {name: best.epoch.metrics[name] + wrong}
    other = replace(best, epoch=replace(best.epoch, metrics=metrics))
    with pytest.raises(CheckpointError, match=f"`{name} == .* as recorded for trial 3"):
        verify(path, other, SETTINGS, Digits().trainval)


def test_a_model_of_low_precision_is_as_good_as_recorded(tmp_path: Path) -> None:
    path = tmp_path / "epoch-1.ckpt"
    trainer, _ = train(SETTINGS | {"precision": "bf16-true"}, build_data(SETTINGS), **SILENT)
    trainer.save_checkpoint(path)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    epoch = Epoch(1, metrics, path.name, checksum(path))
    verify(path, Best(Trial(0, {}, (epoch,)), epoch, 0.0), SETTINGS, Digits().trainval)
