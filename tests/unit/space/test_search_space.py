"""The search space file: what it means, and every way in which it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from text_recognizer.errors import InputError
from tuning.space.reader import read_space
from tuning.space.search_space import SearchSpace

Write = Callable[[str], Path]

CONDITIONAL = """
space:
  optimizer: {type: categorical, choices: [Adam, SGD, RMSprop]}
  momentum: {type: float, low: 0, high: 0.9, when: {optimizer: [SGD, RMSprop]}}
  lr: {type: float, low: 1e-4, high: 1e-1, log: true}
"""

GOOD = """
experiment: {model_class: MLP}
space:
  fc1: {type: int, low: 8, high: 64, log: true}
search: {trials: 4}
"""


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read_space(path)
    return str(error.value)


def test_defaults_are_filled_in_and_read_back_the_same(space_file: Write, tmp_path: Path) -> None:
    space = read_space(space_file(CONDITIONAL))
    assert space.search.trials == 30
    assert space.search.objective.mode == "max"
    again = tmp_path / "again.yaml"
    again.write_text(space.as_yaml())
    assert read_space(again).as_plain() == space.as_plain()


def test_a_condition_decides_whether_a_parameter_exists(space_file: Write) -> None:
    space = read_space(space_file(CONDITIONAL))
    assert "momentum" not in space.choose(lambda name, parameter: parameter.ends()[0])
    assert space.choose(lambda name, parameter: parameter.ends()[1])["momentum"] == 0.9


def test_corners_hold_each_end_and_each_choice_with_its_conditions_met(space_file: Write) -> None:
    corners = list(read_space(space_file(CONDITIONAL)).corners())
    assert {corner["optimizer"] for corner in corners} == {"Adam", "SGD", "RMSprop"}
    assert {corner.get("momentum") for corner in corners} == {None, 0.0, 0.9}
    assert all(("momentum" in corner) == (corner["optimizer"] != "Adam") for corner in corners)


def test_rungs_are_where_asha_decides(space: SearchSpace, space_file: Write) -> None:
    assert space.search.rungs() == [1]
    assert read_space(space_file(GOOD + "\n")).search.rungs() == [1, 3, 9]
    assert read_space(space_file(GOOD.replace("trials: 4", "scheduler: none"))).search.rungs() == []


def test_flags_override_the_file_and_are_named_in_errors(space_file: Write) -> None:
    path = space_file(GOOD)
    assert read_space(path, {("search", "trials"): ("--trials", 7)}).search.trials == 7
    with pytest.raises(InputError, match=r"^--trials: "):
        read_space(path, {("search", "trials"): ("--trials", 0)})


def parameter(text: str) -> str:
    return f"space:\n  fc1: {{{text}}}\n"


BAD_PARAMETERS = {
    "low > high": ("type: int, low: 9, high: 8", "low < high"),
    "low == high": ("type: int, low: 8, high: 8", "low < high"),
    "log from 0": ("type: float, low: 0, high: 1, log: true", "low > 0"),
    "int from 1.5": ("type: int, low: 1.5, high: 8", "whole number"),
    "huge int": ("type: int, low: 1, high: 100000000000000000000", "9007199254740992"),
    "very long int": (f"type: int, low: 1, high: {'9' * 5000}", "space.fc1.high"),
    "NaN": ("type: float, low: .nan, high: 1", "finite"),
    "inf": ("type: float, low: 0, high: .inf", "finite"),
    "low true": ("type: float, low: true, high: 2", "a number"),
    "step 0": ("type: int, low: 1, high: 8, step: 0", "0 < step"),
    "negative step": ("type: int, low: 1, high: 8, step: -1", "0 < step"),
    "step too large": ("type: int, low: 1, high: 8, step: 8", "step <= high - low"),
    "step that misses high": ("type: int, low: 1, high: 8, step: 3", "whole steps"),
    "log with step": ("type: int, low: 1, high: 8, step: 1, log: true", "either log or step"),
    "empty choices": ("type: categorical, choices: []", "two choices"),
    "a string as choices": ("type: categorical, choices: SGD", "a list"),
    "duplicate choices": ("type: categorical, choices: [1, 2, 1]", "each choice stands once"),
    "a list as a choice": ("type: categorical, choices: [1, [2]]", "single"),
    "no type": ("low: 1, high: 8", "type is int, float or categorical"),
    "wrong type": ("type: integer, low: 1, high: 8", "Did you mean 'int'"),
    "misspelt key": ("type: int, low: 1, hihg: 8", "Did you mean 'high'"),
    "no mapping": ("", "type is int"),
    "when on unknown": ("type: int, low: 1, high: 8, when: {nothing: 1}", "a searched parameter"),
    "when on itself": ("type: int, low: 1, high: 8, when: {fc1: 3}", "circle"),
    "empty when": ("type: int, low: 1, high: 8, when: {fc1: []}", "space.fc1.when.fc1"),
}


@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_a_bad_parameter_is_refused_where_it_stands(name: str, space_file: Write) -> None:
    text, expected = BAD_PARAMETERS[name]
    message = refusal(space_file(parameter(text)))
    assert expected in message
    assert "space.yaml:2" in message
    assert all("space.yaml:2" in line for line in message.splitlines()), "one line a problem"


BAD_FILES = {
    "top-level list": ("- 1\n", "the sections"),
    "no space": ("search: {trials: 3}\n", "one parameter or more"),
    "misspelt section": (GOOD.replace("search:", "serch:"), "Did you mean 'search'"),
    "section that is a list": ("space: [1]\n", "a mapping"),
    "fixed and searched": (GOOD.replace("model_class: MLP", "fc1: 3"), "either fixed or searched"),
    "a key with /": (GOOD.replace("fc1:", "a/b:"), "letters, digits"),
    "max_epochs under experiment": (
        GOOD.replace("model_class: MLP", "max_epochs: 3"),
        "Set it under search",
    ),
    "one batch as a trial": (GOOD.replace("model_class: MLP", "fast_dev_run: true"), "no trial"),
    "validation now and then": (
        GOOD.replace("model_class: MLP", "check_val_every_n_epoch: 2"),
        "after every epoch",
    ),
    "searched model": (GOOD.replace("fc1:", "model_class:"), "a setting that can be searched"),
    "trials 0": (GOOD.replace("trials: 4", "trials: 0"), "search.trials"),
    "trials -1": (GOOD.replace("trials: 4", "trials: -1"), "search.trials"),
    "trials true": (GOOD.replace("trials: 4", "trials: true"), "whole number"),
    "trials 1e9": (GOOD.replace("trials: 4", "trials: 1e9"), "whole number"),
    "max_epochs below grace": (
        GOOD.replace("trials: 4", "max_epochs: 2, asha: {grace_epochs: 3}"),
        "grace_epochs <= max_epochs",
    ),
    "reduction_factor 1": (
        GOOD.replace("trials: 4", "asha: {reduction_factor: 1}"),
        "reduction_factor",
    ),
    "test metric": (GOOD.replace("trials: 4", "metric: test_acc"), "val_acc"),
    "mode against the metric": (GOOD.replace("trials: 4", "mode: min"), "mode is max for val_acc"),
    "unknown mode": (GOOD.replace("trials: 4", "mode: maximal"), "Did you mean 'max'"),
    "start outside": (GOOD.replace("trials: 4", "start_with: [{fc1: 4}]"), "8 <= value <= 64"),
    "start incomplete": (GOOD.replace("trials: 4", "start_with: [{}]"), "none for fc1"),
    "start with unknown": (
        GOOD.replace("trials: 4", "start_with: [{fc1: 8, fc9: 1}]"),
        "Did you mean 'fc1'",
    ),
    "start with 8.5": (GOOD.replace("trials: 4", "start_with: [{fc1: 8.5}]"), "a whole number"),
    "circle": (
        "space:\n  a: {type: int, low: 1, high: 3, when: {b: 1}}\n  b: {type: int, low: 1, high: 3, when: {a: 1}}\n",
        "circle",
    ),
    "when on a value that is no choice": (
        CONDITIONAL.replace("[SGD, RMSprop]", "Sgd"),
        "optimizer can be one of",
    ),
    "start with what does not apply": (
        CONDITIONAL + "search: {start_with: [{optimizer: Adam, momentum: 0.5, lr: 0.01}]}\n",
        "momentum applies only when",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_with_its_rule(name: str, space_file: Write) -> None:
    text, expected = BAD_FILES[name]
    message = refusal(space_file(text))
    assert expected in message
    assert "space.yaml:" in message


def test_all_problems_are_said_at_once(space_file: Write) -> None:
    text = "space:\n  a: {type: int, low: 9, high: 8}\n  b: {type: flaot, low: 1, high: 2}\nsearch: {trials: 0}\nserch: 1\n"
    assert len(refusal(space_file(text)).splitlines()) == 4


def test_corners_reach_a_parameter_whose_conditions_share_another(space_file: Write) -> None:
    text = """space:
  c: {type: int, low: 1, high: 2, when: {b: x, a: [1, 3]}}
  b: {type: categorical, choices: [x, y], when: {a: [2, 3]}}
  a: {type: categorical, choices: [1, 2, 3]}
