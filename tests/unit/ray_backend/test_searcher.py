"""What the searcher hands out where the cluster has no room, and whom it charges when a trial's
process ends.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.formula import search_of, space_in
from tuning.ray_backend.deaths import DIED, read_death
from tuning.ray_backend.local_cluster import Cluster
from tuning.ray_backend.searcher import StudySearcher
from tuning.ray_backend.signals import Interruptions
from tuning.ray_backend.tune_run import SearchStopper
from tuning.run.resources import Slots
from tuning.space.schema import Stop
from tuning.study.optuna_record import create_record
from tuning.study.study import Study
from tuning.trials.trial import Epoch, Outcome
from tuning.worker.guard import stall_log, trial_log, write_failure

FINISHED = "FINISHED"
STACK = """Thread 0x1 (most recent call first):
  File "/x/model.py", line 3 in forward
  File "/x/reporting.py", line 9 in run_guarded
"""


class Nodes(Cluster):
    """A cluster with so much room, of which a node may have been lost."""

    def __init__(self, room: int, lost: str | None = None) -> None:
        super().__init__()
        self.free = room
        self.lost = lost

    def dead(self) -> str | None:
        return None

    def room(self, slots: Slots) -> int:
        return self.free

    def has_no_room(self, slots: Slots) -> bool:
        return True

    def lost_node(self, since: float) -> str | None:
        return self.lost


@pytest.fixture
def study(tmp_path: Path, database: Path) -> Study:
    space = space_in(tmp_path)
    return Study(create_record(f"sqlite:///{database}", space, "run"), space, trials=2)


def searcher(study: Study, folder: Path, nodes: Nodes, *, ending: bool = False) -> StudySearcher:
    return StudySearcher(search_of(study, folder, Slots(1, 1, 0)), nodes, lambda: ending)


def test_without_room_a_search_waits_until_it_is_over(study: Study, tmp_path: Path) -> None:
    nodes = Nodes(0)
    assert searcher(study, tmp_path, nodes).suggest("a") is None
    assert searcher(study, tmp_path, nodes, ending=True).suggest("a") == FINISHED, "after Ctrl-C"
    study.stop = Stop(time="1s")
    study._seconds_before = 2
    assert searcher(study, tmp_path, nodes).suggest("a") == FINISHED, "its time is over"
    assert study.stop_reason
    assert study.trials == []


def test_a_search_that_was_suspended_ends_without_room(study: Study, tmp_path: Path) -> None:
    study.suspend("the disk is full")
    study.suspend("and another one, for that")
    assert study.suspended == "the disk is full"
    assert searcher(study, tmp_path, Nodes(0)).suggest("a") == FINISHED


def test_the_last_node_may_go_after_the_last_trial(study: Study, tmp_path: Path) -> None:
    nodes = Nodes(2)
    one = searcher(study, tmp_path, nodes)
    for name in ("a", "b"):
        number = one.suggest(name)["number"]
        study.close(number, Outcome.STOPPED_EARLY)
        one.on_trial_complete(name)
    nodes.free = 0
    assert one.suggest("c") == FINISHED


def test_the_last_trials_are_waited_for_until_a_limit_is_reached(
    study: Study, tmp_path: Path
) -> None:
    """No node has room for them now."""
    nodes = Nodes(2)
    one = searcher(study, tmp_path, nodes)
    assert [one.suggest(name) is None for name in ("a", "b", "c")] == [False, False, True]
    ending = SearchStopper(search_of(study, tmp_path, one.slots), nodes, Interruptions())
    assert not ending.stop_all()
    study.stop = Stop(time="1s")
    study._seconds_before = 2
    assert ending.stop_all()


@pytest.mark.parametrize(
    ("lost", "stacks", "outcome", "failures"),
    [
        (None, "", None, 1),
        ("10.0.0.2", "", None, 0),
        (None, STACK, Outcome.STALLED, 0),
        ("10.0.0.2", STACK, Outcome.STALLED, 0),
    ],
    ids=["it crashed", "its node died", "it hung", "it hung, and a node died"],
)
def test_who_is_charged_with_the_end_of_a_process(
    lost: str | None,
    stacks: str,
    outcome: Outcome | None,
    failures: int,
    study: Study,
    tmp_path: Path,
) -> None:
    one = searcher(study, tmp_path, Nodes(1, lost))
    number = one.suggest("a")["number"]
    (tmp_path / "logs").mkdir()
    stall_log(tmp_path / "logs", number).write_text(stacks)
    one.on_trial_complete("a", error=True)
    trial = study.trial(number)
    assert (trial.outcome, len(trial.failures)) == (outcome, failures)
    again = one.suggest("b")["number"]
    assert (again == number) == (outcome is None), "it is handed out again, unless it hung"


def test_a_trial_under_which_node_after_node_dies_fails(study: Study, tmp_path: Path) -> None:
    one = searcher(study, tmp_path, Nodes(1, "10.0.0.2"))

    def lose_nodes(count: int) -> Outcome | None:
        for _ in range(count):
            assert one.suggest("a")["number"] == 0
            one.on_trial_complete("a", error=True)
        return study.trial(0).outcome

    assert lose_nodes(3) is None
    study.record_epoch(0, Epoch(1, {"val_acc": 0.5}))
    assert lose_nodes(3) is None, "an epoch in between"
    study.retries = 0
    assert lose_nodes(1) == Outcome.FAILED
    assert study.trial(0).cause == "4 nodes died under it, the last 10.0.0.2"


def test_a_process_that_ended_itself_wrote_the_cause_but_not_for_another_attempt(
    study: Study, tmp_path: Path
) -> None:
    one = searcher(study, tmp_path, Nodes(1))
    log = trial_log(tmp_path / "logs", one.suggest("a")["number"])
    log.parent.mkdir()
    write_failure(log, "AcceleratorError: an illegal access", "", [])
    one.on_trial_complete("a", error=True)
    number = one.suggest("b")["number"]
    one.on_trial_complete("b", error=True)  # killed: the log is that of the attempt before
    trial = study.trial(number)
    assert trial.failures == ("AcceleratorError: an illegal access; see logs/trial-0.txt",)
    assert trial.cause == f"{DIED} without a word: it was killed, or crashed; see logs/trial-0.txt"


KILLED_BY_RAY = """Failure # 1 (occurred at 2026-11-27_12-00-00)
1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 127.0.0.1,
ID: da03) was 22.40GB used / 23.54GB limit (0.951)
"""


def test_full_memory_charges_no_trial_and_then_suspends_the_search(
    study: Study, tmp_path: Path
) -> None:
    said: list[str] = []
    nodes = Nodes(2)
    nodes.say = said.append
    one = searcher(study, tmp_path, nodes)

    def killed(*names: str) -> None:
        for name in names:
            one.died(name, KILLED_BY_RAY)
            one.on_trial_complete(name, error=True)

    one.suggest("a"), one.suggest("b")
    killed("a", "b")
    assert [trial.failures for trial in study.trials] == [(), ()]
    assert "22.40GB of 23.54GB are used): trial 0 goes on later; from now on at most 1" in said[0]
    assert one.suggest("c")["number"] == 0
    assert one.suggest("d") is None, "one at once from now on"
    study.record_epoch(0, Epoch(1, {"val_acc": 0.5}))
    killed("c")
    assert study.suspended is None, "an epoch in between"
    for name in ("e", "f"):
        one.suggest(name)
        killed(name)
    assert "the memory of the machine is full (22.40GB of 23.54GB" in (study.suspended or "")
    assert one.suggest("g") == FINISHED


def test_where_memory_is_short_one_trial_less_runs_at_once(study: Study, tmp_path: Path) -> None:
    study.wanted = 4
    one = searcher(study, tmp_path, Nodes(3))
    assert None not in [one.suggest(name) for name in ("a", "b", "c")]
    one.died("a", KILLED_BY_RAY)
    one.on_trial_complete("a", error=True)
    assert one.suggest("d") is None, "two at once"
    study.close(1, Outcome.STOPPED_EARLY)
    one.on_trial_complete("b")
    assert one.suggest("e") is not None


def test_a_trial_that_holds_most_of_the_memory_itself_is_out_of_memory(
    study: Study, tmp_path: Path
) -> None:
    (tmp_path / "logs").mkdir()
    one = searcher(study, tmp_path, Nodes(1))
    one.suggest("a")
    one.died("a", f"{KILLED_BY_RAY}Selected to kill: (pid=7, actual memory used=19.10GB, worker)")
    one.on_trial_complete("a", error=True)
    assert study.trial(0).outcome == Outcome.OUT_OF_MEMORY
    assert study.trial(0).cause.startswith("its process held 19.10 GB (22.40GB of 23.54GB are")
    several = KILLED_BY_RAY.replace("1 worker", "2 worker")
    assert not read_death(f"{several}(pid=7, actual memory used=19.10GB)", 0).is_greedy
