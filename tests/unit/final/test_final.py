"""The final script without its trainings: what it refuses, which configs it takes, how it
counts, how `final/` is replaced.
"""

from __future__ import annotations

import json
import math
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.finished import SPACE, finished_run
from tests.processes import heavy_imports
from text_recognizer.data.digits import Digits
from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import DataError, InputError, RunError
from text_recognizer.metrics import Objective
from text_recognizer.models.mlp import MLP
from text_recognizer.predict import Recognizer
from tuning import retrain
from tuning.final import candidates, exchange
from tuning.final.candidates import (
    Config,
    best_mean,
    configs,
    exported_first,
    lab_1,
    mean_and_std,
    same_recipe,
    seeds_from,
)
from tuning.final.folder import workplace
from tuning.final.model_card import Origin, model_card
from tuning.final.retraining import Request, Retraining
from tuning.final.scores import Final, ModelScore, candidate, candidate_lines, result_lines
from tuning.run.folder import RunFolder
from tuning.run.lock import locked
from tuning.run.options import Options
from tuning.run.reading import read_json, write_json
from tuning.run.resources import Slots
from tuning.space.reader import read_space
from tuning.study.optuna_record import open_record, set_attr
from tuning.trials.trial import Epoch, Outcome, Trial, ranking

ROOT = Path(__file__).resolve().parents[3]
LAB_1 = {"model_class": "MLP", "data_class": "Digits"}


def trial(number: int, params: dict[str, Any], *values: float) -> Trial:
    epochs = tuple(Epoch(i, {"val_acc": value}) for i, value in enumerate(values, 1))
    return Trial(number, params, epochs, Outcome.COMPLETE)


def ends_at(settings: dict[str, Any]) -> list[Epoch]:
    """Adam is best at epoch 2, SGD at epoch 1."""
    values = (0.5, 0.9) if settings["optimizer"] == "Adam" else (0.8, 0.7)
    rest = {"train_loss": 1.0, "train_acc": 0.5, "val_loss": 1.0}
    return [Epoch(i, rest | {"val_acc": value}, time=float(i)) for i, value in enumerate(values, 1)]


@pytest.fixture
def run(tmp_path: Path, empty_database: Path) -> RunFolder:
    """Trial 1 (Adam) is best at epoch 2, then trial 0 (SGD) at epoch 1."""
    return finished_run(tmp_path, empty_database, ends_at)


def retraining(run: RunFolder, said: list[str] | None = None, **changes: Any) -> Retraining:
    asked: dict[str, Any] = {"seeds": 2, "top": 1, "data_dir": None, "options": Options()}
    return Retraining(
        run,
        read_json(run.summary),
        Request(**asked | changes),
        ([] if said is None else said).append,
    )


# What is refused


@pytest.mark.parametrize("place", ["no such folder", "a run"])
def test_all_that_is_wrong_with_the_flags_is_said_before_torch_and_ray_are_imported(
    place: str, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "search.yaml").write_text(SPACE)
    path = tmp_path / ("run" if place == "a run" else "none")
    flags = ["--seeds", "0", "--top=0", "--gpus_per_trial=1.5", "--cpus-per-trial", "0"]
    code, heavy, said = heavy_imports("tuning/retrain.py", str(path), *flags)
    assert (code, heavy) == (2, [])
    wrong = ["--gpus-per-trial", "--cpus-per-trial", "--seeds", "--top"]
    refused = [line.removeprefix("error: ").split(":")[0] for line in said.splitlines()]
    assert refused == ([] if place == "a run" else [str(path)]) + wrong
    assert not (tmp_path / "run" / ".lock").exists()


@pytest.mark.parametrize("seeds", ["101", "1_0", "two"])
def test_a_number_of_seeds_is_a_plain_number_and_no_more_than_a_hundred(
    seeds: str, run: RunFolder
) -> None:
    with pytest.raises((InputError, SystemExit)):
        retrain.main([str(run.path), "--seeds", seeds])


def test_a_run_in_other_hands_is_refused(run: RunFolder, no_ray: None) -> None:
    with locked(run), pytest.raises(RunError, match=f"process {os.getpid()}"):
        retrain.main([str(run.path)])


