"""S1 to S3: disks that are full or read-only, and checkpoints that were changed.

The disks are real file systems, small and in memory. `tests/unit/run/test_folder.py` exports a
damaged best checkpoint.
"""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests import processes
from tests.following import Calls
from tests.formula import check, run, space_in
from tests.unlockable import unlockable
from text_recognizer.atomic import atomic_write
from text_recognizer.command import exit_code_of
from text_recognizer.errors import StorageError
from text_recognizer.metrics import Objective
from text_recognizer.util import checksum
from training.experiment import build_data, train
from tuning import search
from tuning.ray_backend.signals import Interruptions
from tuning.run.folder import create_run
from tuning.run.lock import locked
from tuning.run.reading import write_text
from tuning.run.resources import Slots
from tuning.space.search_space import SearchSpace
from tuning.study.optuna_record import create_record, load_record
from tuning.study.storage import sqlite_url
from tuning.study.study import Study
from tuning.trials.trial import Epoch, Outcome
from tuning.tuner import resume
from tuning.worker.guard import describe_error, newest_valid, outcome_of
from tuning.worker.trainable import Reporter, TrialJob

PAGE = 4096
SEARCH = processes.ROOT / "tuning" / "search.py"


class Disk:
    """A small file system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.filler = path / "filler"

    def fill(self, pages_left: int = 0) -> None:
        """Fill the disk, then free a few pages."""
        with suppress(OSError), self.filler.open("ab", buffering=0) as file:
            while file.write(bytes(PAGE)):
                pass
        os.truncate(self.filler, max(0, self.filler.stat().st_size - pages_left * PAGE))

    def free(self) -> None:
        self.filler.unlink()

    def grow(self) -> None:
        subprocess.run(
            ["mount", "-o", "remount,size=50m", str(self.path)], check=True, capture_output=True
        )

    def make_read_only(self) -> None:
        subprocess.run(
            ["mount", "-o", "remount,ro", str(self.path)], check=True, capture_output=True
        )

    def files(self) -> set[str]:
        return {
            str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file()
        } - {"filler"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Two megabytes. Skips the test if it may not mount: that needs root, or pytest in `unshare -rm`."""
    path = tmp_path / "disk"
    path.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        problem = done.stderr.strip()
    except OSError as error:
        problem = str(error)
    if not os.path.ismount(path):
        pytest.skip(
            f"a full disk takes a file system of its own, and none can be mounted here: {problem}"
        )
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.parametrize("pages_left", [0, 3])
def test_a_file_that_does_not_fit_leaves_the_old_one_and_no_half(
    pages_left: int, disk: Disk
) -> None:
    path = disk.path / "best.ckpt"
    with atomic_write(path) as file:
        file.write(b"old")
    disk.fill(pages_left)
    with pytest.raises(OSError, match="No space left") as error, atomic_write(path) as file:
        file.write(bytes(10 * PAGE))
    assert error.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert disk.files() == {"best.ckpt"}
    disk.free()
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("pages_left", [0, 3])
def test_a_record_that_does_not_fit_is_a_storage_error_and_the_old_one_stays(
    pages_left: int, disk: Disk
) -> None:
    path = disk.path / "summary.json"
    write_text(path, "running")
    before = path.read_text()
    disk.fill(pages_left)
    with pytest.raises(StorageError, match="No space left on device") as error:
        write_text(path, "x" * 10 * PAGE)
    assert error.value.exit_code == 5
    assert str(path) in str(error.value)
    assert path.read_text() == before
    assert disk.files() == {"summary.json"}
    disk.free()
    write_text(path, "complete")
    assert "complete" in path.read_text()


