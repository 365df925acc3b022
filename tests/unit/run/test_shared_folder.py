"""The folder that a cluster's workers write to is created with the run, or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from text_recognizer.errors import InputError, StorageError
from tuning.run.folder import RunFolder, create_run
from tuning.run.shared_folder import create_shared, read_mark
from tuning.tuner.start import remove_on_error


def begin(tmp_path: Path, shared: Path) -> RunFolder:
    folder = create_run(tmp_path / "runs", "run", "mlp")
    with remove_on_error(folder.path):
        return create_shared(folder, shared)


def test_it_is_its_owners_and_has_a_mark(tmp_path: Path) -> None:
    folder = begin(tmp_path, tmp_path / "shared")
    assert folder.shared == tmp_path / "shared/run"
    assert stat.S_IMODE(folder.for_workers.stat().st_mode) == 0o700
    assert len(read_mark(folder.for_workers)) == 32
    assert folder.checkpoints == tmp_path / "shared/run/trials"


def test_one_that_cannot_be_made_leaves_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for shared in (tmp_path / "file", tmp_path / "file/below", Path("/proc/x")):
        with pytest.raises(StorageError, match="cannot create the folder"):
            begin(tmp_path, shared)
        assert list((tmp_path / "runs").iterdir()) == []


def test_one_that_is_taken_leaves_no_run_and_is_untouched(tmp_path: Path) -> None:
    (tmp_path / "shared/run").mkdir(parents=True)
    with pytest.raises(InputError, match="Choose another --name"):
        begin(tmp_path, tmp_path / "shared")
    assert list((tmp_path / "runs").iterdir()) == []
    assert list((tmp_path / "shared/run").iterdir()) == []
