"""T1 to T6: what can happen to a trial. The fault is injected in the worker's own process; the
checker closes each search.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.formula import EPOCHS, outcomes, search
from text_recognizer.metrics import Objective
from tuning.study.study import Study
from tuning.trials.trial import Outcome, ranking
from tuning.worker.guard import stall_log

pytestmark = pytest.mark.usefixtures("cluster")

TRIALS = 8
Broken = Callable[[str], Study]


@pytest.fixture
def broken(tmp_path: Path, database: Path) -> Broken:
    """A search with a fault; it ends with every trial that was asked for, and the checker is
    content.
    """

    def run(fault: str) -> Study:
        study = search(tmp_path / "run", f"sqlite:///{database}", fault, trials=TRIALS)
        assert fault == "all alike" or len(study.trials) == TRIALS
        return study

    return run


def test_t1_a_trial_that_raises_once_goes_on_from_its_last_checkpoint(broken: Broken) -> None:
    trial = broken("raises once").trial(0)
    assert (trial.outcome, trial.failures) == (Outcome.COMPLETE, ("ValueError: a bad",))


def test_t1_a_trial_that_always_raises_fails_with_its_cause_and_the_search_goes_on(
    broken: Broken,
) -> None:
    study = broken("raises always")
    failed = study.trial(0)
    assert (failed.outcome, len(failed.epochs), len(failed.failures)) == (Outcome.FAILED, 3, 1)
    assert failed.cause.startswith("ValueError: a bad day")
    assert outcomes(study)["failed"] == 1


def test_t2_a_killed_process_is_retried_from_the_last_checkpoint(broken: Broken) -> None:
    trial = broken("killed once").trial(0)
    assert (trial.outcome, trial.failures) == (Outcome.COMPLETE, ("the trial's process died",))


def test_t3_the_same_failure_in_the_first_three_trials_ends_the_search(broken: Broken) -> None:
    study = broken("all alike")
    assert set(outcomes(study)) == {"failed"}
    assert 3 <= len(study.trials) <= 4, "the fourth may have been on its way"
    assert "no module named torch" in study.trial(0).cause


def test_t4_out_of_memory_is_not_tried_again_and_the_sampler_is_told(
    broken: Broken, database: Path
) -> None:
    study = broken("out of memory")
    trial = study.trial(0)
    assert (trial.outcome, trial.failures) == (Outcome.OUT_OF_MEMORY, ())
    assert "Tried to allocate" in trial.cause
    told = study.record.get_trials()[0]
    assert (told.state.name, told.constraints) == ("PRUNED", {"memory": 1.0})


@pytest.mark.parametrize(
    "number", ["nan", *(pytest.param(number, marks=pytest.mark.slow) for number in ("inf", "-inf"))]
)
def test_t5_what_is_not_finite_ends_the_trial_as_diverged_and_it_is_never_best(
    number: str, broken: Broken
) -> None:
    study = broken(number)
    diverged = study.trial(0)
    assert (diverged.outcome, diverged.cause) == (Outcome.DIVERGED, f"val_acc={number} at epoch 4")
    ranked = ranking(study.trials, Objective("val_acc", "max"))
    assert 0 not in [best.trial.number for best in ranked]
    assert ranked[0].epoch.epoch == EPOCHS, "no rung was poisoned: another trial came to the end"
    assert study.record.get_trials()[0].constraints == {"diverged": 1.0}


def test_t6_a_trial_that_hangs_is_ended_with_its_stack_in_its_log_and_the_search_goes_on(
    broken: Broken, tmp_path: Path
) -> None:
    stalled = broken("hangs").trial(0)
    assert (stalled.outcome, len(stalled.epochs), stalled.failures) == (Outcome.STALLED, 3, ())
    assert stalled.cause.startswith("hung in break_down (formula.py:")
    assert "in break_down" in stall_log(tmp_path / "run" / "logs", 0).read_text()
    assert [path.name for path in (tmp_path / "run" / "logs").iterdir()] == [
        "trial-0-stalled.txt"
    ], "others leave none"
