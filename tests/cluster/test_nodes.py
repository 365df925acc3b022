"""C1, C2: a search over three machines, of which a worker or the head dies."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.acknowledging import folder_of
from tests.formula import check
from tests.hosts import Host, Hosts
from tests.processes import Command
from tuning.run.folder import RunFolder
from tuning.space.reader import read_space
from tuning.study.optuna_record import load_record
from tuning.study.storage import sqlite_url
from tuning.study.study import Study

TRIALS = 4
SPACE = """
experiment: {data_class: Digits}
space:
  fc1: {type: int, low: 16, high: 64}
search: {trials: 4, max_epochs: EPOCHS, scheduler: none}
"""
SEARCH = ["-m", "tests.faults.acknowledging"]


def start(
    host: Host, address: str, folder: Path, *flags: str, epochs: int = 60, **environment: str
) -> Command:
    (folder / "small.yaml").write_text(SPACE.replace("EPOCHS", str(epochs)))
    arguments = [*SEARCH, "--space", "small.yaml", "--name", "run", "--address", address, *flags]
    return host.command(arguments, folder, **environment)


def study_of(run: RunFolder) -> Study:
    return Study(load_record(sqlite_url(run.study), run.name), read_space(run.space), trials=TRIALS)


def trained_on(run: RunFolder) -> dict[int, list[str]]:
    """Trial -> the addresses of the hosts that its epochs were trained on, in their order."""
    files = folder_of(run.for_workers).glob("acknowledged-*")
    return {
        int(file.name.split("-")[1]): [
            line.split()[2] for line in file.read_text().split("\n")[:-1]
        ]
        for file in files
    }


def at_work(host: Host, run: RunFolder, search: Command) -> int:
    """The trial that the host trains, once an epoch of it is acknowledged."""
    pause = threading.Event()
    while True:
        for trial, where in trained_on(run).items():
            if where[-1:] == [host.address]:
                return trial
        assert search.process.poll() is None, search.output + search.errors
        pause.wait(0.2)


def close(run: RunFolder) -> Study:
    """What holds after any search; see tests/formula.py."""
    study = study_of(run)
    assert len(study.trials) == TRIALS
    check(study, folder_of(run.for_workers))
    summary = json.loads(run.summary.read_text())
    assert (summary["status"], summary["counts"]["complete"]) == ("complete", TRIALS)
    assert summary["epochs_trained"] == sum(len(trial.epochs) for trial in study.trials)
    return study


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(Host.kill, id="killed"),
        pytest.param(Host.cut_off, id="cut off", marks=pytest.mark.slow),
    ],
)
def test_c1_trials_of_a_lost_node_go_on_elsewhere_and_are_charged_with_nothing(
    loss: Callable[[Host], None], three: Hosts, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "runs/run", tmp_path / "shared/run")
    search = start(
        three.head, three.address, tmp_path, "--checkpoint-dir", "shared", "--retries", "0"
    )
    lost = three.all[1]
    trial = at_work(lost, run, search)
    loss(lost)
    assert search.end() == 0, search.output + search.errors
    assert "cluster   3 nodes, 3 CPUs, 0 GPUs" in search.output
    assert (
        f"node {lost.address} is gone: its trials go on elsewhere and lose no retry"
        in search.output
    )
    study = close(run)
    assert not any(trial.failures for trial in study.trials)
    where = trained_on(run)
    assert {host.address for host in three.all} == set().union(*where.values()), (
        "each had its share"
    )
    assert where[trial][0] == lost.address
    assert where[trial][-1] != lost.address
    assert len(list((tmp_path / "shared/run/trials").iterdir())) == 3, (
        "the best three have a checkpoint there"
    )


@pytest.mark.slow
def test_c2_a_search_whose_head_died_goes_on_on_a_new_cluster(
    network: Hosts, tmp_path: Path
) -> None:
    head = network.start_head(tmp_path)
    driver = network.start_worker(tmp_path)
    search = start(driver, network.address, tmp_path, epochs=60)
    run = RunFolder(tmp_path / "runs/run")
    at_work(head, run, search)
    head.kill()
    assert search.process.wait(timeout=60) == 6, search.output + search.errors
    search.end()
    assert "the cluster's head died" in search.errors
    assert f"--resume runs/run --address {network.address}" in search.errors
    assert not any(trial.failures for trial in study_of(run).trials), "no trial is charged with it"
    driver.kill()
    network.start_head(tmp_path, cpus=2)
    resumed = head.command(
        [*SEARCH, "--resume", "runs/run", "--address", network.address], tmp_path
    )
    assert resumed.end() == 0, resumed.output + resumed.errors
    close(run)


def test_a_folder_that_a_node_does_not_see_and_a_wrong_token_are_refused_before_anything_is_made(
    network: Hosts, tmp_path: Path
) -> None:
    network.start_head(tmp_path, cpus=0)
    (tmp_path / "mine").mkdir()
    without = network.start_worker(tmp_path, tmp_path / "mine")
    nowhere = start(network.head, network.address, tmp_path, "--checkpoint-dir", "mine/not/there")
    search = start(network.head, network.address, tmp_path, "--checkpoint-dir", "mine")
    stranger = start(network.head, network.address, tmp_path, RAY_AUTH_TOKEN="wrong")
    assert search.end() == 2, search.output + search.errors
    assert "--checkpoint-dir: `a folder that every node sees` must hold" in search.errors
    assert f"node {without.address}: No such file" in search.errors
    assert nowhere.end() == 2, nowhere.output + nowhere.errors
    assert stranger.end() == 2, stranger.output + stranger.errors
    assert f"--address {network.address}: the cluster has another token" in stranger.errors
    assert "copy the head's ~/.ray/auth_token" in stranger.errors
    assert not (tmp_path / "runs").exists()
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.slow
def test_a_cluster_without_a_token_is_joined_and_it_is_said_loudly(
    network: Hosts, tmp_path: Path
) -> None:
    network.start_head(tmp_path, cpus=2, RAY_AUTH_MODE="disabled")
    search = start(network.head, network.address, tmp_path, epochs=2)
    assert search.end() == 0, search.output + search.errors
    assert "note: the cluster asks for no token" in search.output
    assert "dashboard http://" in search.output
    assert "(asks for a token" not in search.output
    close(RunFolder(tmp_path / "runs/run"))


@pytest.mark.slow
def test_c2_a_driver_whose_own_ray_died_ends_and_says_so(network: Hosts, tmp_path: Path) -> None:
    network.start_head(tmp_path)
    driver = network.start_worker(tmp_path)
    search = start(driver, network.address, tmp_path)
    run = RunFolder(tmp_path / "runs/run")
    at_work(network.head, run, search)
    raylet = next(
        process for process in driver.first().children(recursive=True) if process.name() == "raylet"
    )
    # `ray start --block` ends with its raylet, and the host's other processes with that
    driver.first().suspend()
    raylet.kill()
    assert search.process.wait(timeout=60) == 6, search.output + search.errors
    search.end()
    assert "the Ray of this node died" in search.errors
    assert not any(trial.failures for trial in study_of(run).trials), "no trial is charged with it"
