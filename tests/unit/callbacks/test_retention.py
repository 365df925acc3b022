"""Which checkpoints are on disk while a search runs and after a resume."""

from __future__ import annotations

from pathlib import Path

from tuning.callbacks.retention import Retention
from tuning.space.search_space import SearchSpace
from tuning.study.optuna_record import create_record, load_record
from tuning.study.study import Study
from tuning.trials.trial import Epoch, Outcome


def train(study: Study, folder: Path, *values: float) -> None:
    """The next trial, with a checkpoint for each epoch."""
    trial = study.next_trial()
    assert trial is not None
    for number, value in enumerate(values, 1):
        name = f"{trial.number}/epoch-{number}.ckpt"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"weights")
        study.record_epoch(trial.number, Epoch(number, {"val_acc": value}, name, "0", number))
    study.close(trial.number, Outcome.COMPLETE)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.ckpt"))


def test_only_the_best_trials_keep_the_checkpoint_of_their_best_epoch(
    space: SearchSpace, database: Path, tmp_path: Path
) -> None:
    folder, url = tmp_path / "trials", f"sqlite:///{database}"
    study = Study(create_record(url, space, "s"), space, trials=4)
    study.callbacks.append(Retention(study, folder, keep=2))
    train(study, folder, 0.1, 0.5, 0.2)
    train(study, folder, 0.6, 0.3)
    assert files(folder) == ["0/epoch-2.ckpt", "1/epoch-1.ckpt"]
    train(study, folder, 0.2)
    assert files(folder) == ["0/epoch-2.ckpt", "1/epoch-1.ckpt"]
    train(study, folder, 0.9, 0.8)
    assert files(folder) == ["1/epoch-1.ckpt", "3/epoch-1.ckpt"]


def test_a_resume_deletes_what_a_killed_process_left(
    space: SearchSpace, database: Path, tmp_path: Path
) -> None:
    folder, url = tmp_path / "trials", f"sqlite:///{database}"
    study = Study(create_record(url, space, "s"), space, trials=3)
    for value in (0.5, 0.6, 0.4):
        train(study, folder, value, value / 2)  # and nothing is deleted
    Retention(Study(load_record(url, "s"), space, trials=3), folder, keep=1)
    assert files(folder) == ["1/epoch-1.ckpt"]


def test_a_running_trial_keeps_its_folder_and_checkpoints(
    space: SearchSpace, database: Path, tmp_path: Path
) -> None:
    """The folder of a trial that has only begun is empty. Its first checkpoint goes there."""
    folder, url = tmp_path / "trials", f"sqlite:///{database}"
    study = Study(create_record(url, space, "s"), space, trials=3)
    study.callbacks.append(Retention(study, folder, keep=1))
    begun, midway = study.next_trial(), study.next_trial()
    assert begun is not None
    assert midway is not None
    (folder / str(begun.number)).mkdir(parents=True)
    (folder / str(midway.number)).mkdir()
    (folder / str(midway.number) / "epoch-1.ckpt").write_bytes(b"weights")
    train(study, folder, 0.9)
    assert (folder / str(begun.number)).is_dir()
    assert files(folder) == ["1/epoch-1.ckpt", "2/epoch-1.ckpt"]


def test_of_a_trial_that_is_not_kept_nothing_stays(
    space: SearchSpace, database: Path, tmp_path: Path
) -> None:
    folder, url = tmp_path / "trials", f"sqlite:///{database}"
    study = Study(create_record(url, space, "s"), space, trials=2)
    study.callbacks.append(Retention(study, folder, keep=1))
    train(study, folder, 0.1)
    train(study, folder, 0.2)
    assert [path.name for path in folder.iterdir()] == ["1"]
