"""What a careful colleague would remark."""

from __future__ import annotations

from tests import shapes
from tests.unit.trials.test_trial import trial
from text_recognizer.metrics import Objective
from tuning.analysis.advice import advice, final_remarks, lonely_winner, near_end, seed_spread
from tuning.trials.trial import Best, Outcome, ranking

SPACE = {"fc1": {"low": 8, "high": 64}}


def ranked(*values: float) -> list[Best]:
    return ranking(
        [trial(number, value, fc1=20) for number, value in enumerate(values)],
        Objective("val_acc", "max"),
    )


def test_an_end_is_near_on_the_parameters_own_scale() -> None:
    assert near_end(1000, 32, 1024, log=True) == "top"
    assert near_end(900, 32, 1024, log=True) is None
    assert near_end(0.0, 0.0, 0.6, log=False) == "bottom"


def test_it_names_the_end_of_the_range_and_is_silent_without_a_best() -> None:
    trials = [trial(0, 0.5, 0.4, fc1=64), trial(1, 0.4, 0.3, fc1=20)]
    said = advice(ranking(trials, Objective("val_acc", "max")), SPACE, trials, 2)
    assert said == [
        "the best fc1 (64) is near the top of its range (64); a wider range may do better"
    ]
    assert advice([], SPACE, trials, 2) == []


def test_too_few_trials_in_the_good_region() -> None:
    assert "no other trial comes within 0.0100 of the best" in (
        lonely_winner(ranked(0.9, 0.8, 0.8, 0.7)) or ""
    )
    assert "one other trial comes" in (lonely_winner(ranked(0.9, 0.895, 0.8, 0.7, 0.7)) or "")
    assert lonely_winner(ranked(0.9, 0.895, 0.899, 0.8, 0.7, 0.7)) is None
    assert lonely_winner(ranked(0.9, 0.9, 0.9)) is None, "all alike: nobody is alone"


def test_a_class_much_worse_than_the_rest() -> None:
    (said,) = shapes.validation(0, hits=24).weak_classes()
    assert said.startswith(
        f"class {shapes.NASTY} is recognised in 66.7% of its 36 validation images, the rest in 100.0%"
    )
    assert shapes.validation(0, hits=36).weak_classes() == []
    assert shapes.validation(0, hits=35).weak_classes() == [], "one image of 36 is chance"


def test_a_winner_that_guesses_and_trials_that_mostly_broke() -> None:
    (said,) = (
        shapes.validation(0)
        .model_copy(update={"confusion": [[36] + [0] * 9 for _ in range(10)]})
        .remarks()
    )
    assert (
        said == "the winner reads 10.0% of the validation images right: hardly better than guessing"
    )
    broken = [shapes.trial(n, Outcome.DIVERGED, 1) for n in range(3)]
    assert advice([], SPACE, broken, 2) == [
        "3 of 3 trials ended as diverged: a lower top of lr's range may help"
    ]
    assert advice([], SPACE, [*shapes.many(8), broken[0]], 9) == [], "one is an accident"


def test_a_final_model_that_lab_1_beats() -> None:
    final = shapes.final()
    better = final.baseline.model_copy(update={"test_acc": 0.98})
    said = final_remarks(final.model_copy(update={"baseline": better}), ranked(0.9), "val_acc")
    assert said[0].startswith("lab 1's defaults, trained the same way, read 1.00% more")
    assert final_remarks(final, ranked(0.9), "val_acc") == []


ALONE = shapes.final().model_copy(update={"candidates": []})


def test_seeds_that_differ_by_more_than_the_winner_was_ahead() -> None:
    (said,) = seed_spread(ALONE, ranked(0.9, 0.8), "val_acc")
    assert (
        "lead over trial 1 (0.1000) is smaller than what the seed alone changes (0.2000, standard deviation over 3"
        in said
    )
    assert seed_spread(ALONE, ranked(0.9, 0.6), "val_acc") == []
    assert seed_spread(ALONE, ranked(0.9), "val_acc") == [], "nobody to be ahead of"
    assert seed_spread(shapes.final(), ranked(0.9, 0.8), "val_acc") == [], "--top looked at that"
    assert seed_spread(ALONE, ranked(0.9, 0.8), "val_loss") == [], "losses are compared with losses"