@pytest.mark.parametrize("pages_left", [0, 40])
def test_a_checkpoint_that_does_not_fit_fails_its_trial_with_the_cause_and_is_never_offered(
    pages_left: int, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "data_class": "Digits",
        "fc1": 64,
        "max_epochs": 2,
        "limit_train_batches": 1,
        "limit_val_batches": 1,
        "gpus": 0,
    }
    job = TrialJob(
        settings,
        Objective("val_acc", "max"),
        disk.path / "trials",
        disk.path / "logs",
        stall_limit=600,
    )
    reported: list[dict[str, object]] = []
    reporter = Reporter(job, 0, (), reported.append)
    job.checkpoints.mkdir()
    disk.fill(pages_left)
    # Nothing goes by the folder of temporary files, which may be full or on another disk.
    monkeypatch.setattr(tempfile, "tempdir", "/proc/no")
    with pytest.raises(
        OSError, match=r"No space left on device: .*/trials/0/epoch-1.ckpt"
    ) as error:
        train(
            settings,
            build_data(settings),
            callbacks=[reporter],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    assert outcome_of(error.value) == Outcome.FAILED
    assert "No space left on device" in describe_error(error.value)
    assert not list(disk.path.rglob("*.ckpt")), "no partial file under the final name"
    assert not list(disk.path.rglob("*.writing")), "half a file would only keep the disk full"
    assert reported == []


def record(study: Study, number: int, epoch: int) -> None:
    study.record_epoch(number, Epoch(epoch, {"val_acc": epoch / 10_000}, "a.ckpt", "0" * 64, 1.0))


def record_until_full(study: Study, number: int, start: int) -> int:
    """Record epochs until the disk is full. Returns the first epoch that was refused."""
    epochs = itertools.count(start)
    with pytest.raises(StorageError, match="full") as error:
        deque((record(study, number, epoch) for epoch in epochs), maxlen=0)
    assert error.value.exit_code == 5
    return next(epochs) - 1


def test_a_study_on_a_full_disk_keeps_all_it_acknowledged_and_goes_on_when_there_is_space(
    disk: Disk, space: SearchSpace, empty_database: Path
) -> None:
    path = disk.path / "study.db"
    path.write_bytes(empty_database.read_bytes())
    study = Study(create_record(sqlite_url(path), space, "s"), space, trials=2)
    trial = study.next_trial()
    assert trial is not None
    epoch = 1
    for pages_left in (0, 1, 2, 5, 11, 23):  # so that it is refused at one statement or another
        disk.fill(pages_left)
        refused = record_until_full(study, trial.number, epoch)
        in_memory = study.trial(trial.number)
        disk.free()

        study = Study(load_record(sqlite_url(path), "s"), space, trials=2)  # as a resume does
        found = study.trials[0]
        assert found.epochs == in_memory.epochs, "what was acknowledged, all of it and nothing else"
        assert [entry.epoch for entry in found.epochs] == list(range(1, refused))
        assert study.next_trial() == found, "the unfinished trial is handed out again"
        record(study, trial.number, refused)
        epoch = refused + 1
    assert epoch > 7, "something was recorded between two refusals"

    study.close(trial.number, Outcome.COMPLETE)
    assert study.next_trial() is not None
    assert [found.outcome for found in study.trials] == [Outcome.COMPLETE, None]


def test_a_new_study_and_a_resume_on_a_full_disk_are_storage_errors(
    disk: Disk, space: SearchSpace
) -> None:
    folder = create_run(disk.path, "run", "mlp")
    write_text(folder.space, space.as_yaml())
    with locked(folder):
        pass
    disk.fill()
    with pytest.raises(StorageError, match="full"):
        create_record(sqlite_url(folder.study), space, "run")
    with pytest.raises(StorageError, match=r"No space left|full"):
        resume.resume(folder.path)
    disk.free()
    create_record(sqlite_url(folder.study), space, "run")
    with locked(folder):
        pass


@pytest.fixture
def command(
    no_ray: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Runs the real command in this process. It must end with exit code 5 before Ray starts. Returns
    its message.
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        mask = os.umask(0o022)  # the command sets its own
        try:
            code = exit_code_of(lambda: search.main([*arguments]))
        finally:
            os.umask(mask)
        complained = capsys.readouterr().err
        assert code == 5, complained
        assert "Traceback" not in complained
        assert len(complained.splitlines()) == 1
        return complained

    return run


@pytest.fixture
def space_path(space_file: Callable[[str], Path]) -> str:
    return str(
        space_file(
            "experiment: {data_class: Digits}\nspace:\n  fc1: {type: int, low: 8, high: 64}\n"
        )
    )


def test_a_runs_folder_that_is_a_file_or_below_one_ends_the_command_before_ray(
    command: Callable[..., str], space_path: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "runs", tmp_path / ("x" * 300)):
        complained = command("--space", space_path, "--runs-dir", str(folder), "--name", "x")
        assert complained.startswith(f"error: {folder / 'x'}: cannot create the folder")
        assert "--runs-dir" in complained
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "runs").symlink_to("runs")  # the usual folder, which no flag has checked
    assert "cannot create the folder" in command("--space", space_path, "--name", "x")


def test_a_read_only_runs_folder_ends_a_search_and_a_resume_before_ray(
    command: Callable[..., str], space_path: str, space: SearchSpace, disk: Disk
) -> None:
    folder = create_run(disk.path, "old", "mlp")
    write_text(folder.space, space.as_yaml())
    disk.make_read_only()
    complained = command("--space", space_path, "--runs-dir", str(disk.path))
    assert "Read-only file system. Name another" in complained
    complained = command("--space", space_path, "--runs-dir", str(disk.path / "deeper" / "runs"))
    assert "Read-only file system" in complained
    assert "Read-only file system" in command("--resume", str(folder.path))


def test_a_runs_folder_without_locks_ends_a_search_before_ray_and_leaves_nothing(
    command: Callable[..., str], space_path: str, tmp_path: Path
) -> None:
    for posix, reason in ((False, os.strerror(errno.ENOSYS)), (True, "disk I/O error")):
        complained = unlockable(errno.ENOSYS, lambda: command("--space", space_path), posix=posix)
        assert reason in complained
        assert "--runs-dir" in complained
        assert list((tmp_path / "runs").iterdir()) == []


def test_a_full_runs_folder_ends_a_search_before_ray(
    command: Callable[..., str], space_path: str, disk: Disk
) -> None:
    disk.fill(pages_left=2)
    complained = command("--space", space_path, "--runs-dir", str(disk.path))
    assert "full" in complained or "No space left" in complained


DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "one bit flipped": lambda path: path.write_bytes(
        bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]
    ),
    "another trial's": lambda path: path.write_bytes(path.with_name("epoch-1.ckpt").read_bytes()),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_trial_goes_on_from_the_newest_checkpoint_that_is_what_was_recorded(
    damage: str, tmp_path: Path
) -> None:
    history = []
    for epoch in (1, 2, 3):
        path = tmp_path / f"epoch-{epoch}.ckpt"
        path.write_bytes(b"weights of epoch %d" % epoch)
        history.append({"epoch": epoch, "checkpoint": path.name, "sha256": checksum(path)})
    assert newest_valid(tmp_path, history) == tmp_path / "epoch-3.ckpt"
    DAMAGE[damage](tmp_path / "epoch-3.ckpt")
    assert newest_valid(tmp_path, history) == tmp_path / "epoch-2.ckpt"
    DAMAGE[damage](tmp_path / "epoch-2.ckpt")
    assert newest_valid(tmp_path, history) == tmp_path / "epoch-1.ckpt"
    (tmp_path / "epoch-1.ckpt").unlink()
    assert newest_valid(tmp_path, history) is None, "from the beginning"


