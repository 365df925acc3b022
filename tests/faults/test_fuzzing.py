"""Space files that Hypothesis makes up: a valid one means the same after it was written and read; a
damaged one is refused.

`tests/faults/test_bad_input.py` has the mistakes that were thought of; here are those that were
not.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.faults.damage import HOSTILE, damaged_files, encoded
from tests.faults.efforts import EFFORTS, MANY, for_all, in_time
from tests.faults.made_up import Content, Hand, contents
from text_recognizer.errors import InputError
from text_recognizer.metrics import mode_of
from tuning.run import forecast
from tuning.run.resources import Slots
from tuning.space.reader import read_space
from tuning.space.schema import CategoricalParameter, Parameter, SearchSettings, derived_asha
from tuning.space.search_space import SearchSpace
from tuning.space.strict_yaml import YamlFile

ROOT = Path(__file__).resolve().parents[2]
OURS = tuple(
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "search_spaces").glob("*.yaml"))
)
GOOD = "space:\n  fc1: {type: int, low: 8, high: 64}\n"
LONGEST_LINE = 1500
WITHOUT_A_LINE = ("empty, or no mapping", "bytes, but the limit is")  # said of the whole file
LEAKED = (
    "Traceback",
    "Input should be",
    "a dictionary",
    "pydantic",
    "unicode string",
    "Known: .",
    " object at 0x",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "space.yaml"


def filled_in(content: Content) -> Content:
    """What a valid file comes to, reckoned from the schema's defaults alone."""
    search = content["search"]
    usual = SearchSettings().model_dump() | {"stop": {}, "mode": mode_of(search["metric"])}
    space = {}
    for name, parameter in content["space"].items():
        kept = {key: value for key, value in parameter.items() if (key, value) != ("log", False)}
        as_float = ("low", "high", "step") if parameter["type"] == "float" else ()
        space[name] = {
            key: float(value) if key in as_float else value for key, value in kept.items()
        }
    search = usual | search
    search["asha"] = derived_asha(search["asha"], search["max_epochs"])
    return {"experiment": content.get("experiment", {}), "space": space, "search": search}


def typed(value: Any) -> Any:
    """For a comparison that tells 1, 1.0 and true apart."""
    if isinstance(value, dict):
        return {key: typed(inner) for key, inner in value.items()}
    return (
        [typed(inner) for inner in value] if isinstance(value, list) else (type(value), repr(value))
    )


def allows(parameter: Parameter, value: Any) -> bool:
    """Whether a parameter can be `value`; told without its own `problem`."""
    if isinstance(parameter, CategoricalParameter):
        return typed(value) in typed(parameter.choices)
    return (
        type(value) is (int if parameter.type == "int" else float)
        and parameter.low <= value <= parameter.high
    )


def assert_point(space: SearchSpace, point: dict[str, Any]) -> None:
    """It has what applies, and nothing else; all of it in range."""
    assert list(point) == [name for name in space.parameters if name in point]
    for name, parameter in space.parameters.items():
        met = all(
            other in point and typed(point[other]) in typed(values)
            for other, values in parameter.when.items()
        )
        assert (name in point) == met
        assert name not in point or (
            allows(parameter, point[name]) and parameter.problem(point[name]) is None
        )


def assert_sound(space: SearchSpace, again: Path) -> None:
    """Its points are in range, its corners reach everything, and its own text says the same."""
    for seed in range(3):
        random = Random(seed)
        assert_point(
            space,
            space.choose(
                lambda _, parameter, random=random: random.choice(parameter.corner_values())
            ),
        )
    seen: dict[str, list[Any]] = {name: [] for name in space.parameters}
    for corner in space.corners():
        assert_point(space, corner)
        for name, value in corner.items():
            seen[name].append(typed(value))
    for name, parameter in space.parameters.items():
        missing = [v for v in parameter.corner_values() if typed(v) not in seen[name]]
        assert missing == []
    again.write_text(space.as_yaml(), encoding="utf-8")
    read = read_space(again)
    assert read.parameters == space.parameters
    assert list(read.in_order) == list(space.in_order)
    assert typed(read.as_plain()) == typed(space.as_plain())
    assert read.as_yaml() == space.as_yaml()
    plan = [
        forecast.describe_search(space.search, 3, "s", "Digits", Slots(1, 1, 0.0)),
        *forecast.describe_plan(space.search, Slots(1, 1, 0.0), 9, 3),
        *forecast.notes(space.search, 3, Slots(1, 1, 0.0)),
    ]
    assert all(line.isprintable() for line in plan)


