"""The exported checkpoint is the one that was recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from text_recognizer.errors import CheckpointError
from text_recognizer.util import checksum
from tuning.trials.trial import Best, Epoch, Outcome, Trial
from tuning.verification.evaluation import export_best


@pytest.mark.parametrize("damage", ["deleted", "truncated", "one bit"])
def test_a_checkpoint_that_is_not_what_was_recorded_is_not_exported(
    damage: str, tmp_path: Path
) -> None:
    path = tmp_path / "epoch-1.ckpt"
    path.write_bytes(b"weights" * 100)
    epoch = Epoch(1, {"val_acc": 0.5}, path.name, checksum(path))
    flipped = bytearray(path.read_bytes())
    flipped[50] ^= 1
    match damage:
        case "deleted":
            path.unlink()
        case "truncated":
            path.write_bytes(b"weights")
        case "one bit":
            path.write_bytes(flipped)
    with pytest.raises(CheckpointError, match="sha256"):
        export_best(
            tmp_path,
            Best(Trial(0, {}, (epoch,), Outcome.COMPLETE), epoch, 0.5),
            tmp_path / "best.ckpt",
        )
    assert not (tmp_path / "best.ckpt").exists()
