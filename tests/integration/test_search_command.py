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
    return [
        sys.executable,
        str(ROOT / "tuning" / "search.py"),
        "--space",
        str(path),
        "--no-dashboard",
        *flags,
    ]


def search(path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(path, *flags),
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.fixture
def space_path(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SPACE)
    return path


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--metric", "test_acc"], "--metric: `one of "),
        # what this machine has
        (["--cpus-per-trial", "4000"], "--cpus-per-trial: `cpus-per-trial <= "),
    ],
)
def test_a_process_that_refuses_ends_with_2_and_leaves_nothing(
    flags: list[str], expected: str, space_path: Path
) -> None:
    """All that can be wrong with file and flags is in tests/faults/test_bad_input.py, in one
    process.
    """
    done = search(space_path, *flags)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(space_path.parent.iterdir()) == [space_path]
