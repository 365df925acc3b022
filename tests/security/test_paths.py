"""Nothing in a run leads out of its folder: recorded paths, numbers that name folders, links, pipes.

Bad values of `--name` are in `tests/faults/test_bad_input.py`.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.security.commands import Commands
from tests.security.conftest import Watched
from tests.security.planting import copy_of
from text_recognizer.errors import RunError
from tuning.run.folder import RunFolder
from tuning.run.reading import check_plain, read_whole
from tuning.run.shared_folder import MARK
from tuning.trials.trial import Epoch, Trial, stays_within

SET_MARK = "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (1, 'mark', ?)"
OUT = (
    "../victim/file",
    "/etc/passwd",
    "0/../../victim",
    "..",
    ".",
    "",
    "a\0b",
    "a\nb",
    7,
    ["0/epoch-1.ckpt"],
    {"a": 1},
    False,
)


@pytest.fixture
def folder(watched: Watched, tmp_path: Path) -> RunFolder:
    return copy_of(watched.folder, tmp_path)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A user's own folder outside of the run. Its files and folders have the names of a run's."""
    folder = tmp_path / "victim"
    for name in ("0", "4", "trials/4", "tune-0"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text("precious")
    for name in ("file", "events.out.tfevents.1", "epoch-1.ckpt"):
        (folder / name).write_text("precious")
    (folder / "empty").touch()
    (folder / MARK).write_text("mark")
    return folder


@pytest.fixture(autouse=True)
def the_victim_is_untouched(victim: Path) -> object:
    """Check after every test that nothing in the victim's folder has changed."""

    def seen() -> dict[str, str | None]:
        return {
            str(path): path.read_text() if path.is_file() else None
            for path in sorted(victim.rglob("*"))
        }

    before = seen()
    yield
    assert seen() == before


def change(folder: RunFolder, command: str, *values: object) -> None:
    with closing(sqlite3.connect(folder.study)) as database, database:
        assert database.execute(command, values).rowcount > 0


@pytest.mark.parametrize("path", OUT)
def test_a_recorded_checkpoint_is_within_its_folder(path: object) -> None:
    assert not stays_within(path)
    with pytest.raises(ValueError, match="checkpoint in epoch 1"):
        Epoch(1, {"val_acc": 0.5}, path, "0" * 64)  # type: ignore[arg-type]
    assert stays_within("0/epoch-1.ckpt")


@pytest.mark.parametrize("number", ["../victim", -1, 0.5, None])
def test_a_trial_has_a_number(number: object) -> None:
    with pytest.raises(ValueError, match="number"):
        Trial(number, {})  # type: ignore[arg-type]


@pytest.mark.parametrize("checkpoint", ["../../../victim/epoch-1.ckpt", "{victim}/epoch-1.ckpt"])
def test_a_path_in_a_strangers_study_is_refused(
    checkpoint: str, folder: RunFolder, victim: Path, commands: Callable[[RunFolder], Commands]
) -> None:
    epoch = {
        "metrics": {"val_acc": 1.0},
        "checkpoint": checkpoint.format(victim=victim),
        "sha256": "0" * 64,
        "time": 1.0,
    }
    text = json.dumps(epoch | {"gpu_seconds": 0.0})
    change(folder, "UPDATE trial_user_attributes SET value_json = ? WHERE key LIKE 'epoch:%'", text)
    change(folder, "UPDATE trial_intermediate_values SET intermediate_value = 1.0")
    ran = commands(folder)
    ran.run("report", "resume", "retrain", "extend")
    assert set(ran.codes.values()) == {4}


def test_a_number_that_is_a_path_is_refused(
    folder: RunFolder, victim: Path, commands: Callable[[RunFolder], Commands]
) -> None:
    """SQLite stores any text as a number, and a trial's folder is deleted by its number."""
    change(
        folder,
        "UPDATE trials SET number = ? WHERE number = 4",
        str(Path(os.path.relpath(victim, folder.checkpoints)) / "4"),
    )
    ran = commands(folder)
    ran.run("report", "resume", "retrain", "extend")
    assert set(ran.codes.values()) == {4}


PLANTED = {
    ".lock": "file",
    "summary.json": "file",
    ".summary.json.1-2": "file",
    "study.db": "file",
    "trials": "",
    "trials/4": "",
    "tensorboard/4": "",
    "logs": "",
    "final": "",
    ".ray": "",
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_link_in_a_run_is_refused(
    name: str, folder: RunFolder, victim: Path, commands: Callable[[RunFolder], Commands]
) -> None:
    """Through a link a command would read, overwrite or delete files elsewhere."""
    path = folder.path / name
    if os.path.lexists(path):
        path.rename(folder.path.parent / "away")
    path.symlink_to(victim / PLANTED[name])
    ran = commands(folder)
    ran.run("report", "report --json", "runs RUN RUN", "resume", "retrain", "extend", "warm start")
    assert set(ran.codes.values()) <= {2, 4}


@pytest.fixture
def at_once() -> Iterator[None]:
    """Fails a test that takes 20 seconds."""

    def give_up(*_: object) -> None:
        pytest.fail("it waits")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("at_once")
def test_a_pipe_is_not_waited_for(
    folder: RunFolder, commands: Callable[[RunFolder], Commands]
) -> None:
    for path in (folder.summary, folder.best_config, folder.path / "pipe"):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        with pytest.raises(OSError, match="no regular file"):
            read_whole(path)
    with pytest.raises(RunError, match="nothing but files and folders"):
        check_plain(folder.path)
    ran = commands(folder)
    ran.run("report", "resume", "retrain", "runs RUN RUN")
    assert set(ran.codes.values()) == {4}
    (folder.path / ".lock").unlink()
    os.mkfifo(folder.path / ".lock")
    ran.run("runs")
    assert ran.codes["runs"] == 0, "it is listed, as damaged"


def test_what_is_beside_a_run_is_its_own_business(folder: RunFolder) -> None:
    """`runs/latest` is a link. Any folder above it may be one, too."""
    link = folder.path.parent / "latest"
    link.symlink_to(folder.name)
    check_plain(link.resolve())
    folder.ray.mkdir()
    # Tune's, never read, and deleted without following
    (folder.ray / "session").symlink_to("elsewhere")
    check_plain(folder.path)


def test_a_file_that_is_read_whole_is_no_larger_than_can_be(folder: RunFolder) -> None:
    with folder.summary.open("wb") as file:
        file.truncate(100_000_000_000)  # takes no room
    with pytest.raises(OSError, match="more than"):
        read_whole(folder.summary)


def with_options(folder: RunFolder, **options: object) -> None:
    """Change the options that are recorded in the study."""
    with closing(sqlite3.connect(folder.study)) as database:
        (text,) = database.execute(
            "SELECT value_json FROM study_user_attributes WHERE key = 'options'"
        ).fetchone()
    change(
        folder,
        "UPDATE study_user_attributes SET value_json = ? WHERE key = 'options'",
        json.dumps(json.loads(text) | options),
    )


def found_by_its_name(victim: Path) -> tuple[str, str]:
    """A folder beside the victim, and a study's name that leads from there to the victim."""
    (victim.parent / "somewhere").mkdir()
    return str(victim.parent / "somewhere"), f"../{victim.name}"


def linked(victim: Path) -> tuple[str, str]:
    """A folder with the study's name that is a link to the victim."""
    (victim.parent / "shared").mkdir()
    (victim.parent / "shared/run").symlink_to(victim)
    return str(victim.parent / "shared"), "run"


def holding_a_link(victim: Path) -> tuple[str, str]:
    """A stranger's folder for checkpoints. The folder of a trial in it is a link to the victim."""
    trials = victim.parent / "shared/run/trials"
    trials.mkdir(parents=True)
    (trials / "0").symlink_to(victim)
    (trials.parent / MARK).write_text("mark")
    return str(victim.parent / "shared"), "run"


def holding_a_pipe(victim: Path) -> tuple[str, str]:
    """A folder whose mark is a pipe: a reader would wait for it."""
    folder = victim.parent / "shared/run"
    folder.mkdir(parents=True)
    os.mkfifo(folder / MARK)
    return str(victim.parent / "shared"), "run"


def relative(victim: Path) -> tuple[str, str]:
    """A relative folder that comes with the run."""
    return ".", victim.name


@pytest.mark.parametrize(
    "lead", [found_by_its_name, linked, holding_a_link, holding_a_pipe, relative]
)
def test_a_strangers_folder_for_checkpoints_leads_nowhere(
    lead: Callable[[Path], tuple[str, str]],
    folder: RunFolder,
    victim: Path,
    commands: Callable[[RunFolder], Commands],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The study records `--checkpoint-dir` and the mark of that folder. A stranger wrote both."""
    monkeypatch.chdir(victim.parent)
    where, name = lead(victim)
    with_options(folder, checkpoint_dir=where)
    change(folder, "UPDATE studies SET study_name = ?", name)
    change(folder, SET_MARK, json.dumps("mark"))
    ran = commands(folder)
    ran.run("resume", "extend")
    assert set(ran.codes.values()) == {4}


@pytest.mark.parametrize(("mark", "code"), [("mark", 6), ("another", 4), ("", 4), (None, 4)])
def test_a_folder_for_checkpoints_is_known_by_its_mark(
    mark: str | None,
    code: int,
    folder: RunFolder,
    tmp_path: Path,
    commands: Callable[[RunFolder], Commands],
) -> None:
    shared = tmp_path / "shared/run"
    shared.mkdir(parents=True)
    if mark is not None:
        (shared / MARK).write_text(mark)
    with_options(folder, checkpoint_dir=str(shared.parent))
    change(folder, "UPDATE studies SET study_name = 'run'")
    change(folder, SET_MARK, json.dumps("mark"))
    ran = commands(folder)
    ran.run("extend")
    assert ran.codes == {"extend": code}, "6 is where Ray of our own would start"


def test_a_run_does_not_say_which_cluster_is_joined(
    folder: RunFolder, commands: Callable[[RunFolder], Commands], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner of a cluster can run code in a process that joins it."""
    monkeypatch.setattr(
        "tuning.ray_backend.remote_cluster.joined_cluster",
        lambda *_, **__: pytest.fail("it was joined"),
    )
    with_options(folder, address="127.0.0.1:6379")
    ran = commands(folder)
    ran.run("extend")
    assert ran.codes == {"extend": 6}, "where Ray of our own would start"
