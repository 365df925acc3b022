"""A checkpoint from a stranger: it runs nothing, and is refused before it takes the machine's memory.

`tests/unit/text_recognizer/test_predict.py` reads files that are no checkpoints.
`tests/unit/run/test_folder.py` compares the checksum before an export.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from text_recognizer import predict
from text_recognizer.data.digits import Digits
from text_recognizer.errors import CheckpointError
from text_recognizer.predict import MAX_CHECKPOINT, Recognizer, read_checkpoint
from text_recognizer.tables import build_model
from tuning.worker.guard import newest_valid

SETTINGS = {"model_class": "MLP", "fc1": 16, "fc2": 8}
HUGE = 10**12  # no machine has so many numbers


def content(**changes: Any) -> dict[str, Any]:
    """The content of a sound checkpoint, with changes."""
    weights = {
        f"model.{name}": value
        for name, value in build_model(SETTINGS, Digits.config).state_dict().items()
    }
    sound = {
        "state_dict": weights,
        "hyper_parameters": SETTINGS,
        "data_config": asdict(Digits.config),
        "epoch": 0,
    }
    return sound | changes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "strange.ckpt"


def test_a_file_that_no_memory_holds_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_CHECKPOINT + 1)  # takes no room on the disk
    with pytest.raises(
        CheckpointError,
        match=r"strange\.ckpt: `at most 4,294,967,296 bytes` must hold, but got 4,294,967,297\.",
    ):
        read_checkpoint(path)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_a_program_is_no_checkpoint(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)  # type: ignore[no-untyped-call]
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        read_checkpoint(path)


def test_widths_that_only_stand_in_the_file_take_no_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    def build(*arguments: Any) -> torch.nn.Module:
        model = build_model(*arguments)
        built.append(next(model.parameters()).device.type)
        return model

    monkeypatch.setattr(predict, "build_model", build)
    torch.save(content(hyper_parameters=SETTINGS | {"fc1": HUGE}), path)
    with pytest.raises(CheckpointError, match="size mismatch"):
        Recognizer.load(path)
    torch.save(content(data_config=asdict(Digits.config) | {"input_dims": [1, 10**6, 10**6]}), path)
    with pytest.raises(CheckpointError, match="size mismatch"):
        Recognizer.load(path)
    assert set(built) == {"meta"}
    torch.save(content(), path)
    assert Recognizer.load(path).predict(torch.zeros(1, 28, 28, dtype=torch.uint8))
    assert built[-1] == "cpu"


def test_what_was_changed_since_it_was_recorded_is_not_gone_on_from(tmp_path: Path) -> None:
    for epoch in (1, 2):
        (tmp_path / f"epoch-{epoch}.ckpt").write_bytes(b"weights %d" % epoch)
    sums = {epoch: hashlib.sha256(b"weights %d" % epoch).hexdigest() for epoch in (1, 2)}
    history = [
        {"checkpoint": f"epoch-{epoch}.ckpt", "sha256": sum_} for epoch, sum_ in sums.items()
    ]
    assert newest_valid(tmp_path, history) == tmp_path / "epoch-2.ckpt"
    (tmp_path / "epoch-2.ckpt").write_bytes(b"weights 3")
    assert newest_valid(tmp_path, history) == tmp_path / "epoch-1.ckpt"
    assert newest_valid(tmp_path, history[1:]) is None


def test_the_cap_has_room_for_every_network_of_ours() -> None:
    """Room for ten times the widest network of our spaces, with Adam's two numbers for each weight."""
    with torch.device("meta"):
        widest = build_model({"model_class": "MLP", "fc1": 4096, "fc2": 4096}, Digits.config)
    assert 10 * 3 * 4 * sum(weight.numel() for weight in widest.parameters()) < MAX_CHECKPOINT
