"""Run folders: names, permissions, the lock, atomic files."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unlockable import unlockable
from text_recognizer.errors import InputError, RunError, StorageError
from tuning.run.files import StorageNote
from tuning.run.folder import NAME, create_run, open_run, point_latest, unpoint_latest
from tuning.run.lock import is_locked, locked
from tuning.run.reading import read_existing, read_model, write_model, write_text

HOLD = """
import sys
from pathlib import Path
from tuning.run.folder import open_run
from tuning.run.lock import locked

with locked(open_run(Path(sys.argv[1]))):
    print("held", flush=True)
    input()
"""


def test_a_run_is_its_owners_and_latest_points_to_the_newest(tmp_path: Path) -> None:
    create_run(tmp_path, "first", "mlp")
    second = create_run(tmp_path, None, "mlp")
    point_latest(tmp_path, second.name)
    assert second.name.startswith("mlp-2")
    assert stat.S_IMODE(second.path.stat().st_mode) == 0o700
    assert (tmp_path / "latest").resolve() == second.path


def test_a_run_is_opened_while_its_search_deletes_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create_run(tmp_path, "r", "mlp")
    write_text(folder.space, "space: {}")
    (folder.path / "trials" / "3").mkdir(parents=True)
    listed = os.scandir

    def deleted_meanwhile(path: Path) -> Any:
        if Path(path).name == "3":
            Path(path).rmdir()
        return listed(path)

    monkeypatch.setattr(os, "scandir", deleted_meanwhile)
    assert open_run(folder.path).path == folder.path
    assert not (folder.path / "trials" / "3").exists()


@pytest.mark.parametrize(
    "name", ["../x", "/tmp/x", "", "x" * 300, "a\nb", "a b", ".hidden", "latest", "a/b", "é"]
)
def test_a_name_that_leaves_the_folder_or_breaks_a_line_is_refused(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="--name"):
        create_run(tmp_path, name, "mlp")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stem", "plain"),
    [
        ("a b", "a-b"),
        ("a\nb", "a-b"),
        ("größe", "grosse"),
        ("...", "search"),
        ("x" * 250, "x" * 80),
    ],
)
def test_a_run_without_a_name_gets_a_plain_one_from_any_space_file(
    stem: str, plain: str, tmp_path: Path
) -> None:
    name = create_run(tmp_path, None, stem).name
    assert name.startswith(f"{plain}-2")
    assert NAME.fullmatch(name)


def test_a_taken_name_is_refused_and_its_run_untouched(tmp_path: Path) -> None:
    (create_run(tmp_path, "x", "mlp").path / "file").write_text("mine")
    with pytest.raises(InputError, match="the name 'x' is taken"):
        create_run(tmp_path, "x", "mlp")
    assert (tmp_path / "x" / "file").read_text() == "mine"


def test_a_runs_folder_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match="--runs-dir"):
        create_run(tmp_path / "runs", "x", "mlp")


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path, *(tmp_path / name for name in ("missing", "loop", "x" * 300, "a\0b"))):
        with pytest.raises(InputError, match="a run folder"):
            open_run(path)


def test_a_second_process_is_told_who_holds_the_run_and_the_lock_dies_with_its_holder(
    tmp_path: Path,
) -> None:
    folder = create_run(tmp_path, "x", "mlp")
    folder.space.touch()
    command = [sys.executable, "-c", HOLD, str(folder.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"process {holder.pid}"), locked(folder):
            pytest.fail("two hold it")
        assert is_locked(folder)
        holder.kill()
        holder.wait()
    assert not is_locked(folder)
    with locked(folder):
        assert is_locked(folder)
    assert not is_locked(folder)


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_lock_that_cannot_be_had_is_not_called_somebody_elses(error: int, tmp_path: Path) -> None:
    folder = create_run(tmp_path, "x", "mlp")

    def hold() -> None:
        with locked(folder):
            pytest.fail("nobody can hold it")

    with pytest.raises(StorageError, match=f"{os.strerror(error)}.*--runs-dir"):
        unlockable(error, hold)
    assert unlockable(error, lambda: is_locked(folder)), "it cannot be known"


def test_a_run_that_was_deleted_is_not_made_again_by_a_write(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written: No such file"):
        write_text(tmp_path / "gone" / "summary.json", "{}")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_or_missing_file_is_a_run_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_model(path, StorageNote(url="sqlite://", study="s"))
    assert read_existing(path, StorageNote) == StorageNote(url="sqlite://", study="s")
    for content in ("[1]", "{", '{"url": 1}'):
        path.write_text(content)
        with pytest.raises(RunError, match=r"a\.json: the file is damaged"):
            read_model(path, StorageNote)
    path.unlink()
    assert read_model(path, StorageNote) is None
    with pytest.raises(RunError, match=r"a\.json is missing"):
        read_existing(path, StorageNote)


def test_latest_goes_back_to_the_newest_run_that_is_left(tmp_path: Path) -> None:
    for at, name in enumerate(("old", "newer", "gone")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "search.yaml").touch()
        os.utime(tmp_path / name, (at, at))
    point_latest(tmp_path, "newer")
    unpoint_latest(tmp_path, "gone")
    assert (tmp_path / "latest").readlink() == Path("newer"), "it was not the newest"
    point_latest(tmp_path, "gone")
    shutil.rmtree(tmp_path / "gone")
    unpoint_latest(tmp_path, "gone")
    assert (tmp_path / "latest").readlink() == Path("newer")
    shutil.rmtree(tmp_path / "newer")
    shutil.rmtree(tmp_path / "old")
    unpoint_latest(tmp_path, "newer")
    assert list(tmp_path.iterdir()) == []
