"""The search's command line: refusals with their exit codes; interrupts and kills, each followed by a resume."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tuning.run_folder import RunFolder
from tuning.space import read_space
from tuning.study import Study, load_record, sqlite_url

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


def interrupt(space_path: Path, name: str, number: signal.Signals) -> tuple[int, str, str]:
    """Start a search with one slot, and signal its driver once a trial has ended. Returns exit code, output, errors."""
    arguments = command(space_path, "--name", name, "--max-concurrent", "1", "--trials", "6")
    with subprocess.Popen(arguments, cwd=space_path.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "complete" in line or "stopped early" in line:  # the search is in full swing
                break
        process.send_signal(number)
        said, complained = process.communicate(timeout=LIMIT_S)
    return process.returncode, said, complained


def resume(space_path: Path, name: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, str(ROOT / "tuning" / "search.py"), "--resume", f"runs/{name}"]
    return subprocess.run(arguments, cwd=space_path.parent, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def results(space_path: Path, name: str) -> list[tuple[Any, ...]]:
    """What a run measured: parameters, outcome and every value of every trial."""
    folder = RunFolder(space_path.parent / "runs" / name)
    space = read_space(folder.space)
    trials = Study(load_record(sqlite_url(folder.study), name), space, trials=6).trials
    return [(trial.params, trial.outcome, [epoch.metrics for epoch in trial.epochs]) for trial in trials]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The same search, never interrupted."""
    path = tmp_path_factory.mktemp("undisturbed") / "small.yaml"
    path.write_text(SPACE)
    done = search(path, "--name", "whole", "--max-concurrent", "1", "--trials", "6")
    assert done.returncode == 0, done.stderr
    return results(path, "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_search_that_is_cut_goes_on_as_if_undisturbed(
    number: signal.Signals, code: int, space_path: Path, undisturbed: list[tuple[Any, ...]]
) -> None:
    returned, said, complained = interrupt(space_path, "cut", number)
    assert returned == code, complained
    assert "Traceback" not in complained
    folder = space_path.parent / "runs/cut"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["counts"]["complete"] + summary["counts"]["stopped_early"] >= 1, "what was said is on disk"
    assert 1 <= sum(outcome is not None for _, outcome, _ in results(space_path, "cut")) < 6, "it was cut in its middle"
    if number != signal.SIGKILL:
        assert summary["status"] == "interrupted"
        assert "resume: python tuning/search.py --resume runs/cut" in said
    left = subprocess.run(["pgrep", "-f", str(space_path.parent)], capture_output=True, text=True, check=False)
    assert left.stdout == "", "no process of the run is left"

    done = resume(space_path, "cut")
    assert done.returncode == 0, done.stderr
    assert results(space_path, "cut") == undisturbed
    assert json.loads((folder / "summary.json").read_text())["status"] == "complete"
