"""A search that is refused ends with exit code 2, before anything is started or made.

All that can be wrong with file and flags is in tests/faults/test_bad_input.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SPACE
from tests.processes import ROOT, run
from text_recognizer.command import exit_code_of
from tuning import search


@pytest.fixture
def path(space_file: Callable[[str], Path]) -> Path:
    return space_file(SPACE)


def test_a_process_that_refuses_ends_with_2_and_leaves_nothing(path: Path) -> None:
    refused = run(
        [str(ROOT / "tuning/search.py"), "--space", path.name, "--metric", "test_acc"], path.parent
    )
    assert refused.process.returncode == 2
    assert "--metric: `'train_loss'" in refused.errors
    assert "Traceback" not in refused.errors
    assert refused.output == ""
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.usefixtures("no_ray")
def test_more_than_this_machine_has_is_refused_and_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(path.parent)
    flags = ["--space", path.name, "--cpus-per-trial", "4000"]
    assert exit_code_of(lambda: search.main(flags)) == 2
    assert "--cpus-per-trial: `cpus-per-trial <= " in capsys.readouterr().err
    assert list(path.parent.iterdir()) == [path]
