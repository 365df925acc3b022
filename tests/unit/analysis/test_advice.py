"""Remarks on the result of a search and on its final model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import shapes
from tests.unit.trials.test_trial import trial
from text_recognizer.metrics import Objective
from tuning.analysis.advice import (
    final_remarks,
    outlier_remarks,
    search_remarks,
    validation_remarks,
)
from tuning.space.search_space import SearchSpace
from tuning.trials.trial import Best, Outcome, Trial, ranking

ACCURACY = Objective("val_acc", "max")
ALONE = shapes.final().model_copy(update={"candidates": []})


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    """Four parameters, fc1 from 8 to 4096 on a log scale; 9 epochs."""
    return shapes.space_in(tmp_path)


def ranked(*values: float) -> list[Best]:
    return ranking([trial(i, value, fc1=20) for i, value in enumerate(values)], ACCURACY)


@pytest.mark.parametrize(
    ("name", "value", "end"),
    [
        ("fc1", 4096, "top"),
        ("fc1", 3900, "top"),
        ("fc1", 3000, None),
        ("dropout", 0.0, "bottom"),
        ("dropout", 0.02, None),
    ],
)
def test_a_best_value_near_an_end_of_its_range_on_its_own_scale(
    name: str, value: float, end: str | None, space: SearchSpace
) -> None:
    trials = [trial(i, 0.5) for i in range(8)]
    found = search_remarks(ranking([trial(0, 0.9, **{name: value})], ACCURACY), space, trials)
    expected = f"the best {name} ({value:.4g}) is near the {end} of its range"
    assert [remark.startswith(expected) for remark in found] == ([True] if end else [])


def test_too_few_epochs_and_too_few_trials(space: SearchSpace) -> None:
    trials = [shapes.trial(0, Outcome.COMPLETE, shapes.EPOCHS)]
    assert list(search_remarks(ranking(trials, ACCURACY), space, trials)) == [
        "the best trial was still improving at its last epoch (9); try more epochs",
        "only 1 usable trials for 4 parameters; try more",
    ]


def test_a_best_trial_that_hardly_another_comes_close_to() -> None:
    (found,) = outlier_remarks(ranked(0.9, 0.8, 0.8, 0.7))
    assert found.startswith("no other trial is within 0.0100 of the best, which may be luck")
    (found,) = outlier_remarks(ranked(0.9, 0.895, 0.8, 0.7, 0.7))
    assert "only one other trial" in found
    assert not list(outlier_remarks(ranked(0.9, 0.895, 0.899, 0.8, 0.7, 0.7)))
    assert not list(outlier_remarks(ranked(0.9, 0.9, 0.9))), "all are alike"


def test_a_class_much_worse_than_the_rest() -> None:
    assert list(validation_remarks(shapes.validation(0, hits=24))) == [
        f"class {shapes.NASTY}: 66.7% of its 36 validation images are recognised, against 100.0% "
        "of the others"
    ]
    assert list(validation_remarks(shapes.validation(0, hits=36))) == []
    assert list(validation_remarks(shapes.validation(0, hits=35))) == [], (
        "one image of 36 is chance"
    )


def test_a_best_trial_that_guesses() -> None:
    guesses = {"confusion": [[36] + [0] * 9 for _ in range(10)]}
    assert list(validation_remarks(shapes.validation(0).model_copy(update=guesses))) == [
        "the best trial recognises 10.0% of the validation images: hardly better than guessing"
    ]


def test_many_trials_that_broke(space: SearchSpace) -> None:
    broken = [shapes.trial(n, Outcome.DIVERGED, 1) for n in range(3)]
    assert list(search_remarks([], space, broken)) == [
        "3 of 3 trials ended as diverged; try lower learning rates"
    ]
    others: list[Trial] = shapes.many(8)
    assert list(search_remarks([], space, [*others, broken[0]])) == [], "one is an accident"


def test_a_final_model_that_lab_1_beats() -> None:
    final = shapes.final()
    better = final.baseline.model_copy(update={"test_acc": 0.98})
    (found,) = final_remarks(final.model_copy(update={"baseline": better}), ranked(0.9))
    assert (
        found == "lab 1's defaults, trained the same way, recognise 1.00% more of the test images"
    )
    assert list(final_remarks(final, ranked(0.9))) == []


def test_seeds_that_differ_by_more_than_the_best_trial_was_ahead() -> None:
    (found,) = final_remarks(ALONE, ranked(0.9, 0.8))
    assert found.startswith(
        "the best trial's lead over trial 1 (0.1000) is smaller than the standard deviation over 3 "
        "seeds (0.2000)"
    )
    assert list(final_remarks(ALONE, ranked(0.9, 0.6))) == []
    assert list(final_remarks(ALONE, ranked(0.9))) == [], "there is no second"
    assert list(final_remarks(shapes.final(), ranked(0.9, 0.8))) == [], "--top answered that"
    assert (
        list(final_remarks(ALONE.model_copy(update={"metric": "val_loss"}), ranked(0.9, 0.8))) == []
    ), "that deviation is of losses"