@pytest.mark.usefixtures("cluster")
def test_the_search_ends_when_its_study_cannot_be_written_and_goes_on_when_there_is_space(
    disk: Disk, tmp_path: Path
) -> None:
    folder = tmp_path / "formula"
    folder.mkdir()
    space, url = space_in(folder), sqlite_url(disk.path / "study.db")
    study = Study(create_record(url, space, "formula"), space, trials=4)
    study.callbacks.append(Calls(lambda trial: disk.fill() if len(trial.epochs) == 4 else None))
    with pytest.raises(StorageError, match="cannot be used"):
        run(study, folder, Slots(2, 1, 0), Interruptions())
    disk.free()
    again = Study(load_record(url, "formula"), space, trials=4)
    check(again, folder, ended=False)
    run(again, folder, Slots(2, 1, 0), Interruptions())
    check(Study(load_record(url, "formula"), space, trials=4), folder)
    assert len(again.trials) == 4


SMALL = """
experiment: {data_class: Digits}
space:
  fc1: {type: int, low: 60, high: 64}
search: {trials: 4, max_epochs: 6, scheduler: none}
"""


@pytest.mark.slow
@pytest.mark.parametrize("room", [120, 160, 200, 240, 280, 320, 380, 440, 500])  # pages
def test_a_full_disk_is_no_trials_failure_and_a_resume_completes_the_search(
    room: int, disk: Disk, tmp_path: Path
) -> None:
    """A checkpoint, the study or the report is what does not fit."""
    (tmp_path / "small.yaml").write_text(SMALL)
    disk.fill(room)
    place = ["--runs-dir", str(disk.path / "runs"), "--name", "x"]
    search = processes.run(
        [str(SEARCH), "--space", "small.yaml", "--no-dashboard", *place], tmp_path
    )
    assert search.process.returncode == 5, search.errors
    assert "No space left on device" in search.errors or "disk is full" in search.errors
    assert "--resume disk/runs/x" in search.errors
    assert "Traceback" not in search.errors
    disk.grow()
    resumed = processes.run([str(SEARCH), "--resume", str(disk.path / "runs/x")], tmp_path)
    assert resumed.process.returncode == 0, resumed.errors
    assert "4 complete" in resumed.output
    assert "failed" not in resumed.output
