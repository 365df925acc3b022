"""T1 to T6: what can happen to a trial. One search has a trial for each fault, which happens in the
worker's own process; the checker closes it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.formula import EPOCHS, NOT_FINITE, outcomes, search
from tuning.study.study import Study
from tuning.trials.trial import Outcome, Trial, ranking
from tuning.worker import logged_cause, trial_log

pytestmark = pytest.mark.usefixtures("cluster")

# The values that are not finite come first: in a rung they would stop the trials after them.
FAULTS = (*NOT_FINITE, "raises once", "raises always", "killed once", "out of memory", "hangs")
TRIALS = len(FAULTS) + 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def study(folder: Path, empty_database: Path, cluster: None) -> Study:
    """A search with every fault. It ends with all its trials, and the checker is content."""
    path = folder / "study.db"
    path.write_bytes(empty_database.read_bytes())
    # Where trials wait for others, not each one comes to its fault.
    found = search(
        folder / "run", f"sqlite:///{path}", trials=TRIALS, faults=FAULTS, asha="stopping"
    )
    assert len(found.trials) == TRIALS
    return found


def trial_with(fault: str, study: Study) -> Trial:
    return study.trial(FAULTS.index(fault))


def test_t1_a_trial_that_raises_once_goes_on_from_its_last_checkpoint(study: Study) -> None:
    trial = trial_with("raises once", study)
    told = f"ValueError: a bad; see logs/trial-{trial.number}.txt"
    assert (trial.outcome, trial.failures) == (Outcome.COMPLETE, (told,))


def test_t1_a_trial_that_always_raises_fails_with_its_cause_and_the_search_goes_on(
    study: Study, folder: Path
) -> None:
    failed = trial_with("raises always", study)
    assert (failed.outcome, len(failed.epochs), len(failed.failures)) == (Outcome.FAILED, 3, 1)
    assert failed.cause.startswith("ValueError: a bad day")
    log = trial_log(folder / "run" / "logs", failed.number)
    assert f"{logged_cause(log)}; see logs/{log.name}" == failed.cause, "of its last attempt"
    assert "in break_down\n" in log.read_text()
    assert outcomes(study)["failed"] == 1


def test_t2_a_killed_process_is_retried_from_the_last_checkpoint(
    study: Study, folder: Path
) -> None:
    trial = trial_with("killed once", study)
    (failure,) = trial.failures
    assert trial.outcome == Outcome.COMPLETE
    log = trial_log(folder / "run" / "logs", trial.number)
    assert failure == f"{logged_cause(log)}; see logs/{log.name}"
    assert failure.startswith("the trial's process died without a word")
    assert "lines of the worker's log:" in log.read_text()


def test_t3_the_same_failure_in_the_first_three_trials_ends_the_search(
    tmp_path: Path, database: Path
) -> None:
    study = search(tmp_path / "run", f"sqlite:///{database}", trials=8, faults=["alike"] * 8)
    assert set(outcomes(study)) == {"failed"}
    assert 3 <= len(study.trials) <= 4, "the fourth may have been on its way"
    assert "no module named torch" in study.trial(0).cause


def test_t4_out_of_memory_is_not_tried_again_and_the_sampler_is_told(study: Study) -> None:
    trial = trial_with("out of memory", study)
    assert (trial.outcome, trial.failures) == (Outcome.OUT_OF_MEMORY, ())
    assert "Tried to allocate" in trial.cause
    told = study.record.get_trials()[trial.number]
    assert (told.state.name, told.constraints) == ("PRUNED", {"memory": 1.0})


@pytest.mark.parametrize("number", NOT_FINITE)
def test_t5_what_is_not_finite_ends_the_trial_as_diverged_and_it_is_never_best(
    number: str, study: Study
) -> None:
    diverged = trial_with(number, study)
    assert (diverged.outcome, diverged.cause) == (Outcome.DIVERGED, f"val_acc={number} at epoch 3")
    assert study.record.get_trials()[diverged.number].constraints == {"diverged": 1.0}
    ranked = ranking(study.trials, study.objective)
    assert diverged.number not in [best.trial.number for best in ranked]
    assert ranked[0].epoch.epoch == EPOCHS, "no rung was poisoned: other trials came to the end"


def test_t6_a_trial_that_hangs_is_ended_with_its_stack_in_its_log_and_the_search_goes_on(
    study: Study, folder: Path
) -> None:
    stalled = trial_with("hangs", study)
    assert (stalled.outcome, len(stalled.epochs), stalled.failures) == (Outcome.STALLED, 3, ())
    assert stalled.cause.startswith("hung in break_down (formula.py:")
    log = trial_log(folder / "run" / "logs", stalled.number)
    assert stalled.cause.endswith(f"; see logs/{log.name}")
    assert "in break_down" in log.read_text()
    left = {path.name for path in log.parent.iterdir()}
    raised = ("raises once", "raises always", "out of memory", "hangs", "killed once")
    assert left == {f"trial-{FAULTS.index(fault)}.txt" for fault in raised}
