"""The final script as a user runs it, on a run of real digits; its numbers are measured again from
its files. `test_recorded_run.py` has a second call.
"""

from __future__ import annotations

import copy
import math
import re
import stat
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import torch
import yaml
from torch.nn.functional import nll_loss

from tests.finished import SPACE, finished_run
from tests.processes import ROOT, Command, left
from text_recognizer.data.digits import Digits
from text_recognizer.predict import Recognizer, read_checkpoint
from text_recognizer.util import checksum
from training.experiment import build_data, train
from tuning.run.files import FinalMetrics
from tuning.run.folder import open_run
from tuning.run.reading import read_existing
from tuning.study.optuna_record import get_attr, open_study
from tuning.trials.trial import Epoch
from tuning.worker.training_task import SILENT

MAX_EPOCHS, BEST = 3, 2  # the length of the learning rate schedule, and where the trials ended
CYCLE = SPACE.replace("{data_class: Digits}", "{data_class: Digits, one_cycle: true}").replace(
    "max_epochs: 4", f"max_epochs: {MAX_EPOCHS}"
)
# of the better of the two trials
CONFIG = {"data_class": "Digits", "one_cycle": True, "fc1": 32, "optimizer": "Adam"}


class Call(NamedTuple):
    """One call of the final script."""

    output: str
    metrics: FinalMetrics
    final: Path  # the folder that it left


def curve(settings: dict[str, Any]) -> list[Epoch]:
    """The epochs of a trial with these settings, really trained, until it is stopped early."""
    measured: list[dict[str, float]] = []
    note = pl.callbacks.LambdaCallback(
        on_validation_end=lambda trainer, _: measured.append(
            {name: float(v) for name, v in trainer.callback_metrics.items()}
        )
    )
    torch.set_num_threads(1)
    train(
        settings | {"max_epochs": MAX_EPOCHS, "gpus": 0},
        build_data(settings),
        callbacks=[note],
        **SILENT,
    )
    not_yet = {"train_loss": math.nan, "train_acc": math.nan}
    return [
        Epoch(i, not_yet | metrics, time=float(i)) for i, metrics in enumerate(measured[:BEST], 1)
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    folder = tmp_path_factory.mktemp("place")
    finished_run(folder, empty_database, curve, CYCLE)
    return folder


@pytest.fixture(scope="module")
def first(place: Path) -> Call:
    """Two configs are compared with two seeds each."""
    flags = ["--seeds=2", "--top", "2"]
    command = Command([str(ROOT / "tuning/retrain.py"), "runs/done", *flags], place)
    command.wait_to_say("on training and validation data")
    family = command.family()
    assert command.end() == 0, command.errors
    assert command.errors == ""
    assert left(family) == [], "no process is left"
    final = place / "runs/done/final"
    return Call(command.output, read_existing(final / "metrics.json", FinalMetrics), final)


def test_the_test_results_are_those_of_the_model(first: Call) -> None:
    examples = Digits().load_test()
    probabilities = Recognizer.load(first.final / "model.ckpt").probabilities(examples.images)
    hits = (probabilities.argmax(1) == examples.labels).double()
    metrics = first.metrics
    one, other = metrics.per_seed
    assert one.test_acc == hits.mean().item()
    loss = nll_loss(probabilities.log(), examples.labels).item()
    assert one.test_loss == pytest.approx(loss, rel=1e-5)
    values = [one.test_acc, other.test_acc]
    assert (metrics.test_acc, metrics.test_acc_std) == (fmean(values), stdev(values))
    values = [one.test_loss, other.test_loss]
    assert (metrics.test_loss, metrics.test_loss_std) == (fmean(values), stdev(values))
    assert metrics.test_examples == len(examples)
    counts = torch.bincount(examples.labels).tolist()
    right = sum(metrics.per_class[str(i)] * n for i, n in enumerate(counts))
    assert right / len(examples) == pytest.approx(metrics.test_acc)


def test_the_model_is_the_configs_on_all_but_the_test_examples(first: Call) -> None:
    data = Digits()
    data.fold_validation_in = True
    states: list[dict[str, torch.Tensor]] = []
    keep = pl.callbacks.LambdaCallback(
        on_train_epoch_end=lambda _, model: states.append(copy.deepcopy(model.state_dict()))
    )
    torch.set_num_threads(1)
    train(
        CONFIG | {"max_epochs": MAX_EPOCHS, "gpus": 0},
        data,
        callbacks=[keep],
        limit_val_batches=0,
        **SILENT,
    )
    saved = read_checkpoint(first.final / "model.ckpt")["state_dict"]
    assert first.metrics.epochs == BEST < len(states)
    assert all(torch.equal(weights, saved[name]) for name, weights in states[BEST - 1].items())
    trained_on = first.metrics.trained_on
    assert (trained_on.data_class, trained_on.examples) == ("Digits", len(data.trainval))


def test_the_candidates_have_their_value_in_the_search_and_their_mean(first: Call) -> None:
    best, other = first.metrics.candidates
    assert [best.chosen, other.chosen] == [True, False]
    assert best.mean == fmean(value for value in best.each if value) > (other.mean or 1)
    for one in (best, other):
        assert one.each[0] == one.searched, (
            "the first seed is the search's, and so are data, schedule and epochs"
        )
    metrics = first.metrics
    assert (metrics.trial, metrics.epochs, metrics.promised) == (
        best.trial,
        best.epochs,
        best.searched,
    )
    assert f"trial {best.trial}    {best.mean:.4f} ± {best.std:.4f}" in first.output


def test_lab_1_is_trained_the_same_way(first: Call) -> None:
    metrics, baseline = first.metrics, first.metrics.baseline
    assert baseline.config == {
        "model_class": "MLP",
        "data_class": "Digits",
        "max_epochs": metrics.epochs,
    }
    assert [one.seed for one in baseline.per_seed] == metrics.seeds == [0, 1]
    assert re.search(
        rf"lab 1's defaults acc {baseline.test_acc:.4f} ± {baseline.test_acc_std:.4f}", first.output
    )
    assert baseline.test_acc > 0.9


def test_the_folder_is_whole_private_and_explains_itself(place: Path, first: Call) -> None:
    final, metrics = first.final, first.metrics
    assert sorted(path.name for path in final.iterdir()) == [
        "README.md",
        "config.yaml",
        "metrics.json",
        "model.ckpt",
    ]
    assert stat.S_IMODE(final.stat().st_mode) == 0o700
    sums = {name: checksum(final / name) for name in ("model.ckpt", "config.yaml")}
    assert metrics.sha256 == sums
    assert CONFIG.items() <= yaml.safe_load((final / "config.yaml").read_text()).items()
    assert [*place.glob("runs/done/*final*"), *place.glob("runs/done/.final*")] == [final]
    card = (final / "README.md").read_text()
    for part in (
        f"{metrics.test_acc:.4f} ± {metrics.test_acc_std:.4f}",
        metrics.sha256["model.ckpt"],
        "`fc1` | `int 8 to 64`",
    ):
        assert part in card
    assert f"{metrics.test_acc:.4f}" in (place / "runs/done/report.html").read_text()


def test_the_test_set_was_read_once_and_the_run_says_so(place: Path, first: Call) -> None:
    assert "360 test images, read once for this run" in first.output
    assert "note:" not in first.output
    record = open_study(open_run(place / "runs/done"))
    assert get_attr(record, "test_reads") == first.metrics.test_reads == 1
