"""What is refused before Ray starts, because the real constructors refuse it; and every file
that is shipped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from text_recognizer.data.digits import Digits
from text_recognizer.errors import DataError, InputError
from text_recognizer.models.mlp import MLP
from text_recognizer.tables import MODELS
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


WORKS = {
    "accumulate_grad_batches": "3",
    "gradient_clip_val": "0.5",
    "limit_train_batches": "0.5",
    "min_steps": "1000000000",
    "num_sanity_val_steps": "-1",
    "one_cycle": "true",
    "profiler": "pytorch",  # it writes files, but not before a search begins
    "val_check_interval": "0.5",
}


def test_what_trains_in_a_trial_passes_and_leaves_nothing_behind(
    space_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Digits, "load_trainval", None)  # the batch is made up
    threads, fixed = torch.get_num_threads(), ", ".join(": ".join(one) for one in WORKS.items())
    torch.set_num_threads(threads + 1)
    text = f"""experiment: {{{fixed}}}
space:
  batch_size: {{type: categorical, choices: [1, 2, 300]}}
  precision: {{type: categorical, choices: [64-true, bf16-mixed, 16-true]}}
"""
    check_space(read_space(space_file(text)), "Digits")
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


class Fails(MLP):
    """A network that cannot be trained."""

    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError(f"no kernel for {images.dtype}")


class FailsInHalf(Fails):
    """A network that the CPU cannot train in half precision."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) if images.dtype == torch.half else MLP.forward(self, images)


def test_a_network_that_fails_is_refused_and_half_precision_is_left_to_the_gpu(
    space_file: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cls in (Fails, FailsInHalf):
        monkeypatch.setitem(MODELS, cls.__name__, cls)
    text = """experiment: {model_class: FailsInHalf, precision: 16-true, fc2: 8}
space:
  fc1: {type: int, low: 1, high: 8}
"""
    check_space(read_space(space_file(text)), "Digits")
    with pytest.raises(InputError, match=r":2 space: .*RuntimeError.*no kernel for torch.float32"):
        check_space(
            read_space(space_file(text.replace("InHalf, precision: 16-true", ""))), "Digits"
        )
    # Its weights alone would take 3 GB.
    large = text.replace("InHalf, precision: 16-true, fc2: 8", ", fc2: 100000")
    check_space(
        read_space(space_file(large.replace("low: 1,", "low: 1000,").replace("8}", "1001}"))),
        "Digits",
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
