"""Space files that Hypothesis makes up: a valid one means the same after it was written and read; a
damaged one is refused.

`tests/faults/test_bad_input.py` has the mistakes that were thought of; here are those that were
not.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.faults.damage import HOSTILE, damaged_files, encoded
from tests.faults.efforts import EFFORTS, for_all, in_time
from tests.faults.made_up import Content, Hand, contents
from text_recognizer.errors import InputError, Problem
from text_recognizer.metrics import mode_of
from tuning.run import forecast
from tuning.run.resources import Slots
from tuning.space.reader import read_space
from tuning.space.schema import CategoricalParameter, Parameter, SearchSettings
from tuning.space.search_space import SearchSpace
from tuning.space.strict_yaml import YamlFile

ROOT = Path(__file__).resolve().parents[2]
OURS = tuple(
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "search_spaces").glob("*.yaml"))
)
GOOD = "space:\n  fc1: {type: int, low: 8, high: 64}\n"
LONGEST_LINE = 1500
WITHOUT_A_LINE = ("a search space", "a file of at most ")  # an empty file, and one that is not read
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
    search = usual | search | {"asha": usual["asha"] | search["asha"]}
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
            space, space.choose(lambda _, parameter, random=random: random.choice(parameter.ends()))
        )
    seen: dict[str, list[Any]] = {name: [] for name in space.parameters}
    for corner in space.corners():
        assert_point(space, corner)
        for name, value in corner.items():
            seen[name].append(typed(value))
    for name, parameter in space.parameters.items():
        every = (
            parameter.choices if isinstance(parameter, CategoricalParameter) else parameter.ends()
        )
        assert [value for value in every if typed(value) not in seen[name]] == []
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
    for problem in error.problems:
        assert isinstance(problem, Problem)
        said = str(problem)
        assert said.isprintable()
        assert len(said) < LONGEST_LINE + len(str(path))
        assert not [word for word in LEAKED if word in said]
        place = re.match(re.escape(str(path)) + r":(\d+)(?: .*)?: `", said)
        assert place or problem.rule.startswith(WITHOUT_A_LINE), said
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

    for_all(holds, contents(), st.integers(0, 2**32), number=60, times=times)


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


def test_every_hostile_fragment_is_refused_or_sound_in_every_place(path: Path) -> None:
    for fragment in HOSTILE:
        for place in PLACES:
            with in_time():
                assert_refused_or_sound(path, encoded(place.replace("@", fragment)))


@EFFORTS
def test_a_damaged_file_is_refused_or_sound(times: int, path: Path) -> None:
    taken = set()

    def holds(data: bytes) -> None:
        with in_time():
            taken.add(assert_refused_or_sound(path, data))

    for_all(holds, damaged_files(*OURS), number=200, times=times)
    assert taken == {True, False}, "the damage is too little, or too much"


def ints(number: int, *others: Callable[[int], int]) -> str:
    """So many parameters, each with a condition on those that `others` name, as far as there are
    such.
    """
    lines = ["space:\n"]
    for i in range(number):
        when = ", ".join(f"p{other(i)}: 1" for other in others if 0 <= other(i) < number)
        lines.append(
            f"  p{i}: {{type: int, low: 1, high: 3{f', when: {{{when}}}' if when else ''}}}\n"
        )
    return "".join(lines)


def listed(number: int, item: str = "{}") -> str:
    return ", ".join(item.format(i) for i in range(number))


def categorical(choices: str, when: str) -> str:
    condition = f"when: {{a: [{when}]}}"
    return f"space:\n  a: {{type: categorical, choices: [{choices}]}}\n  b: {{type: int, low: 1, high: 3, {condition}}}\n"


# Files whose parts could each have to do with all others, by the number of their parts.
MANIFOLD: dict[str, Callable[[int], str]] = {
    "each on the next": lambda n: ints(n, lambda i: i + 1),
    "each on the one before": lambda n: ints(n, lambda i: i - 1),
    "each on ten before": lambda n: ints(
        n, *(lambda i, back=back: i - back for back in range(1, 11))
    ),
    "in layers of two, each on both before": lambda n: ints(
        n, lambda i: i // 2 * 2 - 2, lambda i: i // 2 * 2 - 1
    ),
    "in a circle": lambda n: ints(n, lambda i: (i + 1) % n),
    "each on an unknown one": lambda n: ints(n, lambda i: i + 1).replace("when: {p", "when: {q"),
    "a point of unknown names": lambda n: (
        f"{ints(n)}search: {{start_with: [{{{listed(n, 'q{}: 1')}}}]}}\n"
    ),
    "points without a value": lambda n: f"{ints(n)}search: {{start_with: [{listed(n, '{{}}')}]}}\n",
    "points": lambda n: (
        f"{ints(1).replace('3', '99999')}search: {{start_with: [{listed(n, '{{p0: {}1}}')}]}}\n"
    ),
    "choices, and a condition on each": lambda n: categorical(listed(n), listed(n)),
    "choices, and conditions on none": lambda n: categorical(listed(n), listed(n, "-{}")),
    "unknown keys": lambda n: f"{ints(1)}search: {{{listed(n, 'k{}: 1')}}}\n",
}


@EFFORTS
@pytest.mark.parametrize("name", MANIFOLD)
def test_a_file_of_many_parts_is_read_in_time(times: int, name: str, path: Path) -> None:
    size, limit_s = (8_000, 20) if times == 1 else (99_000, 120)
    number = 10
    while len(MANIFOLD[name](number * 6 // 5)) < size:
        number = number * 6 // 5
    text = MANIFOLD[name](number)
    path.write_text(text)
    with in_time(limit_s):
        try:
            space = read_space(path)
        except InputError as error:
            assert_refused(error, path, text.encode())
        else:
            assert sum(1 for _ in space.corners()) > 2
            assert space.as_yaml()


@EFFORTS
def test_the_command_itself_takes_or_refuses(times: int, tmp_path: Path) -> None:
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

    files = damaged_files(*OURS)
    if times == 1:  # what is taken costs ten seconds: one of those
        files = files.filter(
            lambda data: not assert_refused_or_sound(tmp_path / "space.yaml", data)
        )
        holds(f"{OURS[1]}# as it is\n".encode())
    for_all(holds, files, number=3, times=times)
