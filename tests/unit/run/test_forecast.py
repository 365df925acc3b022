"""What `--check` says before a search: rungs, epochs, disk, warnings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuning import search
from tuning.run.forecast import (
    describe_plan,
    expected_epochs,
    expected_trials,
    notes,
    trials_per_stage,
    waiting_kept,
)
from tuning.run.resources import Slots
from tuning.space.schema import SearchSettings, Stop

ON_CPUS = Slots(2, 1, 0)


STOPPING = {"type": "stopping", "grace_epochs": 1, "reduction_factor": 3}
PROMOTION = {"type": "promotion", "grace_epochs": 1, "reduction_factor": 3, "quota": 1}


def settings(asha: dict[str, Any] = STOPPING, **values: Any) -> SearchSettings:
    return SearchSettings.model_validate({"asha": asha, "trials": 30, **values})


@pytest.mark.parametrize("asha", [STOPPING, PROMOTION])
def test_each_rung_lets_its_best_third_go_on(asha: dict[str, Any]) -> None:
    assert trials_per_stage(settings(asha)) == [30, 10, 3, 1]
    assert expected_epochs(settings(asha)) == 30 * 1 + 10 * 2 + 3 * 6 + 1 * 3


def test_a_quota_lets_more_go_on() -> None:
    assert trials_per_stage(settings(PROMOTION | {"quota": 2})) == [30, 20, 13, 8]


def test_epochs_decide_how_many_trials_there_are() -> None:
    limited = settings(PROMOTION, trials=100, stop={"epochs": 71})
    assert expected_trials(limited) == 29, "2.44 epochs each"
    assert trials_per_stage(limited)[:2] == [29, 9]
    assert expected_epochs(settings(PROMOTION, trials=100, stop={"epochs": 7})) == 7
    assert expected_trials(settings(PROMOTION, trials=9, stop={"epochs": 71})) == 9, "a cap"


def test_as_many_checkpoints_of_waiting_trials_are_kept_as_can_go_on() -> None:
    assert waiting_kept(settings(PROMOTION)) == 5, "of each kind"
    assert waiting_kept(settings(PROMOTION, trials=1000)) == 10
    assert waiting_kept(settings(PROMOTION, trials=3)) == 4
    assert waiting_kept(settings(PROMOTION, sampler="tpe")) == 10
    assert waiting_kept(settings(STOPPING)) == 0


def test_without_asha_every_trial_has_every_epoch() -> None:
    none = SearchSettings(trials=30, scheduler="none")
    assert trials_per_stage(none) == [30]
    assert expected_epochs(none) == 30 * 12
    assert list(notes(none, 1, ON_CPUS)) == []


@pytest.mark.parametrize(
    ("epochs", "trials", "warning"),
    [(1, 30, "no trial can be stopped early"), (12, 8, "few trials for ASHA (8)"), (12, 9, None)],
)
def test_where_halving_cannot_work_it_is_said(
    epochs: int, trials: int, warning: str | None
) -> None:
    said = list(notes(settings(max_epochs=epochs), trials, ON_CPUS))
    assert [text[: len(warning)] for text in said] == [warning] if warning else said == []


def test_a_limit_in_trials_alone_says_how_to_spend_as_many_epochs() -> None:
    (said,) = notes(settings(PROMOTION), 30, ON_CPUS)
    assert said == (
        "30 trials that wait at rungs make about 71 epochs; 30 that ASHA stops make about 120. To "
        "spend as many: --epochs 120 --trials 49"
    )
    assert list(notes(settings(PROMOTION, stop={"epochs": 71}), 30, ON_CPUS)) == []
    assert list(notes(settings(STOPPING), 30, ON_CPUS)) == []


def test_a_limit_that_cannot_be_reached_is_said() -> None:
    search = SearchSettings(stop=Stop(gpu_hours=1))
    assert list(notes(search, 30, Slots(2, 1, 0, "no GPU here"))) == [
        "no GPU here",
        "search.stop.gpu_hours is never reached: the trials use no GPU",
    ]
    assert list(notes(search, 30, Slots(2, 1, 0.5))) == []


def test_disk_is_that_of_running_and_kept_checkpoints() -> None:
    *_, disk = describe_plan(settings(), ON_CPUS, 1_000_000, keep=3)
    megabytes = 4 * 3 * (2 * 3 + 3)
    assert disk.startswith(f"disk: {megabytes} MB of checkpoints at most")
    *_, waiting, disk = describe_plan(settings(PROMOTION), ON_CPUS, 1_000_000, keep=3)
    assert waiting == "of the trials that wait at a rung the best 10 keep their checkpoints"
    # two files each of 10, 7 and 2 that wait
    assert disk.startswith(f"disk: {megabytes + 4 * 3 * 2 * (10 + 7 + 2)} MB of checkpoints")


SPACE = """
space:
  fc1: {type: int, low: 32, high: 1024}
search: {trials: 30, stop: {epochs: 200}, asha: {reduction_factor: 3, quota: 1}}
"""


def test_check_prints_the_plan_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    assert (
        search.main(
            ["--space", "s.yaml", "--check", "--time-budget", "30m", "--max-concurrent", "1"]
        )
        == 0
    )
    said = capsys.readouterr().out
    for part in (
        "up to 200 epochs on MNIST (else Digits), 1 at once",
        "gp + promotion",
        "epochs: about 71, 200 at most",
        "trials: about 30, 30 at most",
        "ends at the first of: 30 trials, epochs 200, time 30m",
        "the best 10 keep their checkpoints",
        "in order",
    ):
        assert part in said
    assert "     3            9                     3       1" in said.splitlines()
    search.main(["--space", "s.yaml", "--check", "--data-dir", "data"])
    assert "200 epochs on MNIST, " in capsys.readouterr().out, "nothing may replace it"
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]
