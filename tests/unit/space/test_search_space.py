"""What a search space file means. How a bad one is refused: `tests/faults/test_bad_input.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from text_recognizer.errors import InputError
from tuning.space.reader import read_space
from tuning.space.search_space import SearchSpace
from tuning.space.settings_list import is_all_known

Write = Callable[[str], Path]

CONDITIONAL = """
space:
  optimizer: {type: categorical, choices: [Adam, SGD, RMSprop]}
  momentum: {type: float, low: 0, high: 0.9, when: {optimizer: [SGD, RMSprop]}}
  lr: {type: float, low: 1e-4, high: 1e-1, log: true}
"""

SPACE = "space: {fc1: {type: int, low: 8, high: 64}}\n"

GOOD = """
experiment: {model_class: MLP}
space:
  fc1: {type: int, low: 8, high: 64, log: true}
search: {trials: 4}
"""


def test_defaults_are_filled_in_and_read_back_the_same(space_file: Write, tmp_path: Path) -> None:
    space = read_space(space_file(CONDITIONAL))
    assert space.search.trials == 30
    assert space.search.objective.mode == "max"
    again = tmp_path / "again.yaml"
    again.write_text(space.as_yaml())
    assert read_space(again).as_plain() == space.as_plain()


def test_the_example_of_the_documentation_is_valid(space_file: Write) -> None:
    readme = Path(__file__).resolve().parents[3] / "search_spaces" / "README.md"
    example = readme.read_text().split("```yaml\n")[1].split("```")[0]
    assert read_space(space_file(example)).search.rungs() == [1, 4]


def test_a_condition_decides_whether_a_parameter_exists(space_file: Write) -> None:
    space = read_space(space_file(CONDITIONAL))
    assert "momentum" not in space.choose(lambda name, parameter: parameter.corner_values()[0])
    assert space.choose(lambda name, parameter: parameter.corner_values()[-1])["momentum"] == 0.9


def test_corners_hold_each_end_and_each_choice_with_its_conditions_met(space_file: Write) -> None:
    corners = list(read_space(space_file(CONDITIONAL)).corners())
    assert {corner["optimizer"] for corner in corners} == {"Adam", "SGD", "RMSprop"}
    assert {corner.get("momentum") for corner in corners} == {None, 0.0, 0.9}
    assert all(("momentum" in corner) == (corner["optimizer"] != "Adam") for corner in corners)


def test_rungs_are_where_asha_decides(space: SearchSpace, space_file: Write) -> None:
    assert space.search.rungs() == [1]
    assert read_space(space_file(GOOD + "\n")).search.rungs() == [1, 4]
    assert read_space(space_file(GOOD.replace("trials: 4", "scheduler: none"))).search.rungs() == []


def test_flags_override_the_file_and_are_named_in_errors(space_file: Write) -> None:
    path = space_file(GOOD)
    assert read_space(path, {("search", "trials"): ("--trials", 7)}).search.trials == 7
    with pytest.raises(InputError, match=r"^--trials: "):
        read_space(path, {("search", "trials"): ("--trials", 0)})


def test_all_problems_are_said_at_once(space_file: Write) -> None:
    text = "space:\n  a: {type: int, low: 9, high: 8}\n  b: {type: flaot, low: 1, high: 2}\nsearch: {trials: 0}\nserch: 1\n"
    with pytest.raises(InputError) as error:
        read_space(space_file(text))
    assert len(error.value.problems) == 4


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
    space = read_space(space_file("space: {fc1: {type: float, low: 0.1, high: 0.3, step: 0.2}}"))
    assert space.parameters["fc1"].corner_values() == [0.1, 0.3]


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


def test_a_space_that_its_run_could_not_read_back_is_refused(space_file: Write) -> None:
    lists = ",".join(["{}"] * 5_000)
    deep = GOOD.replace("model_class: MLP", f"a: [[[[[[[[[[{lists}]]]]]]]]]]")
    space = read_space(space_file(deep))
    with pytest.raises(InputError, match="at most 100000 bytes with all defaults written out"):
        space.as_yaml()


def test_a_space_of_the_largest_allowed_size_is_read_in_time(space_file: Write) -> None:
    """200 parameters, each with a condition on the five before it."""
    lines = [
        f"  p{i}: {{type: int, low: 1, high: 2, when: {{{', '.join(f'p{j}: 1' for j in range(max(0, i - 5), i))}}}}}"
        for i in range(1, 200)
    ]
    text = "space:\n  p0: {type: int, low: 1, high: 2}\n" + "\n".join(lines)
    space = read_space(space_file(text))
    assert list(space.in_order) == list(space.parameters)
    assert len(space.needs("p199")) == 199


def test_a_setting_that_the_list_lacks_is_left_to_the_classes(space_file: Write) -> None:
    def known(experiment: str) -> bool:
        return is_all_known(read_space(space_file(f"experiment: {{{experiment}}}\n{SPACE}")))

    assert known("data_class: Digits, lr: 1, weight_decay: null, data_dir: x, augment: true")
    for unknown in ("model_class: CNN", "model_class: [MLP]", "fc2: 8.0", "fc2: true", "fc9: 8"):
        assert not known(unknown)
    # The list has no JSON type for it.
    assert not known("precision: 32")
