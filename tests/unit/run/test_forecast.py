"""What `--check` says before a search: rungs, epochs, disk, warnings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuning import search
from tuning.run.forecast import describe_plan, expected_epochs, notes, trials_per_stage
from tuning.run.resources import Slots
from tuning.space.schema import SearchSettings, Stop

ON_CPUS = Slots(2, 1, 0)


def test_each_rung_lets_its_best_third_go_on() -> None:
    assert trials_per_stage(SearchSettings(trials=30)) == [30, 10, 3, 1]
    assert expected_epochs(SearchSettings(trials=30)) == 30 * 1 + 10 * 2 + 3 * 6 + 1 * 3


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
    said = list(notes(SearchSettings(max_epochs=epochs), trials, ON_CPUS))
    assert [text[: len(warning)] for text in said] == [warning] if warning else said == []


def test_a_limit_that_cannot_be_reached_is_said() -> None:
    search = SearchSettings(stop=Stop(gpu_hours=1))
    assert list(notes(search, 30, Slots(2, 1, 0, "no GPU here"))) == [
        "no GPU here",
        "search.stop.gpu_hours is never reached: the trials use no GPU",
    ]
    assert list(notes(search, 30, Slots(2, 1, 0.5))) == []


def test_disk_is_that_of_running_and_kept_checkpoints() -> None:
    *_, disk = describe_plan(SearchSettings(), ON_CPUS, 1_000_000, keep=3)
    megabytes = 4 * 3 * (2 * 3 + 3)
    assert disk.startswith(f"disk: {megabytes} MB of checkpoints at most")


SPACE = """
space:
  fc1: {type: int, low: 32, high: 1024}
search: {trials: 30, stop: {epochs: 200}}
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
        "30 trials on MNIST (else Digits), 1 at once",
        "epochs: about 71, 360 at most",
        "epochs 200, time 30m",
        "in order",
    ):
        assert part in said
    assert "     3            9                     3       1" in said.splitlines()
    search.main(["--space", "s.yaml", "--check", "--data-dir", "data"])
    assert "30 trials on MNIST, " in capsys.readouterr().out, "nothing may replace it"
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]
