"""A run folder from a stranger: no command unpickles or runs anything in it.

A command that would start Ray is stopped there: it has then read everything that it reads. The last
test, a slow one, lets it continue.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml

from tests.processes import ROOT, run
from tests.security.commands import Commands
from tests.security.conftest import Watched
from tests.security.planting import Stranger, copy_of
from text_recognizer.errors import InputError
from training.experiment import build_data, train
from training.settings import checked
from tuning.run.folder import RunFolder

CONTRACT = {0, 2, 3, 4, 5, 6, 7}
READ_BY_ONE = {"best.ckpt": ["predict"], "best_config.yaml": ["run_experiment"]}


@pytest.fixture
def folder(watched: Watched, tmp_path: Path) -> RunFolder:
    return copy_of(watched.folder, tmp_path)


@pytest.fixture
def stranger(folder: RunFolder, tmp_path: Path) -> Stranger:
    return Stranger(folder, tmp_path / "marker")


@pytest.fixture(autouse=True)
def nothing_was_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> object:
    """Check after every test that no payload was run and no command printed a traceback."""
    yield
    assert not (tmp_path / "marker").exists()
    assert "Traceback" not in capsys.readouterr().err


def test_the_payloads_would_work(stranger: Stranger) -> None:
    """Each payload touches its file if it is read without care."""
    marker = stranger.marker
    stranger.in_checkpoints()
    checkpoint = next(stranger.folder.checkpoints.rglob("*.ckpt"))
    for read in (
        lambda: pickle.loads(stranger.pickled),
        lambda: torch.load(checkpoint, weights_only=False),
        lambda: yaml.unsafe_load(stranger.tagged),
    ):
        read()
        marker.unlink()
    assert ("trial_user_attributes", "value_json") in stranger.texts()


def test_a_sound_copy_is_read_by_every_command(
    commands: Callable[[RunFolder], Commands], folder: RunFolder
) -> None:
    ran = commands(folder)
    ran.run()
    assert ran.codes == dict.fromkeys(ran.all, 0) | dict.fromkeys(("extend", "retrain"), 6)


def test_every_file_in_turn_is_a_pickle(
    commands: Callable[[RunFolder], Commands], stranger: Stranger
) -> None:
    wrong = {}
    for path in stranger.pickles():
        ran = commands(stranger.folder)
        ran.run("report --json", "retrain", *READ_BY_ONE.get(path.name, ()), "extend")
        wrong |= {
            (path.name, name): code for name, code in ran.codes.items() if code not in CONTRACT
        }
    assert wrong == {}


def test_all_files_are_pickles(
    commands: Callable[[RunFolder], Commands], stranger: Stranger
) -> None:
    for path in stranger.files():
        path.write_bytes(stranger.pickled)
    ran = commands(stranger.folder)
    ran.run()
    assert set(ran.codes.values()) <= {0, 2, 4}
    assert ran.codes["runs"] == 0, "it is listed, as damaged"


@pytest.mark.parametrize("name", ["best_config.yaml", "search.yaml"])
def test_yaml_with_a_tag_for_python(
    name: str, commands: Callable[[RunFolder], Commands], stranger: Stranger
) -> None:
    stranger.in_yaml(stranger.folder.path / name)
    ran = commands(stranger.folder)
    ran.run()
    assert set(ran.codes.values()) <= CONTRACT
    refused = {
        "best_config.yaml": ("retrain", "run_experiment"),
        "search.yaml": ("report", "resume", "warm start", "retrain"),
    }
    assert {ran.codes[command] for command in refused[name]} <= {2, 4}


CLASSES = {
    "a path": "strange_module.Chosen",
    "a path in a mapping": {"class_path": "strange_module.Chosen", "init_args": {}},
    "a list of them": ["strange_module.Chosen", {"class_path": "strange_module.Chosen"}],
    "one of Lightning's": {
        "class_path": "pytorch_lightning.profilers.AdvancedProfiler",
        "init_args": {"dirpath": "/"},
    },
}


@pytest.mark.parametrize("kind", CLASSES)
def test_a_config_imports_nothing(
    kind: str,
    commands: Callable[[RunFolder], Commands],
    stranger: Stranger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lightning's Trainer takes objects. Its parser would create them from any importable class."""
    (tmp_path / "strange_module.py").write_text(
        f"open({str(stranger.marker)!r}, 'w')\nclass Chosen: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    folder = stranger.folder
    sound = folder.best_config.read_text()
    ran = commands(folder)
    for name in ("profiler", "strategy", "plugins", "accelerator"):
        folder.best_config.write_text(sound + yaml.safe_dump({name: CLASSES[kind]}))
        stranger.agree()
        ran.run("run_experiment")
        assert ran.codes == {"run_experiment": 2}
        # a search space comes this way; a single word is for the Trainer to refuse
        with suppress(InputError):
            checked({"data_class": "Digits", name: CLASSES[kind]})
        assert not stranger.marker.exists(), name


def test_checkpoints_with_another_pickle_whose_sums_are_right(
    commands: Callable[[RunFolder], Commands], stranger: Stranger, tmp_path: Path
) -> None:
    stranger.in_checkpoints()
    folder = stranger.folder
    planted = list(folder.checkpoints.rglob("*.ckpt"))
    assert planted
    ran = commands(folder)
    ran.run("predict", "report", "runs", "retrain")
    assert (ran.codes["predict"], ran.codes["retrain"]) == (4, 6), (
        "the final script loads no checkpoint of the search"
    )
    folder.best_checkpoint.unlink()  # so that a resume exports the best trial again
    ran.run("resume")
    assert ran.codes["resume"] == 4
    settings = checked({"data_class": "Digits", "max_epochs": 3, "fc1": 16, "gpus": 0})
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    for path in planted:  # as a trial would that goes on in a worker
        with pytest.raises(Exception, match=r"weights_only|Weights only"):
            train(settings, build_data(settings), continue_from=path, **quiet)


def test_every_text_of_the_study(
    commands: Callable[[RunFolder], Commands], stranger: Stranger
) -> None:
    """Each column in turn becomes a pickle. Columns of JSON also become JSON with a pickle inside."""
    folder = stranger.folder
    whole, summary = folder.study.read_bytes(), folder.summary.read_bytes()
    wrong = {}
    as_json = json.dumps({"py/reduce": stranger.in_base64, stranger.command: stranger.command})
    for table, column in stranger.texts():
        attempts = {stranger.pickled: ["report --json"]}
        if "json" in column or column == "direction":
            attempts |= {as_json: ["warm start", "retrain", "extend"]}
        for value, names in attempts.items():
            folder.study.write_bytes(whole)
            folder.summary.write_bytes(summary)
            stranger.in_study(table, column, value)
            ran = commands(folder)
            ran.run(*names)
            wrong |= {
                (table, column, type(value), name): code
                for name, code in ran.codes.items()
                if code not in CONTRACT
            }
    assert wrong == {}


def test_what_tune_and_others_left_is_not_read(
    commands: Callable[[RunFolder], Commands], stranger: Stranger
) -> None:
    stranger.leftovers()
    ran = commands(stranger.folder)
    ran.run()
    assert ran.codes == dict.fromkeys(ran.all, 0) | dict.fromkeys(("extend", "retrain"), 6)


@pytest.mark.slow
def test_nor_is_it_by_whole_commands(stranger: Stranger, tmp_path: Path) -> None:
    """An extended search beside the payloads in Tune's files, then the final script."""
    stranger.leftovers()
    for command in (
        ["search.py", "--resume", "runs/strange", "--trials", "40"],
        ["retrain.py", "runs/strange", "--seeds", "1"],
    ):
        ran = run([str(ROOT / "tuning" / command[0]), *command[1:]], tmp_path)
        assert ran.process.returncode == 0, ran.errors
        assert "Traceback" not in ran.errors
