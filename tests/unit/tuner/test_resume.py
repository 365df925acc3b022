"""What a resume refuses before it starts Ray: runs that are locked, changed, damaged, or none."""

from __future__ import annotations

import os
import shutil
import sqlite3
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests import shapes
from text_recognizer.data.digits import Digits
from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import CheckpointError, DataError, InputError, NoResultError, RunError
from text_recognizer.models import mlp
from text_recognizer.util import checksum
from tuning import retrain, search
from tuning.run.environment import environment
from tuning.run.files import BestTrial, Resources, Summary
from tuning.run.folder import RunFolder, create_run
from tuning.run.lock import locked
from tuning.run.options import Options
from tuning.run.reading import read_existing, write_model, write_text
from tuning.space.reader import read_space
from tuning.space.schema import Stop
from tuning.study.optuna_record import create_record, get_attr, open_study, set_attr
from tuning.study.storage import sqlite_url
from tuning.study.study import Study
from tuning.trials.trial import Epoch, Outcome
from tuning.tuner import resume
from tuning.tuner.start import study_of
from tuning.verification.fingerprint import differences, fingerprint

SPACE = "experiment: {data_class: Digits}\nspace:\n  fc1: {type: int, low: 8, high: 64}\nsearch: {trials: 2, max_epochs: 3}\n"

SUMMARY = Summary(
    name="done",
    status="complete",
    data_class="Digits",
    metric="val_acc",
    mode="max",
    seed=0,
    counts={},
    epochs_trained=0,
    wall_time_s=1.0,
    stop_reason="all trials are done",
    best=BestTrial(trial=1, epoch=1, value=0.9, params={}),
    resources=Resources(),
)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> RunFolder:
    """A run whose two trials have ended, as a search leaves it."""
    folder = create_run(tmp_path_factory.mktemp("ended") / "runs", "done", "small")
    write_text(folder.space, SPACE)
    space = read_space(folder.space)
    write_text(folder.space, space.as_yaml())
    shutil.copy(empty_database, folder.study)
    record = create_record(sqlite_url(folder.study), space, folder.name)
    set_attr(record, "fingerprint", fingerprint(space, Digits().trainval))
    set_attr(record, "options", asdict(Options()))
    set_attr(record, "space_name", "small")
    study = Study(record, space, trials=2)
    for value in (0.5, 0.9):
        trial = study.next_trial()
        assert trial is not None
        study.record_epoch(trial.number, Epoch(1, {"val_acc": value}, time=1.0))
        study.close(trial.number, Outcome.COMPLETE)
    for path in (folder.best_config, folder.best_checkpoint, folder.report, folder.trials_csv):
        write_text(path, "made\n")
    write_text(folder.validation, shapes.validation(1).model_dump_json())
    write_model(folder.summary, SUMMARY)
    write_model(folder.environment, environment())
    return folder


@pytest.fixture
def run(ended: RunFolder, tmp_path: Path) -> RunFolder:
    """The test's own copy of that run."""
    return RunFolder(Path(shutil.copytree(ended.path, tmp_path / "runs/done")))


