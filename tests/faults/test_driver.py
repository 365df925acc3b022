"""D1 to D4 and C2: faults of the driver of a real search on real digits, and of its Ray. Each test
ends with a resume.
"""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tuning.search
from tests.faults.acknowledging import folder_of
from tests.finished import finished_run
from tests.formula import check, measured, search_without_ray
from tests.processes import ROOT, Command, left, run
from text_recognizer.command import exit_code_of
from text_recognizer.data.digits import Digits
from text_recognizer.data.util import BaseDataset
from tuning.run.folder import RunFolder
from tuning.run.options import Options
from tuning.run.resources import Slots
from tuning.space.reader import read_space
from tuning.study.optuna_record import create_record, load_record
from tuning.study.search import Search
from tuning.study.storage import sqlite_url
from tuning.study.study import Study
from tuning.trials.trial import Epoch, Trial
from tuning.verification.evaluation import evaluate
from tuning.worker.trainable import TrialJob, train_trial

TRIALS = 6
SPACE = """
experiment: {data_class: Digits}
space:
  fc1: {type: int, low: 16, high: 64}
search: {trials: 40, max_epochs: 4}
"""
SEARCH = ["-m", "tests.faults.acknowledging"]
FLAGS = ["--no-dashboard", "--max-concurrent", "1", "--trials", str(TRIALS), "--name"]


def start(folder: Path, name: str) -> Command:
    """A search with a name that is not ASCII, and a home that cannot be written. It leads a group
    of processes, as one that was typed into a terminal.
    """
    (folder / "größe.yaml").write_text(SPACE)
    flags = ["--space", "größe.yaml", *FLAGS, name]
    return Command([*SEARCH, *flags], folder, ["setsid"], HOME="/proc/nobody")


def study_of(run_folder: RunFolder) -> Study:
    return Study(
        load_record(sqlite_url(run_folder.study), run_folder.name),
        read_space(run_folder.space),
        trials=TRIALS,
    )


Measured = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The trials of the same search without Ray, which nobody interrupts."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "small.yaml").write_text(SPACE)
    space, data = read_space(folder / "small.yaml"), Digits().trainval
    record = create_record(sqlite_url(folder / "study.db"), space, "whole")
    study = Study(record, space, trials=TRIALS)
    search = Search("", space, Options(), RunFolder(folder), study, Slots(1, 1, 0), data)
    objective = space.search.objective
    job = TrialJob(search.trial_settings, objective, folder, folder, stall_limit=600)

    def train(trial: Trial) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        config = {"number": trial.number, "params": trial.params, "history": []}
        train_trial(config, job, data, results.append)
        return results

    search_without_ray(study, train)
    return measured(study.trials)


def close(folder: RunFolder) -> None:
    """The checks at the end: acknowledged epochs are in the study, and the study is in the report;
    one outcome for each trial; the best checkpoint has the reported value.
    """
    study = study_of(folder)
    assert len(study.trials) == TRIALS
    check(study, folder_of(folder.path))
    rows = list(csv.DictReader(folder.trials_csv.open()))
    summary = json.loads(folder.summary.read_text())
    assert [(row["status"], int(row["epochs"])) for row in rows] == [
        (t.outcome, len(t.epochs)) for t in study.trials
    ]
    assert (summary["status"], summary["epochs_trained"]) == (
        "complete",
        sum(len(t.epochs) for t in study.trials),
    )
    assert sum(summary["counts"].values()) == TRIALS
    best = summary["best"]
    assert best["value"] == max(
        epoch.metrics["val_acc"] for trial in study.trials for epoch in trial.epochs
    )
    data = Digits()
    again = evaluate(folder.best_checkpoint, BaseDataset(*data.trainval[data.splits()[1]]))
    assert again.accuracy == pytest.approx(best["value"], rel=1e-6), (
        "the best checkpoint loads and re-evaluates to what was reported"
    )


def in_full_swing(folder: Path, name: str = "cut") -> tuple[Command, RunFolder]:
    """Start a search and wait until its first trial has ended."""
    search = start(folder, name)
    search.wait_to_say("complete", "stopped early")
    return search, RunFolder(folder / "runs" / name)


def resumes_as_if_undisturbed(folder: RunFolder, undisturbed: Measured) -> None:
    assert 1 <= sum(trial.outcome is not None for trial in study_of(folder).trials) < TRIALS, (
        "it was cut in its middle"
    )
    check(study_of(folder), folder_of(folder.path), ended=False)
    resumed = Command([*SEARCH, "--resume", f"runs/{folder.name}"], folder.path.parents[1])
    resumed.wait_to_say("starting Ray")
    resumed.close_output()
    assert resumed.end() == 0, resumed.errors
    assert resumed.errors == "", "nobody has to read what a search says"
    close(folder)
    assert measured(study_of(folder).trials) == undisturbed


