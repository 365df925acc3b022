"""The search's command line: refusals with their exit codes, before anything is started or made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 300

SPACE = """
experiment: {data_class: Digits}
space:
  fc1: {type: int, low: 16, high: 64}
search: {trials: 40, max_epochs: 4}
"""


def command(path: Path, *flags: str) -> list[str]:
    return [sys.executable, str(ROOT / "tuning" / "search.py"), "--space", str(path), "--no-dashboard", *flags]


def search(path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(path, *flags), cwd=path.parent, capture_output=True, text=True, timeout=LIMIT_S, check=False)


@pytest.fixture
def space_path(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SPACE)
    return path


@pytest.mark.parametrize(
    ("flags", "code", "expected"),
    [
        (["--gpus-per-trial", "1.5"], 2, "--gpus-per-trial"),
        (["--gpus-per-trial", "nan"], 2, "--gpus-per-trial"),
        (["--trials", "0"], 2, "--trials"),
        (["--max-concurrent", "0"], 2, "--max-concurrent"),
        (["--keep", "0"], 2, "--keep"),
        (["--metric", "test_acc"], 2, "--metric"),
        (["--trials", "many"], 2, "--trials"),
        (["--unknown"], 2, "--unknown"),
    ],
)
def test_bad_flags_are_refused_at_once(flags: list[str], code: int, expected: str, space_path: Path) -> None:
    done = search(space_path, *flags)
    assert done.returncode == code
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (space_path.parent / "runs").exists()


def test_what_the_machine_cannot_give_and_bad_names_are_refused(space_path: Path) -> None:
    for flags, code, expected in (
        (["--cpus-per-trial", "4000"], 2, "--cpus-per-trial"),
        (["--name", "../x"], 2, "--name"),
        (["--data-class", "MNIST", "--data-dir", str(space_path.parent)], 7, "MNIST is not in"),
    ):
        done = search(space_path, *flags)
        assert done.returncode == code, done.stderr
        assert expected in done.stderr
        assert "Traceback" not in done.stderr
