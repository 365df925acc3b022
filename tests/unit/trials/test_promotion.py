"""The rule of promotion: who goes on, who waits, who is next. No Ray, no Optuna."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tuning.space.schema import SearchSettings
from tuning.trials.promotion import Promotion
from tuning.trials.trial import Epoch, Outcome, Trial


def settings(
    max_epochs: int = 20, metric: str = "val_acc", sampler: str = "random", **asha: int
) -> SearchSettings:
    asha = {"reduction_factor": 4, "quota": 1, **asha}
    return SearchSettings.model_validate(
        {"max_epochs": max_epochs, "metric": metric, "sampler": sampler, "asha": asha}
    )


def epoch(number: int, value: float, metric: str = "val_acc", worked: float = 0.0) -> Epoch:
    return Epoch(number, {metric: value}, worked=worked)


def arrive(rule: Promotion, number: int, value: float, rung: int = 1) -> bool:
    """A trial comes to a rung; whether it goes on."""
    one = epoch(rung, value, rule.metric)
    rule.record(number, one)
    return rule.goes_on(number, one)


def test_of_n_trials_a_quarter_goes_on_and_a_place_is_given_once() -> None:
    rule = Promotion(settings())
    assert [arrive(rule, n, value) for n, value in enumerate((0.5, 0.3, 0.4))] == [False] * 3
    assert rule.next() is None, "three trials have no place"
    assert not arrive(rule, 3, 0.2), "the fourth brings a place, but is not the best"
    assert rule.next() == 0
    rule.go_on(0, 1)
    assert not arrive(rule, 4, 0.9), (
        "better than all, and there is no second place before eight came"
    )
    assert rule.next() is None
    for number in (5, 6):
        assert not arrive(rule, number, 0.1)
    assert not arrive(rule, 7, 0.8)
    assert rule.next() == 4
    assert rule.rivals(0, 1) == [4, 7, 2, 1, 3, 5, 6], "best first; of equals the earlier"


def test_the_best_that_comes_with_a_place_keeps_its_slot() -> None:
    rule = Promotion(settings())
    assert [arrive(rule, n, n / 10) for n in range(4)] == [False, False, False, True]
    assert rule.next() is None


def test_low_losses_go_on_and_a_quota_gives_more_places() -> None:
    rule = Promotion(settings(metric="val_loss", reduction_factor=3, quota=2))
    assert [arrive(rule, n, loss) for n, loss in enumerate((0.5, 0.2, 0.3))] == [False, True, True]


def test_the_highest_rung_is_first() -> None:
    rule = Promotion(settings())
    for number in range(16):
        arrive(rule, number, number / 100)
        if number % 4 == 3:
            arrive(rule, number, 1 - number / 100, rung=4)
    assert rule.next() == 3, "of the four that came to the second rung, though the first has places"
    rule.go_on(3, 4)
    assert rule.next() is None


def test_where_no_new_trial_comes_the_best_is_trained_to_the_end() -> None:
    rule = Promotion(settings())
    for number in range(3):
        arrive(rule, number, number / 10)
    assert rule.next() is None
    assert rule.next(last=True) == 2
    rule.go_on(2, 1)
    assert rule.next(last=True) is None, "one place"
    arrive(rule, 2, 0.5, rung=4)
    assert rule.next(last=True) == 2


def test_what_diverged_is_never_compared_and_what_ended_waits_no_more() -> None:
    rule = Promotion(settings())
    for number in range(3):
        arrive(rule, number, 0.1 * number)
    rule.record(3, epoch(1, float("nan")))
    assert rule.next() is None, "it brings no place"
    arrive(rule, 4, 0.0)
    rule.leave(Trial(2, {}, outcome=Outcome.STOPPED_EARLY))
    assert rule.next() == 1
    rule.go_on(1, 1)
    assert rule.next() is None
    rule.leave(Trial(1, {}, outcome=Outcome.DIVERGED))
    assert rule.next() == 0, "its place is free again"


def test_trials_that_explore_have_places_of_their_own() -> None:
    """Of the others each is better, and they would take all places."""
    rule = Promotion(settings(sampler="gp"))
    for number in range(12):
        arrive(rule, number, 0.1 + number / 100 + 0.5 * bool(number % 3))
    places = sorted(number for rung in rule.rungs[1].values() for number in rung.went)
    assert places == [5, 9, 11], "one of the four that explore, two of the eight others"
    assert rule.rivals(0, 1) == [6, 3, 0]


def test_there_are_no_rungs_where_trials_are_stopped() -> None:
    search = SearchSettings.model_validate({"asha": {"type": "stopping"}})
    assert arrive(Promotion(search), 0, 0.1)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from(["gp", "random"]),
)
def test_a_resume_finds_the_same_places(
    values: Sequence[int], slots: int, quota: int, sampler: str
) -> None:
    """Whatever was recorded, in whichever order slots reported: who waits and who is next."""
    search = settings(max_epochs=9, sampler=sampler, reduction_factor=3, quota=quota)
    rule, trials, clock = Promotion(search), dict[int, Trial](), 0.0
    running: list[int] = []
    for value in values:
        while len(running) < slots:
            number = rule.next()
            if number is None:
                number = len(trials)
                trials[number] = Trial(number, {})
            else:
                rung = trials[number].waits_after
                rule.go_on(number, rung)
                trials[number] = changed(trials[number], went_on_after=rung)
            running.append(number)
        number = running.pop(0)
        clock += 1
        one = epoch(len(trials[number].epochs) + 1, value, worked=clock)
        trials[number] = changed(trials[number], epochs=(*trials[number].epochs, one))
        rule.record(number, one)
        if one.epoch == 9:
            trials[number] = changed(trials[number], outcome=Outcome.COMPLETE)
        elif rule.goes_on(number, one):
            running.append(number)
        else:
            trials[number] = changed(trials[number], waits_after=one.epoch)
    again = Promotion(search, trials.values())
    went_on = [trials[number] for number in running if trials[number].epochs]
    for trial in went_on:  # an earlier process judged them, and left no word of it
        again.goes_on(trial.number, trial.epochs[-1])
    for at, rungs in again.rungs.items():
        for kind, rung in rungs.items():
            before = rule.rungs[at][kind]
            assert rung.came == before.came
            assert 3 * len(rung.went) <= quota * len(rung.came), "no place is given twice"
            assert slots > 1 or rung == before


def changed(trial: Trial, **values: object) -> Trial:
    return replace(trial, **values)  # type: ignore[arg-type]