def test_d1_d4_a_killed_driver_frees_its_lock_and_the_search_goes_on_as_if_undisturbed(
    tmp_path: Path, undisturbed: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    search, folder = in_full_swing(tmp_path)
    # or it may have ended before the second has started
    search.process.send_signal(signal.SIGSTOP)
    assert exit_code_of(lambda: tuning.search.main(["--resume", str(folder.path)])) == 4
    assert f"process {search.process.pid} on" in capsys.readouterr().err
    family = search.family()
    search.process.kill()
    assert search.end() == -signal.SIGKILL
    assert left(family) == [], "no process of the run is left"
    assert json.loads(folder.summary.read_text())["status"] == "running", (
        "with a free lock that means killed"
    )
    again = ["--resume", f"runs/{folder.name}"]
    full = run(
        [*SEARCH, *again],
        tmp_path,
        RAY_memory_usage_threshold="0.001",
        RAY_memory_monitor_refresh_ms="100",
    )
    assert full.process.returncode == 5, full.errors
    assert "the memory of the machine is full (" in full.errors
    summary = json.loads(folder.summary.read_text())
    assert (summary["status"], summary["counts"]["failed"]) == ("interrupted", 0)
    assert "memory of the machine is full" in summary["stop_reason"]
    resumes_as_if_undisturbed(folder, undisturbed)


@pytest.mark.slow  # Ctrl-C in a terminal, and a resume, are in tests/browser/test_search.py
@pytest.mark.parametrize(
    ("signals", "code", "send"),
    [
        ([signal.SIGINT], 130, os.kill),
        ([signal.SIGTERM], 143, os.kill),
        ([signal.SIGHUP], 129, os.kill),
        ([signal.SIGINT, signal.SIGINT], 130, os.kill),
        ([signal.SIGTERM], 143, os.killpg),  # as a terminal that closes
        ([signal.SIGHUP], 129, os.killpg),
    ],
)
def test_d2_an_interrupted_search_says_how_to_resume(
    signals: list[signal.Signals],
    code: int,
    send: Callable[[int, int], None],
    tmp_path: Path,
    undisturbed: Measured,
) -> None:
    search, folder = in_full_swing(tmp_path)
    family = search.family()
    for number in signals:
        send(search.process.pid, number)
        search.wait_to_say("stopping, nothing is lost")
    assert search.end() == code, search.errors
    assert "Traceback" not in search.errors
    assert f"{ROOT}/tuning/search.py --resume runs/cut" in search.output
    assert "wrote" not in search.output, "an interrupted search has not finished"
    assert json.loads(folder.summary.read_text())["status"] == "interrupted"
    assert left(family) == [], "no process of the run is left"
    resumes_as_if_undisturbed(folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("daemon", ["raylet", "gcs_server"])
def test_c2_the_driver_ends_soon_when_ray_dies_and_a_resume_completes_the_search(
    daemon: str, tmp_path: Path, undisturbed: Measured
) -> None:
    search, folder = in_full_swing(tmp_path)
    family = search.family()
    next(process for process in family if process.name() == daemon).kill()
    assert search.process.wait(timeout=60) == 6, search.errors
    search.end()
    assert f"Ray's {daemon} died" in search.errors
    assert "--resume runs/cut" in search.errors
    assert left(family) == [], "no process of the run is left"
    assert not any(trial.failures for trial in study_of(folder).trials), (
        "no trial is charged with it"
    )
    resumes_as_if_undisturbed(folder, undisturbed)


ENDLESS = 100_000
TWO = """
experiment: {data_class: Digits}
space:
  fc1: {type: int, low: 16, high: 64}
search: {trials: 2, max_epochs: 100000, start_with: [{fc1: 16}, {fc1: 17}]}
"""


def short_then_endless(settings: dict[str, Any]) -> list[Epoch]:
    """The best trial was best at its first epoch; training the other one again takes for ever."""
    epoch, value = (1, 0.9) if settings["fc1"] == 16 else (ENDLESS, 0.8)
    return [
        Epoch(
            epoch,
            {"train_loss": 1.0, "train_acc": 0.5, "val_loss": 1.0, "val_acc": value},
            time=1.0,
        )
    ]


@pytest.mark.parametrize(
    "moment", [pytest.param("starting Ray", marks=pytest.mark.slow), "trial 0, seed 0"]
)
def test_d3_ctrl_c_during_the_final_script_is_an_ordinary_interrupt(
    moment: str, tmp_path: Path, empty_database: Path
) -> None:
    folder = finished_run(tmp_path, empty_database, short_then_endless, TWO)
    before = {path.name: path.stat().st_mtime_ns for path in folder.path.iterdir()}
    retrain = Command(
        [str(ROOT / "tuning/retrain.py"), "runs/done", "--seeds", "1", "--top", "2"], tmp_path
    )
    retrain.wait_to_say(moment)
    family = retrain.family()
    retrain.process.send_signal(signal.SIGINT)
    assert retrain.end() == 130, retrain.errors
    assert retrain.errors == "interrupted\n"
    assert left(family) == [], "no process of Ray's is left"
    after = {
        path.name: path.stat().st_mtime_ns for path in folder.path.iterdir() if path.name != ".lock"
    }
    assert after == before, "nothing of the run was changed, and nothing is left in it"


@pytest.mark.slow
def test_d1_nothing_at_all_is_left_of_a_killed_driver(tmp_path: Path) -> None:
    search, _ = in_full_swing(tmp_path)
    family = search.family()
    search.process.kill()
    search.end()
    assert left(family, agents=True) == []


def test_workers_that_do_not_start_are_said_and_end_a_new_search_without_a_trace(
    tmp_path: Path,
) -> None:
    (tmp_path / "small.yaml").write_text(SPACE)
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, threading\n"
        "if 'default_worker.py' in ' '.join(sys.orig_argv):\n"
        "    sys.stderr.write('this worker waits for ever\\n')\n"
        "    threading.Event().wait()\n"
    )
    flags = ["--space", "small.yaml", "--no-dashboard", "--stall-limit", "9s", "--name", "never"]
    search = Command([str(ROOT / "tuning/search.py"), *flags], tmp_path, PYTHONPATH=str(tmp_path))
    search.wait_to_say("no worker has started for 3")
    family = search.family()
    assert search.end() == 6, search.output
    assert search.errors.startswith("error: no worker has started for 1m")
    assert search.errors.endswith("log of a worker: this worker waits for ever\n")
    assert left(family) == []
    assert "never is removed: it has trained nothing" in search.output
    assert list((tmp_path / "runs").iterdir()) == [], "neither the run nor a link to it"
