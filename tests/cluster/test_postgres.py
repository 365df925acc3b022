"""A study in PostgreSQL: the server may restart during a search; the password is written nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.following import Calls
from tests.formula import check, run, space_in
from tests.postgres import PASSWORD, Postgres
from tests.processes import ROOT
from tests.processes import run as run_command
from text_recognizer.errors import InputError, StorageError
from tuning.ray_backend.signals import Interruptions
from tuning.run.folder import RunFolder
from tuning.run.resources import Slots
from tuning.run.storage_url import StorageUrl
from tuning.study import storage
from tuning.study.optuna_record import create_record, load_record
from tuning.study.study import Study
from tuning.trials.trial import Outcome, Trial

SEARCH = str(ROOT / "tuning/search.py")
SPACE = """
experiment: {data_class: Digits}
space:
  fc1: {type: int, low: 16, high: 64}
search: {trials: 2, max_epochs: 2, scheduler: none}
"""


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)


@pytest.mark.usefixtures("cluster")
def test_a_server_that_is_restarted_in_the_middle_of_a_search_is_waited_for(
    server: Postgres, tmp_path: Path
) -> None:
    said: list[str] = []

    def start_again(text: str) -> None:
        said.append(text)
        server.start()

    space, url = space_in(tmp_path), StorageUrl.parse(server.url).engine_url
    study = Study(create_record(url, space, "restarted", on_wait=start_again), space, trials=12)
    epochs = 0

    def stop_in_the_middle(trial: Trial) -> None:
        nonlocal epochs
        epochs += 1
        if epochs == 20:
            server.stop()

    study.callbacks.append(Calls(stop_in_the_middle))
    run(study, tmp_path, Slots(2, 1, 0), Interruptions())
    assert len(said) == 1
    assert "does not answer; waiting for it" in said[0]
    recorded = Study(load_record(url, "restarted"), space, trials=12)
    assert len(recorded.trials) == 12
    assert str(recorded.trials) == str(study.trials)
    check(recorded, tmp_path)


def test_a_server_that_does_not_come_back_ends_the_search(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PATIENCE_S", 0)
    space, url = space_in(tmp_path), StorageUrl.parse(server.url).engine_url
    study = Study(create_record(url, space, "gone", on_wait=print), space, trials=4)
    server.stop()
    try:
        with pytest.raises(StorageError, match="the study cannot be used: connection failed"):
            study.next_trial()
    finally:
        server.start()


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_search_with_its_study_there_and_its_password_nowhere(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.yaml").write_text(SPACE)
    flags = ["--no-dashboard", "--max-concurrent", "1", "--storage", server.url]
    start = [SEARCH, "--space", "small.yaml", "--name", "run", *flags]
    monkeypatch.setenv("PGPASSWORD", "wrong")
    refused = run_command(start, tmp_path)
    assert refused.process.returncode == 5
    assert "password authentication failed" in refused.errors
    assert "Set PGPASSWORD, or use ~/.pgpass" in refused.errors
    assert not (tmp_path / "runs").exists()

    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    search = run_command(start, tmp_path)
    assert search.process.returncode == 0, search.errors
    folder = RunFolder(tmp_path / "runs/run")
    assert not folder.study.exists()
    assert json.loads(folder.storage.read_text()) == {"url": server.url, "study": "run"}
    assert f"optuna-dashboard {server.url}" in search.output
    again = [SEARCH, "--resume", "runs/run", "--trials", "3", "--no-dashboard"]
    resumed = run_command(again, tmp_path)
    assert resumed.process.returncode == 0, resumed.errors
    assert json.loads(folder.summary.read_text())["counts"]["complete"] == 3
    report = run_command([str(ROOT / "tuning/report.py"), "runs/run"], tmp_path)
    assert report.process.returncode == 0, report.errors
    assert PASSWORD.encode() not in everything_in(folder.path)
    assert PASSWORD not in search.output + search.errors
    recorded = load_record(StorageUrl.parse(server.url).engine_url, "run")
    outcomes = [trial.user_attrs["outcome"] for trial in recorded.get_trials()]
    assert outcomes == [Outcome.COMPLETE] * 3
    with pytest.raises(InputError, match="the run's own"):
        storage.read_storage_note(folder, "postgresql://searcher@elsewhere/other")