def test_a_changed_best_config_is_refused_and_told_where_it_can_be_trained(
    run: RunFolder, no_ray: None
) -> None:
    run.best_config.write_text(run.best_config.read_text().replace("fc1: 32", "fc1: 33"))
    with pytest.raises(
        RunError, match=r"changed since.*run_experiment\.py --config .*best_config\.yaml"
    ):
        retrain.main([str(run.path)])


@pytest.mark.parametrize("text", ["", "- a list\n", "a: [\n"])
def test_a_best_config_of_a_run_without_checksums_must_make_sense(
    text: str, run: RunFolder
) -> None:
    run.best_config.write_text(text)
    summary = read_json(run.summary)
    del summary["sha256"]
    with pytest.raises(RunError, match=r"best_config\.yaml: "):
        candidates.read_best_config(run, summary)


def test_a_summary_that_says_other_than_the_study_is_refused(run: RunFolder) -> None:
    summary = read_json(run.summary)
    write_json(run.summary, summary | {"best": summary["best"] | {"value": 0.99}})
    with pytest.raises(
        RunError, match=r"trial 1 is best at epoch 2 with 0\.99.*but got epoch 2 with 0\.9"
    ):
        retraining(run)


def test_other_data_than_was_searched_on_is_refused(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Digits().load_trainval()
    monkeypatch.setattr(
        Digits, "load_trainval", lambda _: BaseDataset(real.images.flip(0), real.labels)
    )
    with pytest.raises(RunError, match="Digits: was"):
        retraining(run).examples()


# Which configs, which seeds


def test_a_candidate_has_its_own_parameters_and_epochs_and_nothing_of_the_winners(
    run: RunFolder,
) -> None:
    winner, other = retraining(run, top=2).configs
    assert (winner.label, winner.epochs, winner.searched) == ("trial 1", 2, 0.9)
    assert (other.label, other.epochs, other.searched) == ("trial 0", 1, 0.8)
    assert {"fc1": 32, "optimizer": "Adam"}.items() <= winner.settings.items()
    assert "momentum" not in winner.settings
    assert {"fc1": 24, "optimizer": "SGD", "momentum": 0.9}.items() <= other.settings.items()


def test_a_parameter_that_a_candidate_has_not_is_left_out() -> None:
    ranked = ranking(
        [
            trial(0, {"optimizer": "SGD", "momentum": 0.9}, 0.9),
            trial(1, {"optimizer": "Adam"}, 0.8),
        ],
        Objective("val_acc", "max"),
    )
    found = configs(
        {"fc1": 8, "optimizer": "SGD", "momentum": 0.9}, ["optimizer", "momentum"], ranked
    )
    assert found[1].settings == {"fc1": 8, "optimizer": "Adam"}


def test_more_candidates_than_there_are_is_said(run: RunFolder) -> None:
    said: list[str] = []
    work = retraining(run, said, top=5)
    work.slots = Slots(1, 1, 0.0, note="no GPU here: searching on the CPUs")
    work.say_notes()
    assert said == [
        "note: no GPU here: training on the CPUs",
        "note: only 2 trials of this run can be best; --top 5 has no more",
    ]


def test_the_exported_trial_comes_first_where_a_better_ones_checkpoint_was_damaged() -> None:
    ranked = ranking(
        [trial(0, {}, 0.9), trial(1, {}, 0.8), trial(2, {}, 0.7)], Objective("val_acc", "max")
    )
    found = exported_first(ranked, {"trial": 1, "epoch": 1, "value": 0.8})
    assert [best.trial.number for best in found] == [1, 0, 2]


def test_the_seeds_begin_with_the_searchs() -> None:
    assert seeds_from(7, 3) == [7, 8, 9]
    assert seeds_from(2**32 - 1, 2) == [2**32 - 1, 0]


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        (
            {
                "fc1": 1024,
                "dropout": 0.5,
                "lr": 0.001,
                "optimizer": "Adam",
                "batch_size": 128,
                "momentum": None,
            },
            True,
        ),
        ({"max_epochs": 12, "seed": 3, "threads": 2, "monitor": "val_acc", "patience": 0}, True),
        ({"fc1": 1023}, False),
        ({"one_cycle": True}, False),
        ({"gradient_clip_val": 0.5}, False),
        ({"model_class": "CNN"}, False),
    ],
)
def test_lab_1s_defaults_are_known_again_when_they_are_spelled_out(
    settings: dict[str, Any], same: bool
) -> None:
    config = Config("trial 0", LAB_1 | settings, epochs=3, trial=0)
    assert same_recipe(config, lab_1(config)) is same


