"""The recogniser as a package: from a checkpoint and pictures to digits."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from text_recognizer import predict
from text_recognizer.data.digits import Digits
from text_recognizer.errors import CheckpointError, InputError
from text_recognizer.predict import Recognizer
from text_recognizer.util import checksum, read_image
from training.experiment import build_data, train
from training.settings import checked


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser that has seen the digits for a few epochs."""
    path = tmp_path_factory.mktemp("predict") / "best.ckpt"
    settings = checked(
        {"data_class": "Digits", "max_epochs": 4, "fc1": 128, "gpus": 0, "threads": 1}
    )
    flags = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    trainer, _ = train(settings, build_data(settings), **flags)
    trainer.save_checkpoint(path)
    return path


def test_digits_are_read_from_tensors_arrays_and_files(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images, labels = Digits().trainval[torch.arange(40)]
    predictions = Recognizer.load(checkpoint).predict(images)
    assert predictions == Recognizer.load(str(checkpoint)).predict(images.squeeze(1).numpy())
    right = [
        i for i, prediction in enumerate(predictions) if prediction.label == str(labels[i].item())
    ]
    assert len(right) > 30
    surest = max(right, key=lambda i: predictions[i].probability)
    assert 0.5 < predictions[surest].probability <= 1

    pixels = images[surest, 0].numpy()
    Image.fromarray(pixels).save(tmp_path / "light on dark.png")
    Image.fromarray(255 - pixels).resize((100, 100)).convert("RGB").save(
        tmp_path / "ink on paper.png"
    )
    ink = Image.new("RGBA", (28, 28), (0, 0, 0, 0))
    ink.putalpha(Image.fromarray(pixels))
    ink.save(tmp_path / "transparent.png")
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "sixteen bits.png")
    pictures = sorted(map(str, tmp_path.glob("*.png")))
    monkeypatch.setattr("sys.argv", ["predict", str(checkpoint), *pictures])
    predict.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1][0] for line in lines] == [str(labels[surest].item())] * 4
    assert all(line.endswith("%)") for line in lines)


def test_images_of_another_kind_are_refused(checkpoint: Path) -> None:
    recognizer = Recognizer.load(checkpoint)
    with pytest.raises(InputError, match="uint8"):
        recognizer.predict(torch.zeros(2, 28, 28))
    with pytest.raises(InputError, match="28, 28"):
        recognizer.predict(np.zeros((2, 32, 32), dtype=np.uint8))


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("pwned"),)  # type: ignore[return-value]


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "empty",
        "text",
        "truncated",
        "payload",
        "no dict",
        "a foreign checkpoint",
        "a folder",
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_and_runs_nothing(
    kind: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.ckpt"
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("weights")
        case "truncated":
            path.write_bytes(checkpoint.read_bytes()[:5000])
        case "payload":
            path.write_bytes(pickle.dumps({"state_dict": Payload()}))
        case "no dict":
            torch.save([1, 2], path)
        case "a foreign checkpoint":
            torch.save({"state_dict": {}, "hyper_parameters": {"model_class": "MLP"}}, path)
        case "a folder":
            path.mkdir()
    with pytest.raises(CheckpointError, match=r"bad\.ckpt"):
        Recognizer.load(path)
    assert not (tmp_path / "pwned").exists()


def test_a_picture_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    for name in ("a.png", "missing.png"):
        with pytest.raises(InputError, match="not a readable picture"):
            read_image(tmp_path / name, (28, 28))


def test_checksums(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert (
        checksum(tmp_path / "a")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert checksum(tmp_path / "a", "md5") == "900150983cd24fb0d6963f7d28e17f72"
