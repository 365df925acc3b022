"""What is exchanged inside Optuna is the same function, and the one that it calls."""

from __future__ import annotations

import inspect
import math

import numpy as np
import optuna
import pytest
import scipy.special
from optuna.samplers._tpe import _truncnorm

from tuning.study import samplers


def test_the_exchanged_function_is_the_one_it_was() -> None:
    numbers = np.concatenate([np.linspace(-40, 9, 2000), [-1e3, -20.0, 0.0, 6.0]])
    samplers.make_sampler("tpe", 0, 0)
    assert _truncnorm._log_ndtr is scipy.special.log_ndtr
    theirs = np.array([_truncnorm._log_ndtr_single(float(number)) for number in numbers])
    assert np.allclose(_truncnorm._log_ndtr(numbers), theirs, rtol=1e-9, atol=1e-15)


def test_optuna_still_calls_it_by_that_name() -> None:
    assert "_log_ndtr(" in inspect.getsource(_truncnorm._log_gauss_mass)


@pytest.mark.parametrize("name", ["tpe", "random", "gp"])
def test_a_proposal_is_a_function_of_seed_number_and_record(name: str) -> None:
    def proposals(seed: int) -> list[float]:
        study = optuna.create_study()
        found = []
        for number in range(14):
            study.sampler = samplers.make_sampler(name, seed, number)
            trial = study.ask()
            found.append(trial.suggest_float("x", 0, 1))
            study.tell(trial, math.sin(5 * found[-1]))
        return found

    assert proposals(0) == proposals(0) != proposals(1)
