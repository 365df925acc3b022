"""Run folders: names, permissions, locks, atomic files; exporting and keeping checkpoints."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from text_recognizer.errors import CheckpointError, InputError, RunError, StorageError
from text_recognizer.util import checksum
from tuning.callbacks.retention import Retention
from tuning.run.folder import NAME, create_run, open_run, point_latest
from tuning.run.lock import is_locked, locked
from tuning.run.reading import read_json, write_json
from tuning.space.search_space import SearchSpace
from tuning.study.optuna_record import create_record
from tuning.study.study import Study
from tuning.trials.trial import Best, Epoch, Outcome, Trial
from tuning.verification.evaluation import export_best

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
    [("a b", "a-b"), ("a\nb", "a-b"), ("größe", "gr-e"), ("...", "search"), ("x" * 250, "x" * 80)],
)
def test_a_run_without_a_name_gets_a_plain_one_from_any_space_file(
    stem: str, plain: str, tmp_path: Path
) -> None:
    name = create_run(tmp_path, None, stem).name
    assert name.startswith(f"{plain}-2")
    assert NAME.fullmatch(name)


def test_a_taken_name_is_refused_and_its_run_untouched(tmp_path: Path) -> None:
    (create_run(tmp_path, "x", "mlp").path / "file").write_text("mine")
    with pytest.raises(InputError, match="not taken"):
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


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    path.write_text("[1]")
    with pytest.raises(RunError, match="a JSON object"):
        read_json(path)
    path.write_text("{")
    with pytest.raises(RunError, match=r"a\.json"):
        read_json(path)


def test_only_the_best_trials_keep_the_checkpoint_of_their_best_epoch(
    space: SearchSpace, database: Path, tmp_path: Path
) -> None:
    study = Study(create_record(f"sqlite:///{database}", space, "s"), space, trials=4)
    study.listeners.append(Retention(study, tmp_path / "trials", keep=2).on_change)
    for values in ((0.1, 0.5, 0.2), (0.6, 0.3), (0.2,), (0.9, 0.8)):
        trial = study.next_trial()
        assert trial is not None
        for number, value in enumerate(values, 1):
            path = tmp_path / "trials" / str(trial.number) / f"epoch-{number}.ckpt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"weights")
            study.record_epoch(
                trial.number,
                Epoch(
                    number,
                    {"val_acc": value},
                    f"{trial.number}/epoch-{number}.ckpt",
                    "0",
                    float(number),
                ),
            )
        study.close(trial.number, Outcome.COMPLETE)
    left = sorted(str(path.relative_to(tmp_path / "trials")) for path in tmp_path.rglob("*.ckpt"))
    assert left == ["1/epoch-1.ckpt", "3/epoch-1.ckpt"]


@pytest.mark.parametrize("damage", ["deleted", "truncated", "one bit"])
def test_a_checkpoint_that_is_not_what_was_recorded_is_not_exported(
    damage: str, tmp_path: Path
) -> None:
    path = tmp_path / "epoch-1.ckpt"
    path.write_bytes(b"weights" * 100)
    epoch = Epoch(1, {"val_acc": 0.5}, path.name, checksum(path))
    flipped = bytearray(path.read_bytes())
    flipped[50] ^= 1
    match damage:
        case "deleted":
            path.unlink()
        case "truncated":
            path.write_bytes(b"weights")
        case "one bit":
            path.write_bytes(flipped)
    with pytest.raises(CheckpointError, match="sha256"):
        export_best(
            tmp_path,
            Best(Trial(0, {}, (epoch,), Outcome.COMPLETE), epoch, 0.5),
            tmp_path / "best.ckpt",
        )
    assert not (tmp_path / "best.ckpt").exists()


def test_a_run_whose_checkpoint_folder_is_taken_leaves_nothing_behind(tmp_path: Path) -> None:
    from tuning.tuner.place import begin_shared
    from tuning.tuner.start import remove_on_error

    (tmp_path / "shared/taken").mkdir(parents=True)
    folder = create_run(tmp_path / "runs", "taken", "mlp")
    with (
        pytest.raises(InputError, match="a folder that has none of the run's name"),
        remove_on_error(folder.path),
    ):
        begin_shared(folder, tmp_path / "shared")
    assert list((tmp_path / "runs").iterdir()) == []
    assert (tmp_path / "shared/taken").is_dir(), "another run's"
