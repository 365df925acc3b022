"""What is seen in a terminal and in a pipe, of a study in a real SQLite file."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from tests import shapes
from tests.following import Calls
from tuning.callbacks.console import SearchConsole, TrialTable, describe_time_left, tally
from tuning.run.forecast import time_left
from tuning.space.schema import SearchSettings, Stop
from tuning.study.optuna_record import create_record, load_record
from tuning.study.study import Study
from tuning.trials.trial import Epoch, Outcome, Trial


@pytest.fixture
def study(tmp_path: Path, database: Path) -> Study:
    space = shapes.space_in(tmp_path)
    return Study(create_record(f"sqlite:///{database}", space, "s"), space, trials=30)


def train(study: Study, outcome: Outcome, *values: float) -> None:
    """The next trial, from its first epoch to its end."""
    trial = study.next_trial()
    assert trial is not None
    for number, value in enumerate(values, len(trial.epochs) + 1):
        study.record_epoch(trial.number, Epoch(number, {"val_acc": value}, time=number))
    study.close(trial.number, outcome, "" if outcome == Outcome.STOPPED_EARLY else "\x1b[2J bad")


def run(study: Study, *, terminal: bool, quiet: bool = False, colour: bool = True) -> str:
    """What is printed while three trials run and end."""
    file = io.StringIO()
    rich = Console(
        file=file,
        force_terminal=terminal,
        width=160,
        soft_wrap=True,
        highlight=False,
        no_color=not colour,
    )
    console = SearchConsole(quiet=quiet)
    console.rich = rich
    table = TrialTable(console, study, 2)
    study.callbacks.append(Calls(lambda _: table.live.refresh() if table.live else None))
    study.callbacks.append(table)
    with table:
        train(study, Outcome.STOPPED_EARLY, 0.5, 0.6)
        train(study, Outcome.STOPPED_EARLY, 0.4)
        train(study, Outcome.DIVERGED, 0.7)
    return file.getvalue()


def test_in_a_pipe_there_are_plain_lines_one_for_each_trial(study: Study) -> None:
    head, *rows = run(study, terminal=False).splitlines()
    assert head.split() == ["trial", "epoch", "val_acc", "status", *study.space.parameters]
    assert [row.split()[:4] for row in rows] == [
        ["0", "2/9", "0.6000", "stopped"],
        ["1", "1/9", "0.4000", "stopped"],
        ["2", "1/9", "0.7000", "diverged"],
    ]
    place = head.index("optimizer")
    for row, trial in zip(rows, study.trials, strict=True):
        assert row[place:].startswith(trial.params["optimizer"]), "the columns are aligned"
    assert ["<- best so far" in row for row in rows] == [True, False, False]
    assert rows[2].endswith("  \\x1b[2J bad"), "nothing is obeyed"


def test_in_a_terminal_the_running_trials_and_the_whole_are_seen(study: Study) -> None:
    said = run(study, terminal=True)
    for part in (
        "running",
        "2 of 30 trials ended",
        "best 0.6000 (trial 0), trial 2 runs at 0.7000",
        "epochs trained, up to 15 skipped by early stopping",
        "1 of 2 slots in use",
        "time left not known yet",
        "trial 2 diverged: \\x1b[2J bad",
    ):
        assert part in said
    assert "\x1b[31m" in said, "failures are red"


def test_no_color_is_respected_and_quiet_says_nothing_of_trials(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b[31m" not in run(study, terminal=True, colour=False)
    assert run(study, terminal=True, quiet=True) == ""
    monkeypatch.setitem(os.environ, "NO_COLOR", "1")
    assert SearchConsole().rich.no_color


def test_a_failure_that_is_tried_again_is_a_note_once(study: Study, database: Path) -> None:
    file = io.StringIO()
    console = SearchConsole()
    console.rich = Console(file=file, width=160)
    study.callbacks.append(TrialTable(console, study, 1))
    train(study, Outcome.FAILED, 0.5)
    said = "note: trial 0 failed and is tried again: \\x1b[2J bad\n"
    assert file.getvalue() == said
    resumed = Study(load_record(f"sqlite:///{database}", "s"), study.space, trials=30)
    resumed.callbacks.append(TrialTable(console, resumed, 1))
    assert resumed.next_trial() == study.trials[0]
    assert file.getvalue() == said, "not again by the next process"


def test_the_tally_says_how_trials_ended_and_where_the_epochs_went() -> None:
    trials = [shapes.trial(n, Outcome.STOPPED_EARLY, n + 1) for n in range(2)]
    epochs = "3 epochs trained, up to 15 skipped by early stopping"
    assert tally(trials, shapes.EPOCHS) == f"2 stopped early; {epochs}"
    assert tally([], 9).startswith("no trial; 0 epochs trained")


def left(
    trials: Sequence[Trial], wanted: int, worked: float = 0.0, **limits: object
) -> tuple[float, float] | None:
    stop = Stop.model_validate(limits)
    search = SearchSettings(trials=wanted, max_epochs=shapes.EPOCHS, stop=stop)
    return time_left(trials, search, 0.0, worked)


def test_the_time_left_follows_from_what_the_trials_took_so_far() -> None:
    # an epoch a second, nine a trial
    trials = [shapes.trial(n, Outcome.COMPLETE, 9) for n in range(8)]
    found = left(trials, 16)
    assert found == (pytest.approx(72), pytest.approx(72))
    assert describe_time_left(found) == "about 1m10s left"
    assert left(trials, 8) == (0, 0)
    assert left(trials[:3], 16) is None, "too few to say"
    assert describe_time_left(None) == "time left not known yet"


def test_the_more_the_trials_differ_the_wider_is_the_estimate_and_limits_cut_it() -> None:
    trials = [shapes.trial(n, Outcome.STOPPED_EARLY, 9 if n % 3 == 0 else 1) for n in range(12)]
    found = left(trials, 24)
    assert found is not None
    low, high = found
    assert 1 < low < high
    assert " to " in describe_time_left(found)
    assert left(trials, 24, 29.0, time="30s") == (pytest.approx(1.0), pytest.approx(1.0))
    assert left(trials, 24, epochs=44) == (0, 0)