def test_lab_1_has_the_searchs_data_and_nothing_else_of_it() -> None:
    config = Config(
        "trial 0",
        {"data_class": "Digits", "data_dir": "/d", "batch_size": 64, "one_cycle": True, "fc1": 9},
        epochs=3,
    )
    assert lab_1(config).settings == LAB_1 | {"data_dir": "/d", "max_epochs": 3}


# Numbers


def test_one_value_has_no_standard_deviation() -> None:
    assert mean_and_std([2.0]) == (2.0, None)
    assert mean_and_std([1.0, 2.0, 3.0]) == (2.0, 1.0)


def test_the_best_mean_is_never_one_of_a_config_that_diverged() -> None:
    assert best_mean([[0.9, math.nan], [0.7, 0.7], [0.6, 0.9]], Objective("val", "max")) == 2
    assert best_mean([[0.9, math.nan], [0.7, 0.7], [0.6, 0.9]], Objective("val", "min")) == 1
    assert best_mean([[0.7], [0.7]], Objective("val", "max")) == 0, (
        "of equals the search's better one"
    )
    assert best_mean([[math.nan], [math.inf]], Objective("val", "max")) is None


def test_a_candidate_that_diverged_comes_last_and_is_no_nan() -> None:
    good, bad = Config("trial 3", {}, 2, 3, 0.9), Config("trial 4", {}, 1, 4, 0.8)
    found = [
        candidate(bad, [0.9, math.nan], chosen=False),
        candidate(good, [0.8, 0.9], chosen=True),
    ]
    assert json.dumps(found, allow_nan=False)
    assert [
        line.split()[1] for line in list(candidate_lines(found, Objective("val_acc", "max")))[1:]
    ] == [
        "3",
        "4",
    ]
    assert "diverged" in list(candidate_lines(found, Objective("val_acc", "max")))[2]


