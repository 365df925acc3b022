"""What is refused before Ray starts, because the real constructors refuse it; and every file
that is shipped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from text_recognizer.errors import DataError, InputError
from tuning.space.reader import read_space
from tuning.verification.preflight import check_space, prepare_data

Write = Callable[[str], Path]
SHIPPED = sorted((Path(__file__).resolve().parents[3] / "search_spaces").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_space_can_be_built(path: Path) -> None:
    check_space(read_space(path), "Digits")
    check_space(read_space(path), "MNIST")


BAD = {
    "a width of 0": ("space:\n  fc1: {type: int, low: 0, high: 8}\n", ":2", "fc1 >= 1"),
    "a width of -8": ("space:\n  fc1: {type: int, low: -8, high: 8}\n", ":2", "fc1 >= 1"),
    "an unknown parameter": (
        "space:\n  fc3: {type: int, low: 1, high: 8}\n",
        ":2",
        "Did you mean 'fc2'",
    ),
    "an unknown fixed setting": (
        "experiment:\n  drop: 0.1\nspace:\n  fc1: {type: int, low: 1, high: 8}\n",
        ":2",
        "'dropout'",
    ),
    "an unknown model": (
        "experiment: {model_class: MPL}\nspace:\n  fc1: {type: int, low: 1, high: 8}\n",
        ":1",
        "Did you mean 'MLP'",
    ),
    "a float for a width": (
        "space:\n  fc1: {type: float, low: 1.5, high: 8}\n",
        ":2",
        "fc1 is int",
    ),
    "text for a number": (
        "space:\n  lr: {type: categorical, choices: [1e-3, fast]}\n",
        ":2",
        "lr is float",
    ),
    "an unknown optimizer": (
        "space:\n  optimizer: {type: categorical, choices: [Adam, SGDD]}\n",
        ":2",
        "Did you mean 'SGD'",
    ),
    "momentum for Adam": (
        "space:\n  lr: {type: float, low: 0.1, high: 1}\n  momentum: {type: float, low: 0, high: 0.9}\n",
        ":3",
        "an argument of Adam",
    ),
    "a batch larger than the data": (
        "space:\n  batch_size: {type: categorical, choices: [64, 4096]}\n",
        ":2",
        "1 <= batch_size <= 1077",
    ),
    "a dropout of 1": ("space:\n  dropout: {type: float, low: 0, high: 1}\n", ":2", "dropout < 1"),
    "a width that fits nowhere": (
        "space:\n  fc1: {type: int, low: 1, high: 9007199254740992}\n",
        ":1",
        "can be built",
    ),
    "an unknown precision": (
        "experiment: {precision: double}\nspace:\n  fc1: {type: int, low: 1, high: 8}\n",
        ":1",
        "precision is",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_built_is_refused_where_it_stands(name: str, space_file: Write) -> None:
    text, line, expected = BAD[name]
    with pytest.raises(InputError) as error:
        check_space(read_space(space_file(text)), "Digits")
    assert f"space.yaml{line}" in str(error.value)
    assert expected in str(error.value)


def test_a_condition_keeps_an_impossible_pair_from_being_built(space_file: Write) -> None:
    text = """space:
  optimizer: {type: categorical, choices: [Adam, SGD]}
  momentum: {type: float, low: 0, high: 0.9, when: {optimizer: SGD}}
"""
    check_space(read_space(space_file(text)), "Digits")


def test_a_billion_units_cost_no_memory_to_check(space_file: Write) -> None:
    check_space(
        read_space(space_file("space:\n  fc1: {type: int, low: 1, high: 1000000000}\n")), "Digits"
    )


def space_with(space_file: Write, data_class: str) -> Path:
    return space_file(
        f"experiment: {{{data_class}}}\nspace:\n  fc1: {{type: int, low: 1, high: 8}}\n"
    )


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mirror of MNIST is a closed port."""
    from text_recognizer.data.mnist import MNIST

    monkeypatch.setattr(MNIST, "mirror", "http://127.0.0.1:1/")


@pytest.mark.usefixtures("unreachable")
def test_named_data_is_strict_and_unnamed_data_is_helpful(
    space_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXT_RECOGNIZER_DATA_DIR", str(tmp_path))
    for experiment, flag in (
        ("data_class: MNIST", None),
        ("", str(tmp_path)),
        (f"data_dir: {tmp_path}", None),
    ):
        with pytest.raises(DataError, match="MNIST is not complete in"):
            prepare_data(read_space(space_with(space_file, experiment)), flag, print)
    notes: list[str] = []
    found, _ = prepare_data(read_space(space_with(space_file, "")), None, notes.append)
    assert found.experiment["data_class"] == "Digits"
    assert "MNIST" in notes[0]
    assert "Digits" in notes[0]


def test_a_data_folder_that_the_run_could_not_write_down_is_refused(
    space_file: Write, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="--data-dir: `text of whole characters`"):
        prepare_data(read_space(space_with(space_file, "")), f"{tmp_path}/\udcff", print)


def test_mnist_is_taken_where_it_is(space_file: Write, mnist_dir: Path) -> None:
    notes: list[str] = []
    found, _ = prepare_data(read_space(space_with(space_file, "")), str(mnist_dir), notes.append)
    assert found.experiment["data_class"] == "MNIST"
    assert not notes
