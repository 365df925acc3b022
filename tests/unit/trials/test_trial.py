"""Ranking, counting and advising, from plain records."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from text_recognizer.metrics import Objective
from tuning.trials.table import trials_table
from tuning.trials.trial import Best, Epoch, Outcome, Trial, counts, epochs_saved, ranking, reranked

NAN = math.nan


def trial(
    number: int, *values: float, outcome: Outcome | None = Outcome.COMPLETE, **params: float
) -> Trial:
    epochs = tuple(
        Epoch(i, {"val_acc": value, "val_loss": -value}) for i, value in enumerate(values, 1)
    )
    return Trial(number, params or {"fc1": 8}, epochs, outcome)


def test_the_best_epoch_is_the_first_of_equals_and_never_nan() -> None:
    best = trial(0, NAN, 0.5, 0.9, 0.9, math.inf).best_epoch(Objective("val_acc", "max"))
    assert best is not None
    assert best.epoch == 3
    assert trial(0, NAN, NAN).best_epoch(Objective("val_acc", "max")) is None
    lowest = trial(0, 0.5, 0.9).best_epoch(Objective("val_loss", "min"))
    assert lowest is not None
    assert lowest.epoch == 2


def test_only_complete_and_stopped_trials_are_ranked_by_their_best_epoch() -> None:
    trials = [
        trial(0, 0.5, 0.8, 0.7),
        trial(1, 0.9, outcome=Outcome.STOPPED_EARLY),
        trial(2, 0.99, outcome=Outcome.DIVERGED),
        trial(3, 0.99, outcome=None),
        trial(4, 0.8),
        trial(5, 0.99, outcome=Outcome.FAILED),
        trial(6, NAN, outcome=Outcome.STOPPED_EARLY),
    ]
    assert [
        (best.trial.number, best.value) for best in ranking(trials, Objective("val_acc", "max"))
    ] == [(1, 0.9), (0, 0.8), (4, 0.8)]
    assert [best.trial.number for best in ranking(trials, Objective("val_loss", "min"))] == [
        1,
        0,
        4,
    ]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.sampled_from([None, *Outcome]))),
    st.sampled_from([Objective("val_acc", "max"), Objective("val_loss", "min")]),
)
def test_a_ranking_follows_its_trials(
    changes: list[tuple[int, int, Outcome | None]], objective: Objective
) -> None:
    trials: dict[int, Trial] = {}
    ranked: list[Best] = []
    for number, value, outcome in changes:
        metrics = {"val_acc": value, "val_loss": value if value < 4 else math.nan}
        after = Trial(number, {}, (Epoch(1, metrics),), outcome)
        ranked = reranked(ranked, trials.get(number), after, objective)
        trials[number] = after
        assert ranked == ranking(trials.values(), objective)


def test_counts_name_every_way_and_sum_to_the_trials() -> None:
    found = counts([trial(0, 0.5), trial(1, 0.5, outcome=None), trial(2, outcome=Outcome.FAILED)])
    assert found == {
        "complete": 1,
        "stopped_early": 0,
        "diverged": 0,
        "out_of_memory": 0,
        "stalled": 0,
        "failed": 1,
        "running": 1,
        "waiting": 0,
    }


def test_epochs_are_saved_by_asha_alone() -> None:
    stopped = trial(1, 0.5, outcome=Outcome.STOPPED_EARLY)
    cut = replace(stopped, number=2, cause="the time budget of 1m is used up")
    assert epochs_saved([trial(0, 0.5), stopped, cut, trial(3, outcome=Outcome.FAILED)], 12) == 11


def test_csv_keeps_every_trial_and_whatever_a_cause_contains() -> None:
    bad = Trial(1, {"fc1": 9, "note": 'a,"b"'}, (), Outcome.FAILED, "ValueError: a,\nb")
    rows = list(
        csv.DictReader(
            io.StringIO(
                trials_table([trial(0, 0.5), bad], ["fc1", "note"], Objective("val_acc", "max"))
            )
        )
    )
    assert [row["status"] for row in rows] == ["complete", "failed"]
    assert rows[0]["val_acc"] == "0.5"
    assert rows[1]["note"] == 'a,"b"'
    assert rows[1]["cause"] == "ValueError: a,\nb"
