"""What becomes of trials that Ray Tune says nothing about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.tune.registry import get_trainable_cls

from tests.formula import search_of, space_in
from tuning.ray_backend import tune_run
from tuning.ray_backend.local_cluster import Cluster
from tuning.ray_backend.signals import Interruptions
from tuning.run.resources import Slots
from tuning.study.optuna_record import create_record
from tuning.study.study import Study
from tuning.trials.trial import Outcome


def test_a_trial_that_tune_forgets_is_retried_and_then_has_failed(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = space_in(tmp_path)
    study = Study(create_record(f"sqlite:///{database}", space, "run"), space, trials=1)
    attempts: list[int] = []

    def forgetful(search: Any, cluster: Any, stopper: Any, attempt: int) -> None:
        """In place of Tune: takes the trial, and comes back without a word about it."""
        attempts.append(attempt)
        assert len(attempts) < 9, "it is handed out for ever"
        study.next_trial()

    monkeypatch.setattr(tune_run, "run_tune", forgetful)
    monkeypatch.setattr(tune_run, "register", lambda *_: None)
    search = search_of(study, tmp_path, Slots(1, 1, 0))
    tune_run.run_trials(search, lambda config: None, {}, Cluster(), Interruptions())
    (trial,) = study.trials
    assert (trial.outcome, trial.cause) == (Outcome.FAILED, "Ray Tune lost the trial")
    assert attempts == [*range(study.retries + 2)], "the last one finds nothing to do"


def test_rays_dashboard_shows_the_name_of_the_search(tmp_path: Path, database: Path) -> None:
    """As the class of a worker's actor, and as its representation."""
    space = space_in(tmp_path)
    study = Study(create_record(f"sqlite:///{database}", space, "run"), space, trials=1)
    search = search_of(study, tmp_path, Slots(1, 1, 0))
    tune_run.register(search, lambda config: None)
    shown: Any = get_trainable_cls(search.name)
    assert (shown.__name__, repr(object.__new__(shown))) == (search.name, search.name)
