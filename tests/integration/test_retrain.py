"""The final script as a user runs it, twice, on a run of real digits; what it says is measured
again from what it left.
"""

from __future__ import annotations

import copy
import json
import math
import re
import stat
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

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
from tuning.study.optuna_record import get_attr, open_record
from tuning.trials.trial import Epoch
from tuning.verification.evaluation import SILENT

MAX_EPOCHS, BEST = 4, 3  # the length of the learning rate schedule, and how far the trials came
CYCLE = SPACE.replace("{data_class: Digits}", "{data_class: Digits, one_cycle: true}")
# of the better of the two trials
CONFIG = {"data_class": "Digits", "one_cycle": True, "fc1": 32, "optimizer": "Adam"}
Metrics = dict[str, Any]


def curve(settings: dict[str, Any]) -> list[Epoch]:
    """What a trial with these settings really comes to, epoch by epoch, until it is stopped
    early.
    """
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
def twice(place: Path) -> list[tuple[str, Metrics]]:
    """What was said, and `metrics.json`, of two calls in a row."""
    found = []
    for _ in range(2):
        command = Command(
            [str(ROOT / "tuning/retrain.py"), "runs/done", "--seeds=2", "--top", "2"], place
        )
        command.wait_to_say("on training and validation data")
        family = command.family()
        assert command.end() == 0, command.errors
        assert command.errors == ""
        assert left(family) == [], "no process is left"
        found.append(
            (command.output, json.loads((place / "runs/done/final/metrics.json").read_text()))
        )
    return found


@pytest.fixture
def final(place: Path, twice: list[tuple[str, Metrics]]) -> Path:
    return place / "runs/done/final"


def test_the_test_results_are_those_of_the_model(
    final: Path, twice: list[tuple[str, Metrics]]
) -> None:
    examples = Digits().load_test()
    probabilities = Recognizer.load(final / "model.ckpt").probabilities(examples.images)
    hits = (probabilities.argmax(1) == examples.labels).double()
    _, metrics = twice[1]
    first, second = metrics["per_seed"]
    assert first["test_acc"] == hits.mean().item()
    assert first["test_loss"] == pytest.approx(
        nll_loss(probabilities.log(), examples.labels).item(), rel=1e-5
    )
    for name in ("test_acc", "test_loss"):
        values = [first[name], second[name]]
        assert (metrics[name], metrics[f"{name}_std"]) == (fmean(values), stdev(values))
    assert metrics["test_examples"] == len(examples)
    counts = torch.bincount(examples.labels)
    assert sum(metrics["per_class"][str(i)] * n for i, n in enumerate(counts.tolist())) / len(
        examples
    ) == pytest.approx(metrics["test_acc"])


def test_the_model_is_the_configs_on_all_but_the_test_examples(
    final: Path, twice: list[tuple[str, Metrics]]
) -> None:
    _, metrics = twice[1]
    data = Digits()
    data.train_on_validation_too()
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
    saved = read_checkpoint(final / "model.ckpt")["state_dict"]
    assert metrics["epochs"] == BEST < len(states)
    assert all(torch.equal(weights, saved[name]) for name, weights in states[BEST - 1].items())
    assert metrics["trained_on"] == {"data_class": "Digits", "examples": len(data.trainval)}


def test_the_candidates_are_told_with_what_they_had_and_have(
    twice: list[tuple[str, Metrics]],
) -> None:
    said, metrics = twice[0]
    first, second = metrics["candidates"]
    assert [first["chosen"], second["chosen"]] == [True, False]
    assert first["mean"] == fmean(first["each"]) > second["mean"]
    for one in (first, second):
        assert one["each"][0] == one["searched"], (
            "the first seed is the search's, and so are data, schedule and epochs"
        )
    assert (metrics["trial"], metrics["epochs"], metrics["promised"]) == (
        first["trial"],
        first["epochs"],
        first["searched"],
    )
    assert f"trial {first['trial']}    {first['mean']:.4f} ± {first['std']:.4f}" in said


def test_lab_1_is_trained_the_same_way(twice: list[tuple[str, Metrics]]) -> None:
    said, metrics = twice[0]
    baseline = metrics["baseline"]
    assert baseline["config"] == {
        "model_class": "MLP",
        "data_class": "Digits",
        "max_epochs": metrics["epochs"],
    }
    assert [one["seed"] for one in baseline["per_seed"]] == metrics["seeds"] == [0, 1]
    assert re.search(
        rf"lab 1's defaults acc {baseline['test_acc']:.4f} ± {baseline['test_acc_std']:.4f}", said
    )
    assert baseline["test_acc"] > 0.9


def test_a_second_call_says_the_same_and_that_it_is_the_second(
    place: Path, twice: list[tuple[str, Metrics]]
) -> None:
    (said, first), (said_again, second) = twice
    assert [first["test_reads"], second["test_reads"]] == [1, 2]
    assert {**second, "test_reads": 1} == first, "the same seeds, the same numbers"
    assert "read once for this run (360 images, never seen before)" in said
    assert "note: the test set has been read 2 times for this run" in said_again
    assert "note:" not in said
    _, record = open_record(open_run(place / "runs/done"))
    assert get_attr(record, "test_reads") == 2


def test_the_folder_is_whole_private_and_explains_itself(
    place: Path, final: Path, twice: list[tuple[str, Metrics]]
) -> None:
    assert sorted(path.name for path in final.iterdir()) == [
        "README.md",
        "config.yaml",
        "metrics.json",
        "model.ckpt",
    ]
    assert list(final.parent.glob(".final*")) == []
    assert stat.S_IMODE(final.stat().st_mode) == 0o700
    _, metrics = twice[1]
    assert metrics["sha256"] == {
        name: checksum(final / name) for name in ("model.ckpt", "config.yaml")
    }
    assert CONFIG.items() <= yaml.safe_load((final / "config.yaml").read_text()).items()
    card = (final / "README.md").read_text()
    for part in (
        f"{metrics['test_acc']:.4f} ± {metrics['test_acc_std']:.4f}",
        metrics["sha256"]["model.ckpt"],
        "`fc1` | `8 to 64`",
    ):
        assert part in card
    assert FinalMetrics.model_validate_json((final / "metrics.json").read_bytes()), (
        "the report can read it"
    )
    assert f"{metrics['test_acc']:.4f}" in (final.parent / "report.html").read_text()