def test_that_the_test_set_is_read_is_recorded_before_it_is(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> BaseDataset:
        raise DataError("the disk is gone")

    monkeypatch.setattr(Digits, "load_test", broken)
    work = retraining(run)
    with pytest.raises(DataError):
        work.test(work.configs[0], [], [], 0)
    assert retraining(run).reads == 1


def test_the_count_is_the_larger_one_of_study_and_older_metrics(run: RunFolder) -> None:
    set_attr(open_record(run)[1], "test_reads", 2)
    assert retraining(run).reads == 2
    run.final.mkdir()
    write_json(run.final / "metrics.json", {"test_reads": 4})
    assert retraining(run).reads == 4
    write_json(run.final / "metrics.json", {"test_reads": "often"})
    with pytest.raises(RunError, match=r"test_reads is a whole number"):
        retraining(run)


def score(seed: int, accuracy: float) -> ModelScore:
    return ModelScore(seed, accuracy, 1 - accuracy, {"0": accuracy, "1": accuracy / 2})


def final(
    *models: ModelScore, reads: int = 1, baseline: tuple[ModelScore, ...] | None = None
) -> Final:
    config = Config("trial 7", LAB_1 | {"fc1": 8}, 3, 7, 0.91)
    on = {"data_class": "Digits", "examples": 10}
    beside = models if baseline is None else baseline
    return Final(
        config,
        models,
        lab_1(Config("", LAB_1, 3)),
        beside,
        [],
        Objective("val_acc", "max"),
        on,
        360,
        reads,
    )


def test_the_result_is_said_with_its_spread_the_baseline_and_the_promise() -> None:
    lines = list(
        result_lines(final(score(0, 0.9), score(1, 0.8), baseline=(score(0, 0.7), score(1, 0.7))))
    )
    assert lines[0] == "test, read once for this run (360 images, never seen before):"
    assert lines[1].split() == [
        "trial",
        "7",
        "acc",
        "0.8500",
        "±",
        "0.0707",
        "loss",
        "0.1500",
        "±",
        "0.0707",
    ]
    assert lines[2].split() == [
        "lab",
        "1's",
        "defaults",
        "acc",
        "0.7000",
        "±",
        "0.0000",
        "loss",
        "0.3000",
        "±",
        "0.0000",
    ]
    assert lines[3:] == [
        "the search promised val_acc 0.9100 on the validation data",
        "worst class: 1 (0.425)",
    ]


def test_a_config_that_is_lab_1s_is_not_compared_with_itself() -> None:
    found = final(score(0, 0.9))
    lines = list(
        result_lines(replace(found, config=Config("trial 0", LAB_1 | {"fc1": 1024}, 3, 0, 0.91)))
    )
    assert [line.split()[0] for line in lines if " acc " in line] == ["trial"]


def test_who_reads_the_test_set_again_is_warned() -> None:
    lines = list(result_lines(final(score(0, 0.9), reads=3)))
    assert lines[0] == "test, read 3 times for this run (360 images):"
    assert lines[-1].startswith("note: the test set has been read 3 times for this run")


# Files


def test_nothing_in_the_model_card_is_markup_but_the_cards_own(tmp_path: Path) -> None:
    text = 'space:\n  optimizer: {type: categorical, choices: [Adam, "a`|b\\n# <script>"]}\n'
    (tmp_path / "space.yaml").write_text(text)
    found = final(score(0, 0.9), score(1, 0.8))
    origin = Origin("run`\n# not a heading", read_space(tmp_path / "space.yaml"), 5, {"torch": "2"})
    recognizer = Recognizer(MLP((1, 28, 28), 10, fc1=8, fc2=4), Digits.config)
    card = model_card(recognizer, found, origin, found.as_metrics({"model.ckpt": "abc"}))
    assert [line for line in card.splitlines() if line.startswith("#")] == [
        "# MLP for `Digits`",
        *(
            f"## {head}"
            for head in (
                "How it was found",
                "Training",
                "Results",
                "What it is for, and what not",
                "How to load it",
            )
        ),
    ]
    assert "`Adam, a'\\|b\\n# <script>`" in card
    assert "`run'\\n# not a heading`" in card
    assert "0.8500 ± 0.0707" in card
    assert "one centred digit" in card
    assert "CC BY 4.0" in card


def a_folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "content").write_text(content)
    return path


def test_who_looks_while_a_folder_is_replaced_always_finds_one(tmp_path: Path) -> None:
    if not exchange.exchange(a_folder(tmp_path / "a", ""), a_folder(tmp_path / "b", "")):
        pytest.skip("this system cannot exchange two folders")
    target = a_folder(tmp_path / "final", "0")
    ended, looks, missing = threading.Event(), [0], [0]

    def look() -> None:
        while not ended.is_set():
            looks[0] += 1
            missing[0] += not os.path.lexists(target)

    reader = threading.Thread(target=look)
    reader.start()
    for i in range(1, 300):
        exchange.replace_folder(a_folder(tmp_path / "new", str(i)), target)
        assert (target / "content").read_text() == str(i)
    ended.set()
    reader.join()
    assert looks[0] > 300
    assert missing == [0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "final"]


@pytest.mark.parametrize("old", ["none", "one", "one, and another's leftovers"])
def test_where_folders_cannot_be_exchanged_they_are_renamed(
    old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "exchange", lambda *_: False)
    target = tmp_path / "final"
    if old != "none":
        a_folder(target, "old")
    if "leftovers" in old:
        a_folder(tmp_path / "final.old", "older")
    exchange.replace_folder(a_folder(tmp_path / "new", "new"), target)
    assert (target / "content").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_a_folder_that_cannot_be_exchanged_leaves_the_old_one(tmp_path: Path) -> None:
    target = a_folder(tmp_path / "final", "old")
    with pytest.raises(OSError, match="No such file"):
        exchange.replace_folder(tmp_path / "new", target)
    assert (target / "content").read_text() == "old"


def test_the_workplace_is_gone_whatever_happens_and_so_is_a_killed_processs(run: RunFolder) -> None:
    (run.path / ".final.killed").mkdir()

    def interrupted() -> None:
        with workplace(run) as new:
            assert list(run.path.glob(".final.*")) == [new]
            (new / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(run.path.glob(".final*")) == []
