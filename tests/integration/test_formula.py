"""Whole searches on a real local Ray with a formula in place of training."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.formula import EPOCHS, outcomes, run, search, space_in, value
from tuning.ray_backend.local_cluster import OwnCluster
from tuning.ray_backend.signals import Interruptions
from tuning.run.resources import Slots
from tuning.space.schema import Stop
from tuning.study.optuna_record import create_record
from tuning.study.study import Study
from tuning.trials.trial import Outcome, ranking

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formula")


@pytest.fixture(scope="module")
def study(folder: Path, empty_database: Path, cluster: None) -> Study:
    """A search with two trials at once, each on half a GPU. The cluster of these tests has two
    CPUs, and two GPUs that exist for Ray alone.
    """
    path = folder / "study.db"
    path.write_bytes(empty_database.read_bytes())
    return search(folder / "run", f"sqlite:///{path}", trials=24, slots=Slots(2, 1, 0.5))


def noted(folder: Path, column: int) -> set[str]:
    """What the trials noted beside their epochs: 2 is the process, 3 the GPUs that it sees."""
    files = (folder / "run").glob("acknowledged-*")
    return {line.split(" ")[column] for file in files for line in file.read_text().splitlines()}


def test_a_search_ends_with_as_many_trials_as_asked_and_the_best_is_the_best(study: Study) -> None:
    assert len(study.trials) == 24
    assert set(outcomes(study)) == {"complete", "stopped_early"}
    assert all(
        (trial.outcome == Outcome.COMPLETE) == (len(trial.epochs) == EPOCHS)
        for trial in study.trials
    )
    assert all(len(trial.epochs) in (1, 3, 9) for trial in study.trials), "trials end at rungs"
    best = ranking(study.trials, study.objective)[0]
    assert best.epoch.epoch == EPOCHS
    assert best.value == value(best.trial.params["x"], EPOCHS)
    assert abs(best.trial.params["x"] - 0.7) < 0.1


@pytest.mark.usefixtures("study")
def test_workers_are_reused_and_each_sees_one_gpu(folder: Path) -> None:
    assert len(noted(folder, 2)) <= 2, "never a new process for each trial"
    assert noted(folder, 3) <= {"0", "1"}


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
        create_record(f"sqlite:///{database}", space, "run"), space, trials=4, stop=Stop(time="1s")
    )
    run(study, tmp_path, Slots(1, 1000, 0), Interruptions(), cluster=WithoutNodes(waiting))
    assert "time budget" in (study.stop_reason or "")
    assert [(trial.outcome, trial.epochs) for trial in study.trials] == [
        (Outcome.STOPPED_EARLY, ())
    ] * waiting


def test_a_search_for_which_there_is_no_node_heeds_the_first_ctrl_c(
    tmp_path: Path, database: Path
) -> None:
    space = space_in(tmp_path)
    study = Study(create_record(f"sqlite:///{database}", space, "run"), space, trials=4)
    interruptions = Interruptions()
    cluster = WithoutNodes(0, lambda: signal.raise_signal(signal.SIGINT))
    with interruptions, interruptions.first_asks(lambda: None):
        run(study, tmp_path, Slots(1, 1, 0), interruptions, cluster=cluster)
    assert interruptions.number == signal.SIGINT
    assert study.trials == []
