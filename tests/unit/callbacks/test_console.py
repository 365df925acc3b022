"""What is seen in a terminal and in a pipe."""

from __future__ import annotations

import io
import os
from dataclasses import replace

import pytest
from rich.console import Console

from tests import shapes
from tuning.callbacks.console import SearchConsole, told
from tuning.run.forecast import TimeLeft, time_left
from tuning.space.schema import Stop
from tuning.space.search_space import SearchSpace
from tuning.trials.trial import Outcome, Trial


@pytest.fixture
def nasty(tmp_path: object) -> SearchSpace:
    return shapes.space_in(tmp_path)  # type: ignore[arg-type]


def run(space: SearchSpace, *, terminal: bool, quiet: bool = False, colour: bool = True) -> str:
    """What is said while a search of a few trials goes on."""
    file = io.StringIO()
    console = Console(
        file=file,
        force_terminal=terminal,
        width=160,
        soft_wrap=True,
        highlight=False,
        no_color=not colour,
    )
    search = SearchConsole(space, 30, quiet=quiet, console=console)
    with search:
        for trial in shapes.many(10):
            search.on_change(replace(trial, outcome=None))
            if search.live:
                search.live.refresh()
            search.on_change(trial)
    return file.getvalue()


def test_in_a_pipe_there_are_plain_lines_one_for_each_trial(nasty: SearchSpace) -> None:
    lines = run(nasty, terminal=False).splitlines()
    assert lines[0].split() == [
        "trial",
        "epoch",
        "val_acc",
        "status",
        "fc1",
        "dropout",
        "optimizer",
        "momentum",
    ]
    assert len(lines) == 11
    assert not any("\x1b" in line for line in lines)
    assert "<- best so far" in lines[1]


def test_in_a_terminal_the_running_trials_and_the_whole_are_seen(nasty: SearchSpace) -> None:
    said = run(nasty, terminal=True)
    for part in (
        "running",
        "of 30 trials ended",
        "saved by ASHA",
        "of 1 slots in use",
        "left",
        "trial 9 diverged",
    ):
        assert part in said
    assert "\x1b[31m" in said, "failures are red"


def test_no_color_is_respected_and_quiet_says_nothing_of_trials(
    nasty: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b[31m" not in run(nasty, terminal=True, colour=False)
    assert run(nasty, terminal=True, quiet=True) == ""
    monkeypatch.setitem(os.environ, "NO_COLOR", "1")
    assert SearchConsole(nasty, 30).console.no_color


def test_a_failure_that_is_tried_again_is_a_note(nasty: SearchSpace) -> None:
    file = io.StringIO()
    search = SearchConsole(nasty, 30, console=Console(file=file, width=160))
    search.on_change(Trial(3, {}, failures=("ValueError: \x1b[2J bad",)))
    assert file.getvalue() == "note: trial 3 failed and is tried again: ValueError: \\x1b[2J bad\n"


def left(
    trials: list[Trial], wanted: int, stop: Stop | None = None, worked: float = 0.0
) -> TimeLeft | None:
    return time_left(trials, wanted, shapes.EPOCHS, 0.0, stop or Stop(), worked)


def test_the_time_left_follows_from_what_the_trials_took_so_far() -> None:
    # an epoch a second, nine a trial
    trials = [shapes.trial(n, Outcome.COMPLETE, 9) for n in range(8)]
    found = left(trials, 16)
    assert found == TimeLeft(pytest.approx(72), pytest.approx(72))
    assert told(found) == "about 1m10s left"
    assert left(trials, 8) == TimeLeft(0, 0)
    assert left(trials[:3], 16) is None, "too few to say"
    assert told(None) == "time left not known yet"


def test_the_more_the_trials_differ_the_wider_is_the_estimate_and_limits_cut_it() -> None:
    trials = [shapes.trial(n, Outcome.STOPPED_EARLY, 9 if n % 3 == 0 else 1) for n in range(12)]
    found = left(trials, 24)
    assert found is not None
    assert found.low < found.high
    assert " to " in told(found)
    assert found.high > 1
    capped = left(trials, 24, Stop(time="30s"), worked=29.0)
    assert capped is not None
    assert capped.high == pytest.approx(1.0)
    assert left(trials, 24, Stop(epochs=44)) == TimeLeft(0, 0)
