"""No command waits for a package that it does not need yet: torch alone takes two seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, heavy_imports, run

SEARCH, RETRAIN, REPORT, RUNS = (
    f"tuning/{name}.py" for name in ("search", "retrain", "report", "runs")
)
MLP = ["--space", "search_spaces/mlp.yaml"]


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """Two finished runs, `a` and `b`."""
    for name in "ab":
        shutil.copytree(ROOT / "tests/recorded/before", tmp_path / "runs" / name)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("script", "arguments", "code", "heavy"),
    [
        (SEARCH, ["--help"], 0, []),
        (SEARCH, ["--space", "missing.yaml"], 2, []),
        (SEARCH, [*MLP, "--trials", "0"], 2, []),
        (SEARCH, [*MLP, "--trials", "0", "--storage", "postgresql://me@h/x"], 2, []),
        (REPORT, ["{runs}/a"], 0, ["optuna"]),
        (RUNS, ["--help"], 0, []),
        (RUNS, ["--runs-dir", "{runs}"], 0, []),
        (RUNS, ["{runs}/a", "{runs}/b"], 0, []),
        (RUNS, ["{runs}/a"], 2, []),
    ],
)
def test_a_command_imports_only_what_it_needs(
    script: str, arguments: list[str], code: int, heavy: list[str], runs_dir: Path
) -> None:
    given = [argument.format(runs=runs_dir) for argument in arguments]
    ended, imported, said = heavy_imports(script, *given)
    assert (ended, imported) == (code, heavy), said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["a", "no such run"])
def test_the_final_script_says_all_that_is_wrong_with_its_flags_at_once(
    name: str, runs_dir: Path
) -> None:
    flags = ["--seeds", "0", "--top=0", "--gpus_per_trial=1.5", "--cpus-per-trial", "0"]
    ended, imported, said = heavy_imports(RETRAIN, str(runs_dir / name), *flags)
    assert (ended, imported) == (2, []), said
    refused = [line.removeprefix("error: ").split(":")[0] for line in said.splitlines()]
    wrong = ["--gpus-per-trial", "--cpus-per-trial", "--seeds", "--top"]
    assert refused == ([] if name == "a" else [str(runs_dir / name)]) + wrong
    assert not (runs_dir / "a" / ".lock").exists()


def test_rays_settings_are_made_before_ray_is_imported(tmp_path: Path) -> None:
    code = """
import tuning.ray_backend
from ray._private import ray_constants
assert not ray_constants.ENABLE_RAY_CLUSTER, "each node would take its own address in the network"
"""
    ended = run(["-c", code], tmp_path)
    assert ended.process.returncode == 0, ended.errors


def test_a_pipe_gets_whole_lines_and_no_colours(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = (runs_dir / "a").rename(runs_dir / ("x" * 100))
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm-256color")
    for arguments in ([], [f"runs/{long.name}", "runs/b"]):
        listed = run([str(ROOT / RUNS), *arguments], runs_dir.parent).output
        assert long.name in listed
        assert "\x1b" not in listed
        assert not any(line.endswith(" ") for line in listed.splitlines())
        assert "…" not in listed


@pytest.mark.parametrize(
    "command",
    [
        [SEARCH, *MLP],
        [RETRAIN, "runs/x"],
        [REPORT, "runs/x"],
        [RUNS],
        ["training/run_experiment.py", "--max_epochs=1"],
        ["-m", "text_recognizer.predict", "best.ckpt", "digit.png"],
        ["-m", "text_recognizer.data.mnist"],
    ],
    ids=" ".join,
)
def test_without_the_environment_a_command_says_in_one_line_how_to_enter_it(
    command: list[str],
) -> None:
    ran = subprocess.run(
        [sys.executable, "-S", *command],  # -S: a Python without installed packages
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1, ran.stderr
    assert "Use the project's environment: source .venv/bin/activate" in ran.stderr


def test_the_code_beside_a_script_runs_whatever_the_environment_was_made_from(
    tmp_path: Path, runs_dir: Path
) -> None:
    for name in ("text_recognizer", "training", "tuning"):
        shutil.copytree(ROOT / name, tmp_path / "copy" / name)
    with (tmp_path / "copy/tuning/run/listing.py").open("a") as file:
        file.write("raise SystemExit('the copy runs')\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # The current folder is the other checkout's: it must not come before the script's own.
    script = tmp_path / "copy/tuning/runs.py"
    ran = subprocess.run(
        [sys.executable, script, "--runs-dir", runs_dir],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == "the copy runs\n"
