"""Whole searches on a real local Ray with a formula in place of training."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.formula import EPOCHS, measured, outcomes, run, search, space_in, value
from text_recognizer.metrics import Objective
from tuning.ray_backend.local_cluster import OwnCluster
from tuning.ray_backend.tune_run import Interrupt
from tuning.run.resources import Slots
from tuning.space.schema import Stop
from tuning.study.optuna_record import create_record
from tuning.study.study import Study
from tuning.trials.trial import Outcome, ranking

pytestmark = pytest.mark.usefixtures("cluster")


def test_a_search_ends_with_as_many_trials_as_asked_and_the_best_is_the_best(
    tmp_path: Path, database: Path
) -> None:
    study = search(tmp_path / "run", f"sqlite:///{database}", trials=24)
    assert len(study.trials) == 24
    assert set(outcomes(study)) == {"complete", "stopped_early"}
    assert all(
        (trial.outcome == Outcome.COMPLETE) == (len(trial.epochs) == EPOCHS)
        for trial in study.trials
    )
    assert all(len(trial.epochs) in (1, 3, 9) for trial in study.trials), "trials end at rungs"
    best = ranking(study.trials, Objective("val_acc", "max"))[0]
    assert best.epoch.epoch == EPOCHS
    assert best.value == value(best.trial.params["x"], EPOCHS)
    assert abs(best.trial.params["x"] - 0.7) < 0.1


def test_workers_are_reused(tmp_path: Path, database: Path) -> None:
    search(tmp_path / "run", f"sqlite:///{database}", trials=8)
    files = (tmp_path / "run").glob("acknowledged-*")
    processes = {line.split()[2] for file in files for line in file.read_text().splitlines()}
    assert len(processes) <= 2, (
        "never a new process for each trial; a quick worker may do all eight"
    )


def test_one_slot_and_one_seed_give_the_same_search(tmp_path: Path, database: Path) -> None:
    first, second = (
        search(tmp_path / name, f"sqlite:///{database}", trials=12, slots=Slots(1, 1, 0))
        for name in ("first", "second")
    )
    assert measured(first.trials) == measured(second.trials)


def test_half_a_gpu_each_puts_two_trials_on_one(tmp_path: Path, database: Path) -> None:
    """The cluster of these tests has two CPUs and two GPUs that exist for Ray alone."""
    search(tmp_path / "run", f"sqlite:///{database}", trials=8, slots=Slots(2, 1, 0.5))
    files = (tmp_path / "run").glob("acknowledged-*")
    seen = {line.split()[3] for file in files for line in file.read_text().splitlines()}
    assert seen <= {"0", "1"}, "each trial sees one GPU"


class WithoutNodes(OwnCluster):
    """One whose nodes were all taken away; so many trials wait for new ones. `on_wait` is called
    once that is so for a while.
    """

    def __init__(self, waiting: int, on_wait: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.waiting = waiting
        self.on_wait = on_wait
        self.asked = 0

    def room(self, slots: Slots) -> int:
        self.asked += 1
        if self.asked == 3:
            self.on_wait()
        return self.waiting

    def has_no_room(self, slots: Slots) -> bool:
        return True


@pytest.mark.parametrize("waiting", [0, 1])
def test_a_search_for_which_there_is_no_node_ends_with_its_time(
    waiting: int, tmp_path: Path, database: Path
) -> None:
    space = space_in(tmp_path)
    study = Study(
        create_record(f"sqlite:///{database}", space, "run"), space, trials=4, stop=Stop(time="2s")
    )
    run(study, tmp_path, "", Slots(1, 1000, 0), Interrupt(), WithoutNodes(waiting))
    assert "time budget" in (study.stop_reason or "")
    assert [(trial.outcome, trial.epochs) for trial in study.trials] == [
        (Outcome.STOPPED_EARLY, ())
    ] * waiting


def test_a_search_for_which_there_is_no_node_heeds_the_first_ctrl_c(
    tmp_path: Path, database: Path
) -> None:
    space = space_in(tmp_path)
    study = Study(create_record(f"sqlite:///{database}", space, "run"), space, trials=4)
    interrupt = Interrupt()
    with interrupt.listening(lambda: None):
        run(
            study,
            tmp_path,
            "",
            Slots(1, 1, 0),
            interrupt,
            WithoutNodes(0, lambda: signal.raise_signal(signal.SIGINT)),
        )
    assert interrupt.signal == signal.SIGINT
    assert study.trials == []
