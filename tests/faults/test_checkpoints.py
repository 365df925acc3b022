"""S3: the best checkpoint of a finished search is damaged, and the search is extended."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.faults.test_driver import SEARCH, start, study_of
from tests.processes import run
from text_recognizer.metrics import Objective
from tuning.run.folder import RunFolder
from tuning.trials.trial import ranking

pytestmark = pytest.mark.slow  # what refuses such a file is among the unit tests


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A search that has ended, and keeps the checkpoints of its three best trials."""
    folder = tmp_path_factory.mktemp("finished")
    search = start(folder, "whole")
    assert search.end() == 0, search.errors
    return RunFolder(folder / "runs/whole")


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    match how:
        case "deleted":
            path.unlink()
        case "truncated":
            path.write_bytes(content[:1000])
        case "one bit":
            content[len(content) // 2] ^= 1
            path.write_bytes(content)


def resumed_copy(
    finished: RunFolder, tmp_path: Path, how: str, best: int
) -> tuple[RunFolder, int, str, str]:
    """A copy of the run, in another place, whose `best` best checkpoints are damaged and whose
    export is still to be made.
    """
    folder = RunFolder(tmp_path / "runs/whole")
    shutil.copytree(finished.path, folder.path, symlinks=True)
    for entry in ranking(study_of(folder).trials, Objective("val_acc", "max"))[:best]:
        damage(folder.checkpoints / str(entry.epoch.checkpoint), how)
    folder.best_config.unlink()
    folder.best_checkpoint.unlink()
    command = run([*SEARCH, "--resume", "runs/whole"], tmp_path)
    return folder, command.process.returncode, command.output, command.errors


@pytest.mark.parametrize("how", ["one bit", "truncated", "deleted"])
def test_s3_the_next_best_trial_is_handed_over_and_it_is_said(
    how: str, finished: RunFolder, tmp_path: Path
) -> None:
    folder, code, said, complained = resumed_copy(finished, tmp_path, how, best=1)
    assert code == 0, complained
    first, second, *_ = ranking(study_of(folder).trials, Objective("val_acc", "max"))
    assert f"trial {first.trial.number} with val_acc {first.value:.4f} cannot be exported" in said
    summary = json.loads(folder.summary.read_text())
    assert summary["best"]["trial"] == second.trial.number
    assert any("cannot be exported" in warning for warning in summary["warnings"])
    assert f"best: trial {second.trial.number}" in said


def test_s3_without_a_sound_checkpoint_there_is_no_best(
    finished: RunFolder, tmp_path: Path
) -> None:
    folder, code, _, complained = resumed_copy(finished, tmp_path, "one bit", best=3)
    assert code == 4
    assert "sha256" in complained
    assert "Traceback" not in complained
    assert not folder.best_checkpoint.exists()
    assert json.loads(folder.summary.read_text())["status"] == "failed"
