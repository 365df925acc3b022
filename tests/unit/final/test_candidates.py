"""Which configs are trained again, and which of them is best."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.final.conftest import Start
from text_recognizer.errors import InputError, RunError
from text_recognizer.metrics import Objective
from tuning.analysis.run_data import RunData
from tuning.final.candidates import Config, by_mean, check_best, configs_of, lab_1, read_best_config
from tuning.final.scores import candidate_of
from tuning.run.files import Candidate
from tuning.run.folder import RunFolder

LAB_1 = {"model_class": "MLP", "data_class": "Digits"}


def without_sums(search: RunData) -> RunData:
    return replace(search, summary=search.summary.model_copy(update={"sha256": {}}))


def test_a_changed_best_config_is_refused_with_the_command_that_trains_it(
    run: RunFolder, search: RunData
) -> None:
    run.best_config.write_text(run.best_config.read_text().replace("fc1: 32", "fc1: 33"))
    with pytest.raises(
        RunError, match=r"was changed.*run_experiment\.py --config .*best_config\.yaml"
    ):
        read_best_config(replace(search, path=run.path))


@pytest.mark.parametrize("text", ["", "- a list\n", "a: [\n"])
def test_a_damaged_best_config_is_refused(text: str, search: RunData) -> None:
    with pytest.raises(RunError, match=r"best_config\.yaml is damaged: "):
        read_best_config(replace(without_sums(search), best_config=text))


def test_a_missing_best_config_is_refused(tmp_path: Path, search: RunData) -> None:
    with pytest.raises(RunError, match=r"best_config\.yaml is damaged: .*No such file"):
        read_best_config(replace(search, path=tmp_path))


def test_an_unknown_setting_in_a_best_config_is_an_input_error(search: RunData) -> None:
    with pytest.raises(InputError, match="fc11"):
        read_best_config(replace(without_sums(search), best_config="fc11: 8\n"))


@pytest.mark.parametrize("change", [{"value": 0.99}, {"epoch": 1}, {"trial": 0}, {"trial": 7}])
def test_a_summary_with_another_best_trial_than_the_study_is_refused(
    change: dict[str, Any], search: RunData
) -> None:
    check_best(search)
    with pytest.raises(RunError, match="do not have the same best trial"):
        check_best(with_best(search, **change))


def with_best(search: RunData, **change: Any) -> RunData:
    """The same with another best trial in the summary."""
    best = search.summary.best
    assert best
    other = {"best": best.model_copy(update=change)}
    return replace(search, summary=search.summary.model_copy(update=other))


def test_a_trial_has_its_own_parameters_and_epochs_and_nothing_of_the_best_trials(
    start: Start,
) -> None:
    best, other = start(top=2).configs
    assert (str(best), best.epochs, best.searched) == ("trial 1", 2, 0.9)
    assert (str(other), other.epochs, other.searched) == ("trial 0", 1, 0.8)
    assert {"fc1": 32, "optimizer": "Adam"}.items() <= best.settings.items()
    assert "momentum" not in best.settings
    assert {"fc1": 24, "optimizer": "SGD", "momentum": 0.9}.items() <= other.settings.items()


def test_a_trial_lacks_the_parameters_whose_conditions_do_not_hold(search: RunData) -> None:
    best = {"fc1": 24, "optimizer": "SGD", "momentum": 0.9, "batch_size": 64}
    adam, _ = configs_of(search, best)
    assert adam.settings == {"fc1": 32, "optimizer": "Adam", "batch_size": 64}


def test_the_exported_trial_is_the_first_if_the_checkpoint_of_a_better_one_was_damaged(
    search: RunData,
) -> None:
    assert [one.trial for one in configs_of(with_best(search, trial=0), {})] == [0, 1]


def test_lab_1_has_the_searchs_data_and_nothing_else_of_it() -> None:
    settings = {"data_class": "Digits", "data_dir": "/d", "batch_size": 64, "one_cycle": True}
    assert lab_1(Config(0, settings, 3, 0.9)) == LAB_1 | {"data_dir": "/d", "max_epochs": 3}


@pytest.mark.parametrize(
    ("mode", "values", "order"),
    [
        ("max", [[0.9, math.nan], [0.7, 0.7], [0.6, 0.9]], [2, 1, 0]),
        ("min", [[0.9, math.nan], [0.7, 0.7], [0.6, 0.9]], [1, 2, 0]),
        ("max", [[0.7], [0.7]], [0, 1]),
        ("max", [[math.nan], [math.inf]], [0, 1]),
    ],
)
def test_the_best_mean_comes_first_a_tie_keeps_the_order_and_who_diverged_is_last(
    mode: Any, values: list[list[float]], order: list[int]
) -> None:
    candidates: list[Candidate] = [
        candidate_of(Config(i, {}, 1, 0.5), each) for i, each in enumerate(values)
    ]
    assert [one.trial for one in by_mean(candidates, Objective("val_acc", mode))] == order
