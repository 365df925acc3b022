"""Means over seeds, and what is printed of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests import shapes
from text_recognizer.metrics import Objective
from tuning.final.candidates import Config
from tuning.final.scores import (
    accuracy_per_class,
    candidate_lines,
    candidate_of,
    mean_and_std,
    result_lines,
    scores_of,
)
from tuning.run.files import Baseline, FinalMetrics
from tuning.verification.evaluation import Evaluation


def evaluation(*confusion: list[int], loss: float = 0.5) -> Evaluation:
    n = sum(map(sum, confusion))
    classes = tuple("abc"[: len(confusion)])
    return Evaluation(classes, loss, list(confusion), torch.zeros(n, len(classes)))


def metrics(**changes: Any) -> FinalMetrics:
    """Two seeds, in which lab 1's defaults do worse."""
    own = scores_of([0, 1], [evaluation([9, 1], loss=0.1), evaluation([8, 2], loss=0.2)])
    worse = scores_of([0, 1], [evaluation([7, 3], loss=0.3)] * 2)
    changes = {"baseline": Baseline(**worse, config={}), "test_reads": 1} | own | changes
    return shapes.final().model_copy(
        update=FinalMetrics(**shapes.final().model_dump() | changes).__dict__
    )


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([2.0], (2.0, None)),
        ([1.0, 2.0, 3.0], (2.0, 1.0)),
        ([1.0, math.nan], (None, None)),
        ([math.inf], (None, None)),
    ],
)
def test_mean_and_standard_deviation_where_they_are_defined(
    values: list[float], found: tuple[float | None, float | None]
) -> None:
    assert mean_and_std(values) == found


def test_the_accuracy_of_each_class_is_the_mean_over_the_seeds() -> None:
    models = [
        evaluation([9, 1, 0], [0, 4, 0], [0, 0, 0]),
        evaluation([7, 3, 0], [2, 2, 0], [0, 0, 0]),
    ]
    assert accuracy_per_class(models) == {"a": pytest.approx(0.8), "b": 0.75}
    assert models[0].accuracy == 13 / 14


def test_a_config_that_diverged_is_the_last_candidate() -> None:
    lost = candidate_of(Config(4, {}, 1, 0.8), [0.9, math.nan])
    good = candidate_of(Config(3, {}, 2, 0.9), [0.8, 0.9]).model_copy(update={"chosen": True})
    assert lost.each == [0.9, None], "JSON has no NaN"
    assert list(candidate_lines([lost, good], Objective("val_acc", "max"))) == [
        "mean val_acc of each config:",
        "  trial 3    0.8500 ± 0.0707   in the search 0.9000   <- chosen",
        "  trial 4    diverged   in the search 0.8000",
    ]


def test_the_result_is_printed_with_its_spread_the_baseline_and_the_value_in_the_search() -> None:
    assert list(result_lines(metrics(per_class={"1": 0.425, "0": 0.9}))) == [
        "results on the 360 test images, read once for this run:",
        "  trial 0          acc 0.8500 ± 0.0707   loss 0.1500 ± 0.0707",
        "  lab 1's defaults acc 0.7000 ± 0.0000   loss 0.3000 ± 0.0000",
        "in the search: val_acc 0.9500 on the validation data",
        "worst class: 1 (0.425)",
    ]


def test_a_baseline_that_does_better_and_a_second_reading_are_pointed_out() -> None:
    better = Baseline(**scores_of([0, 1], [evaluation([10, 0])] * 2), config={})
    lines = list(result_lines(metrics(baseline=better, test_reads=3)))
    assert "read 3 times" in lines[0]
    assert lines[-2].startswith("hint: lab 1's defaults do better than this config")
    assert lines[-1].startswith("note: the test set has been read 3 times for this run")