"""
    space = read_space(space_file(text))
    assert list(space.in_order) == ["a", "b", "c"]
    assert space.needs("c") == {"b": ["x"], "a": [3]}
    assert {corner["c"] for corner in space.corners() if "c" in corner} == {1, 2}


def test_a_grid_of_two_values_may_miss_its_step_by_a_rounding(space_file: Write) -> None:
    space = read_space(space_file(parameter("type: float, low: 0.1, high: 0.3, step: 0.2")))
    assert space.parameters["fc1"].ends() == [0.1, 0.3]


@pytest.mark.parametrize(
    "text", ["1e-4", "089", "nUll", "-.5e+3", "a\x85b", "a\u2028b", "\ufeffa", " a", "a\nb"]
)
def test_a_text_stays_a_text_in_the_run_s_own_copy(
    text: str, space_file: Write, tmp_path: Path
) -> None:
    space = read_space(
        space_file(
            f"experiment: {{a: {json.dumps(text)}}}\n{GOOD.replace('experiment: {model_class: MLP}', '')}"
        )
    )
    again = tmp_path / "again.yaml"
    again.write_text(space.as_yaml(), encoding="utf-8")
    assert space.experiment == read_space(again).experiment == {"a": text}


def test_a_space_that_its_own_copy_could_not_hold_is_refused(space_file: Write) -> None:
    long = ",".join(["{}"] * 20_000)
    text = f"experiment: {{a: [[[[[[[[[[{long}]]]]]]]]]]}}\n{GOOD.replace('experiment: {model_class: MLP}', '')}"
    assert "at most 100,000 bytes with all defaults written out" in refusal(space_file(text))