def test_a_finished_run_says_again_what_it_found(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resume.resume(run.path) == 0
    said = capsys.readouterr().out
    assert "all trials are done. More with --trials N" in said
    assert "best: trial 1, val_acc 0.9000" in said


@pytest.mark.parametrize("best", [None, SUMMARY.best.model_copy(update={"trial": 7})])
def test_a_summary_whose_best_trial_is_not_in_the_study_is_refused(
    best: BestTrial | None, run: RunFolder
) -> None:
    write_model(run.summary, SUMMARY.model_copy(update={"best": best}))
    with pytest.raises(RunError, match="the run is damaged"):
        resume.resume(run.path)


def test_fewer_trials_are_remembered_also_if_that_many_have_ended(run: RunFolder) -> None:
    set_attr(open_study(run), "trials", 3)
    assert resume.resume(run.path, trials=2) == 0
    assert get_attr(open_study(run), "trials") == 2


def test_a_refused_resume_changes_nothing(run: RunFolder) -> None:
    with pytest.raises(InputError, match="--cpus-per-trial"):
        resume.resume(run.path, trials=5, cpus_per_trial=10**6)
    assert get_attr(open_study(run), "trials", "unchanged") == "unchanged"


def test_a_run_without_its_environment_is_refused_before_it_trains(run: RunFolder) -> None:
    run.environment.unlink()
    with pytest.raises(RunError, match=r"environment\.json"):
        resume.resume(run.path)


def test_a_run_in_other_hands_is_refused(run: RunFolder) -> None:
    with locked(run), pytest.raises(RunError, match=f"process {os.getpid()}"):
        resume.resume(run.path)


def test_a_changed_space_is_refused_key_by_key(run: RunFolder) -> None:
    run.space.write_text(
        run.space.read_text()
        .replace("high: 64", "high: 32")
        .replace("max_epochs: 3", "max_epochs: 4")
    )
    with pytest.raises(RunError) as error:
        resume.resume(run.path)
    assert "space.fc1.high: was 64, is 32" in str(error.value)
    assert "search.max_epochs: was 3, is 4" in str(error.value)


@pytest.mark.parametrize("part", ["images", "labels"])
def test_changed_code_and_data_are_refused(
    part: str, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was made of one other pixel or label, and before a line was added to the model."""
    data = Digits().trainval
    older = {"images": data.images.clone(), "labels": data.labels.clone()}
    older[part][7] ^= 1
    recorded = fingerprint(read_space(run.space), BaseDataset(**older))
    set_attr(open_study(run), "fingerprint", recorded)
    changed = tmp_path / "mlp.py"
    changed.write_text(Path(mlp.__file__).read_text() + "# one more line\n")
    monkeypatch.setattr(mlp, "__file__", str(changed))
    with pytest.raises(RunError) as error:
        resume.resume(run.path)
    lines = str(error.value).splitlines()[1:]
    assert [line.split(":")[0] for line in lines] == [
        "code.text_recognizer.models.mlp",
        "data.Digits",
    ]
    sums = recorded["code"]["text_recognizer.models.mlp"], checksum(changed)
    assert "was {:.12}…, is {:.12}…".format(*sums) in lines[0]


def test_the_code_that_makes_the_numbers_is_in_the_fingerprint(run: RunFolder) -> None:
    code = fingerprint(read_space(run.space), Digits().trainval)["code"]
    names = (
        "models.mlp",
        "models.dropout",
        "lit_models.base",
        "data.digits",
        "data.base_data_module",
        "data.util",
        "whole_epochs",
    )
    assert {f"text_recognizer.{name}" for name in names} | {"training.experiment"} == set(code)


def change(run: RunFolder, statement: str) -> None:
    """What somebody does to a study with a SQLite client."""
    with sqlite3.connect(run.study) as connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        *(
            "no study",
            "empty study",
            "text for a study",
            "another study",
            "no search.yaml",
            "bad search.yaml",
        ),
        *(
            "another direction",
            "an epoch without its attribute",
            "an outcome that is none",
            "another value",
        ),
    ],
)
def test_a_damaged_run_is_refused(damage: str, run: RunFolder) -> None:
    match damage:
        case "no study":
            run.study.unlink()
        case "empty study":
            run.study.write_bytes(b"")
        case "text for a study":
            run.study.write_text("not a database, but long enough to be looked at as one\n" * 100)
        case "another study":
            run.study.unlink()
            create_record(sqlite_url(run.study), read_space(run.space), "other")
        case "no search.yaml":
            run.space.unlink()
        case "bad search.yaml":
            run.space.write_text("space: [")
        case "another direction":
            change(run, "UPDATE study_directions SET direction = 'MINIMIZE'")
        case "an epoch without its attribute":
            change(run, "DELETE FROM trial_user_attributes WHERE key = 'epoch:1' AND trial_id = 2")
        case "an outcome that is none":
            change(
                run, "UPDATE trial_user_attributes SET value_json = '\"won\"' WHERE key = 'outcome'"
            )
        case "another value":
            change(
                run,
                "UPDATE trial_intermediate_values SET intermediate_value = 0.99 WHERE trial_id = 1",
            )
    with pytest.raises(InputError if damage == "no search.yaml" else RunError):
        resume.resume(run.path)


def test_what_is_no_run_and_flags_that_are_settled_are_refused(
    run: RunFolder, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="a run folder"):
        search.main(["--resume", str(tmp_path / "missing")])
    with pytest.raises(InputError) as error:
        search.main(["--resume", str(run.path), "--seed", "0", "--max-epochs=5", "--trials", "4"])
    assert [str(problem).split(":")[0] for problem in error.value.problems] == [
        "--max-epochs",
        "--seed",
    ]
    with pytest.raises(InputError, match="trials >= 2"):
        resume.resume(run.path, trials=1)


def test_differences_name_the_key_and_both_values() -> None:
    assert list(differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4})) == [
        "a.b: was 1, is 3",
        "a.c: was 2, is missing",
        "d: was missing, is 4",
    ]


@pytest.mark.parametrize(
    "trouble", ["interrupted before the export", "no best.ckpt", "no summary", "half a summary"]
)
def test_what_was_not_written_down_is_written_at_the_next_resume(
    trouble: str, run: RunFolder
) -> None:
    match trouble:
        case "interrupted before the export":
            run.summary.write_text('{"status": "interrupted"}')
        case "no best.ckpt":
            run.best_checkpoint.unlink()
        case "no summary":
            run.summary.unlink()
        case "half a summary":
            run.summary.write_text('{"status": "comp')
    # it tries to: these trials have no checkpoint
    with pytest.raises(CheckpointError, match="sha256"):
        resume.resume(run.path)
    assert read_existing(run.summary, Summary).status == "failed"


def test_more_trials_for_a_search_that_a_limit_ended_are_refused(run: RunFolder) -> None:
    set_attr(open_study(run), "seconds", 60.0)
    with pytest.raises(InputError, match=r"the time budget of 1m.*--time-budget"):
        resume.resume(run.path, trials=9, time_budget="1m")


def test_the_epochs_of_a_resume_are_those_given_or_grow_with_its_trials(run: RunFolder) -> None:
    space, record = read_space(run.space), open_study(run)
    limited = replace(space, search=space.search.model_copy(update={"stop": Stop(epochs=10)}))
    for trials, epochs, limit in (
        (None, None, 10),
        (5, None, 25),  # of 2 trials with 10 epochs
        (1, None, 10),
        (5, 12, 12),
        (None, 30, 30),
    ):
        study = study_of(record, limited, Options(), trials, epochs)
        assert (study.stop.epochs, study.wanted) == (limit, trials or 2)
    assert study_of(record, space, Options(), 5).stop.epochs is None
    assert study_of(record, space, Options(), None, 7).stop.epochs == 7
    # a resume after an extension has the limits of that
    resume.record_changes(study_of(record, limited, Options(), 4), Options(), carry_over=False)
    study = study_of(record, limited, Options())
    assert (study.stop.epochs, study.wanted) == (20, 4)


def test_epochs_that_are_trained_already_are_refused(run: RunFolder) -> None:
    with pytest.raises(InputError, match=r"--epochs: `more than 2, .* must hold, but got 2"):
        resume.resume(run.path, epochs=2)
    study = Study(open_study(run), read_space(run.space), trials=9, stop=Stop(epochs=2))
    with pytest.raises(InputError, match=r"--trials.*budget of 2 epochs.*--epochs N"):
        resume.check_limits(study, None, 9, None)


def test_a_time_budget_that_is_used_up_already_ends_no_waiting_trial(run: RunFolder) -> None:
    study = Study(open_study(run), read_space(run.space), trials=3)
    study._seconds_before = 31
    with pytest.raises(InputError, match=r"`more than 31s, .* must hold, but got 20s"):
        resume.check_limits(study, None, None, "20s")
    resume.check_limits(study, None, None, "40s")


def test_a_resume_with_nothing_to_do_changes_no_option(run: RunFolder) -> None:
    assert resume.resume(run.path, time_budget="1s", max_concurrent=1) == 0
    assert get_attr(open_study(run), "options") == asdict(Options())


def test_a_run_that_was_renamed_is_the_same_run(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resume.resume(run.path.rename(run.path.with_name("renamed"))) == 0
    assert "renamed has ended: all trials are done. More with --trials N" in capsys.readouterr().out


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_the_final_script_refuses_a_search_that_has_not_ended(status: str, run: RunFolder) -> None:
    write_model(run.summary, SUMMARY.model_copy(update={"status": status, "stop_reason": None}))
    with pytest.raises(NoResultError, match=f"it is {status}.*--resume"):
        retrain.check_finished(run)


def test_data_that_was_moved_is_named_on_a_resume_and_compared(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = read_space(run.space)
    old = replace(space, experiment=space.experiment | {"data_dir": "/old"})
    write_text(run.space, old.as_yaml())
    recorded = get_attr(open_study(run), "fingerprint")
    set_attr(open_study(run), "fingerprint", recorded | {"space": old.as_plain()})
    assert search.main(["--resume", str(run.path), "--data-dir", str(tmp_path)]) == 0
    assert read_space(run.space).experiment["data_dir"] == str(tmp_path)
    assert search.main(["--resume", str(run.path)]) == 0, "it is remembered"
    data = Digits().trainval
    other = BaseDataset(data.images, data.labels.flip(0))
    set_attr(open_study(run), "fingerprint", fingerprint(space, other))
    with pytest.raises(RunError, match=r"data\.Digits"):
        search.main(["--resume", str(run.path), "--data-dir", str(tmp_path)])


def test_data_that_is_not_there_any_more_can_be_named(run: RunFolder, tmp_path: Path) -> None:
    space = read_space(run.space)
    gone = {"data_class": "MNIST", "data_dir": str(tmp_path)}
    space = replace(space, experiment=gone)
    write_text(run.space, space.as_yaml())
    recorded = get_attr(open_study(run), "fingerprint")
    set_attr(open_study(run), "fingerprint", recorded | {"space": space.as_plain()})
    with pytest.raises(DataError, match=r"If it was moved, say where it is: --data-dir DIR\."):
        resume.resume(run.path)


def test_a_folder_of_checkpoints_is_refused_for_a_run_that_has_none(
    run: RunFolder, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"--checkpoint-dir: .* are in its folder"):
        search.main(["--resume", str(run.path), "--checkpoint-dir", str(tmp_path)])