def assert_refused(error: InputError, path: Path, data: bytes) -> None:
    """In lines that a terminal can show, each with its place in the file."""
    lines = len(re.split(r"\r\n|[\n\r\x85\u2028\u2029]", data.decode("utf-8", "replace")))
    assert error.problems
    for said in map(str, error.problems):
        assert said.isprintable()
        assert len(said) < LONGEST_LINE + len(str(path))
        assert not [word for word in LEAKED if word in said]
        place = re.match(re.escape(str(path)) + r":(\d+)(?: .*)?: ", said)
        assert place or any(text in said for text in WITHOUT_A_LINE), said
        assert place is None or 1 <= int(place[1]) <= lines


def assert_refused_or_sound(path: Path, data: bytes) -> bool:
    """Whether a file is taken."""
    path.write_bytes(data)
    try:
        space = read_space(path)
    except InputError as error:
        assert_refused(error, path, data)
        return False
    assert_sound(space, path.with_name("again.yaml"))
    return True


@EFFORTS
def test_a_valid_file_in_any_hand_means_what_it_says(times: int, path: Path) -> None:
    def holds(content: Content, seed: int) -> None:
        with in_time():
            path.write_bytes(Hand(seed).text(content).encode())
            assert typed(YamlFile(path).content) == typed(content)
            space = read_space(path)
            assert typed(space.as_plain()) == typed(filled_in(content))
            assert_sound(space, path.with_name("again.yaml"))

    for_all(holds, contents(), st.integers(0, 2**32), number=40, times=times)


# Where a fragment could stand in a file, as @.
PLACES = (
    *(
        "@",
        f"@\n{GOOD}",
        f"{GOOD}search: @\n",
        f"{GOOD}search: {{start_with: [{{fc1: @}}]}}\n",
        f"experiment: {{a: [@]}}\n{GOOD}",
    ),
    *(
        "space:\n  @: {type: int, low: 1, high: 8}\n",
        "space:\n  fc1: {type: float, low: @, high: 8}\n",
    ),
    "space:\n  fc1: {type: int, low: 1, high: 8, when: {@: @}}\n",
    "space:\n  fc1: {type: categorical, choices: [a, @]}\n  fc2: {type: int, low: 1, high: 8, when: {fc1: @}}\n",
)


def test_every_hostile_fragment_is_refused_or_sound(path: Path) -> None:
    for number, fragment in enumerate(HOSTILE):
        for place in PLACES[number % 3 :: 3]:
            with in_time():
                assert_refused_or_sound(path, encoded(place.replace("@", fragment)))


@EFFORTS
def test_a_damaged_file_is_refused_or_sound(times: int, path: Path) -> None:
    taken = set()

    def holds(data: bytes) -> None:
        with in_time():
            taken.add(assert_refused_or_sound(path, data))

    for_all(holds, damaged_files(*OURS), number=80, times=times)
    assert taken == {True, False}, "the damage is too little, or too much"


@pytest.mark.slow
def test_the_command_itself_takes_or_refuses(tmp_path: Path) -> None:
    """`--check` builds every corner of a space that is in order."""

    def holds(data: bytes) -> None:
        (tmp_path / "space.yaml").write_bytes(data)
        command = [
            sys.executable,
            str(ROOT / "tuning" / "search.py"),
            "--space",
            "space.yaml",
            "--check",
        ]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert "Traceback" not in done.stderr
        assert all(line.isprintable() for line in (done.stdout + done.stderr).split("\n"))
        if done.returncode == 0:
            assert "nothing was started" in done.stdout
        else:
            assert done.returncode == 2
            assert done.stderr.startswith("error: space.yaml")
            assert done.stdout == ""
        assert {path.name for path in tmp_path.iterdir()} <= {"space.yaml", "again.yaml"}

    for_all(holds, damaged_files(*OURS), number=3, times=MANY)
