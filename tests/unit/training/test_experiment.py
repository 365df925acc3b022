"""One experiment: settings, resuming, the whole run; and that a new hyperparameter needs no
other change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from tests.mirror import small_mnist
from text_recognizer import whole_epochs
from text_recognizer.data.digits import Digits
from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import CheckpointError, InputError
from text_recognizer.lit_models.base import BaseLitModel
from text_recognizer.predict import Recognizer, read_checkpoint
from text_recognizer.tables import MODELS
from training import experiment, run_experiment
from training.experiment import build_data, device_flags, make_trainer, run, train
from training.settings import checked
from tuning.space.reader import read_space
from tuning.verification.preflight import check_space

SMALL = {"data_class": "Digits", "fc1": 24, "fc2": 12, "gpus": 0, "threads": 1}
SILENT: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}


def test_all_bad_settings_are_said_at_once_with_type_and_suggestion() -> None:
    with pytest.raises(InputError) as error:
        checked({"fc1": "wide", "fc3": 4, "augment": 3, "lr": 1})
    lines = str(error.value).splitlines()
    assert lines[0] == "fc1: `fc1 is int` must hold, but got 'wide'."
    assert "Did you mean" in lines[1]
    assert "augment is bool" in lines[2]
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("learning_rate", "'lr'"),
        ("learing_rate", "'lr'"),
        ("epochs", "'max_epochs'"),
        ("bs", "'batch_size'"),
        ("batches", "'batch_size'"),
        ("l2", "'weight_decay'"),
        ("opt", "'optimizer'"),
        ("hidden", "'fc1'"),
        ("dataset", "'data_class'"),
        ("device", "'gpus'"),
        ("checkpoint", "'load_checkpoint'"),
        ("precison", "'precision'"),  # the Trainer's
    ],
)
def test_a_flag_of_other_tools_is_answered_with_ours(name: str, ours: str) -> None:
    with pytest.raises(InputError, match=f"Did you mean {ours}"):
        run_experiment.main([f"--{name}=1"])


def test_without_a_close_name_no_flag_of_the_trainer_is_listed() -> None:
    with pytest.raises(InputError, match="The nearest of 18 known") as error:
        checked({"zzzz": 1})
    assert "min_epochs" not in str(error.value)
    assert "momentum" in str(error.value)


@pytest.mark.parametrize("gpus", [2, -1, 8])
def test_one_experiment_uses_one_device(gpus: int) -> None:
    with pytest.raises(InputError, match="0 <= gpus < 2"):
        device_flags({"gpus": gpus})
    with pytest.raises(InputError, match="one device"):
        make_trainer({"accelerator": "cpu", "devices": 2})


def test_gpus_and_accelerator_contradict_each_other() -> None:
    with pytest.raises(InputError, match="either gpus"):
        device_flags({"gpus": 1, "accelerator": "cpu"})
    assert device_flags({"gpus": 0}) == {"accelerator": "cpu", "devices": 1}
    assert device_flags({"accelerator": "cpu"})["accelerator"] == "cpu"


def test_a_cluster_that_was_not_meant_for_it_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An interactive job of SLURM with `--ntasks=4`, which Lightning refuses."""
    for name, value in {"JOB_ID": "77", "JOB_NAME": "mine", "NTASKS": "4", "NNODES": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert make_trainer({"accelerator": "cpu"}).world_size == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_who_was_given_a_gpu_does_not_train_on_the_cpu_without_a_word() -> None:
    with pytest.raises(InputError, match="CUDAAccelerator"):
        make_trainer({"gpus": 1})


class SaveEach(pl.callbacks.Checkpoint):
    """A checkpoint after every epoch, where a trial writes its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(
            self.folder / f"{trainer.current_epoch + 1}.ckpt", weights_only=False
        )


HARD = {"augment": True, "optimizer": "SGD", "momentum": 0.9, "one_cycle": True}


@pytest.mark.parametrize("whole_epochs", [False, True])
@pytest.mark.parametrize("extra", [{}, HARD])
def test_going_on_from_a_checkpoint_gives_the_same_weights_as_never_stopping(
    extra: dict[str, Any], whole_epochs: bool, tmp_path: Path
) -> None:
    settings = checked(SMALL | extra | {"max_epochs": 3, "lr": 0.01})
    straight, resumed = (
        train(
            settings,
            build_data(settings),
            callbacks=[SaveEach(tmp_path)],
            whole_epochs=whole_epochs,
            continue_from=continue_from,
            **SILENT,
        )[1]
        for continue_from in (None, tmp_path / "1.ckpt")
    )
    assert_same_weights(straight, resumed)


@pytest.mark.parametrize(
    "extra", [{}, HARD, {"model_class": "CNN", "conv_dim": 4, "optimizer": "RMSprop"}]
)
def test_whole_epochs_give_the_weights_metrics_and_count_of_single_steps(
    extra: dict[str, Any],
) -> None:
    settings = checked(
        {"data_class": "Digits", "gpus": 0, "threads": 1, "max_epochs": 2, "lr": 0.01} | extra
    )
    (trainer, steps), (fast_trainer, fast) = (
        train(
            settings,
            build_data(settings),
            callbacks=[pl.callbacks.Checkpoint()],
            whole_epochs=whole,
            **SILENT,
        )
        for whole in (False, True)
    )
    assert steps.automatic_optimization
    assert not fast.automatic_optimization
    assert_same_weights(steps, fast)
    assert trainer.callback_metrics == fast_trainer.callback_metrics
    assert trainer.global_step == fast_trainer.global_step == 2 * 9  # batches of 128


@pytest.mark.usefixtures("deep")
@pytest.mark.parametrize(
    ("extra", "captures"),
    [
        ({}, 1),
        ({"model_class": "CNN", "conv_dim": 4}, 1),
        (HARD, 0),  # its rates are not on the device, and would be frozen into the graph
        ({"model_class": "Deep"}, 0),  # it does not say that its steps are alike
    ],
)
def test_a_graphs_steps_give_the_weights_and_metrics_of_single_steps(
    extra: dict[str, Any], captures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole path of a CUDA graph, on a CPU: `replay` runs what a GPU would have recorded."""
    captured: list[Callable[[], None]] = []

    def capture(work: Callable[[], None]) -> Callable[[], None]:
        captured.append(work)
        return work

    settings = checked(
        {"data_class": "Digits", "gpus": 0, "threads": 1, "max_epochs": 2, "lr": 0.01} | extra
    )
    _, steps = train(settings, build_data(settings), enable_checkpointing=False, **SILENT)
    monkeypatch.setattr(whole_epochs, "can_capture", lambda _: True)
    monkeypatch.setattr(whole_epochs, "capture", capture)
    trainer, graphed = train(
        settings, build_data(settings), whole_epochs=True, enable_checkpointing=False, **SILENT
    )
    assert_same_weights(steps, graphed)
    assert trainer.global_step == 2 * 9
    assert len(captured) == captures


def test_a_model_that_cannot_be_captured_trains_without_a_graph_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def capture(work: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    settings = checked(SMALL | {"max_epochs": 2})
    _, plain = train(settings, build_data(settings), enable_checkpointing=False, **SILENT)
    monkeypatch.setattr(whole_epochs, "can_capture", lambda _: True)
    monkeypatch.setattr(whole_epochs, "capture", capture)
    with pytest.warns(UserWarning, match="without a CUDA graph: operation not perm") as warned:
        _, tried = train(
            settings, build_data(settings), whole_epochs=True, enable_checkpointing=False, **SILENT
        )
    assert len([one for one in warned if "CUDA graph" in str(one.message)]) == 1
    assert_same_weights(plain, tried)


@pytest.mark.parametrize(
    "flag",
    [
        {"gradient_clip_val": 0.5},
        {"limit_train_batches": 2},
        {"max_steps": 5},
        {"precision": "64-true"},
    ],
)
def test_a_trainer_flag_that_may_ask_for_single_steps_gets_them(flag: dict[str, Any]) -> None:
    settings = checked(SMALL | {"max_epochs": 1} | flag)
    _, lit_model = train(
        settings,
        build_data(settings),
        callbacks=[pl.callbacks.Checkpoint()],
        whole_epochs=True,
        **SILENT,
    )
    assert lit_model.automatic_optimization


def test_a_trial_in_single_steps_downloads_nothing(tmp_path: Path) -> None:
    data = small_mnist(tmp_path, "http://127.0.0.1:1/")  # nobody answers there
    images = torch.zeros(12, 1, 28, 28, dtype=torch.uint8)
    data.trainval = BaseDataset(images, torch.zeros(12, dtype=torch.int64))
    settings = checked(SMALL | {"data_class": "MNIST", "max_epochs": 1, "gradient_clip_val": 0.5})
    trainer, _ = train(settings, data, whole_epochs=True, enable_checkpointing=False, **SILENT)
    assert trainer.global_step == 2  # 10 training examples in batches of 5
    assert not list(tmp_path.iterdir())


def assert_same_weights(one: BaseLitModel, other: BaseLitModel) -> None:
    for name, weights in one.state_dict().items():
        assert torch.equal(weights, other.state_dict()[name]), name


def test_a_whole_run_keeps_its_best_epoch_and_can_be_read(tmp_path: Path) -> None:
    outcome = run(checked(SMALL | SILENT | {"max_epochs": 3, "monitor": "val_acc"}), tmp_path)
    assert outcome.checkpoint is not None
    assert outcome.best_epoch in (1, 2, 3)
    assert set(outcome.validation) == {"val_loss", "val_acc"}
    assert set(outcome.test) == {"test_loss", "test_acc"}
    assert list(outcome.log_dir.glob("events.out.tfevents.*")), "curves for TensorBoard"
    data = Digits()
    recognizer = Recognizer.load(outcome.checkpoint)
    validation = data.trainval[data.splits()[1]]
    hits = recognizer.probabilities(validation[0]).argmax(1) == validation[1]
    assert hits.float().mean().item() == pytest.approx(outcome.validation["val_acc"])


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    settings = checked(SMALL | SILENT | {"max_epochs": 2})
    first, second, other = (run(settings | {"seed": seed}, tmp_path) for seed in (3, 3, 4))
    assert (first.validation, first.test) == (second.validation, second.test)
    assert first.validation != other.validation


class Draws(pl.Callback):
    """The random numbers that an epoch begins with: dropout and augmentation are made of them."""

    def __init__(self) -> None:
        self.drawn: list[tuple[float, ...]] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.drawn.append(tuple(torch.rand(4).tolist()))


def test_each_epoch_and_each_seed_have_their_own_random_numbers() -> None:
    def drawn(seed: int) -> list[tuple[float, ...]]:
        draws = Draws()
        settings = checked(SMALL | SILENT | {"max_epochs": 2, "seed": seed})
        train(settings, build_data(settings), callbacks=[draws], enable_checkpointing=False)
        return draws.drawn

    first, again, other = drawn(3), drawn(3), drawn(4)
    assert first == again
    assert len({*first, *other}) == 4


def test_patience_ends_a_run_and_zero_never_does(tmp_path: Path) -> None:
    settings = checked(SMALL | SILENT | {"max_epochs": 6, "lr": 1e-12})  # nothing improves
    assert (
        last_epoch(run(settings | {"patience": 1, "monitor": "val_acc"}, tmp_path, test=False)) < 6
    )
    assert (
        last_epoch(run(settings | {"patience": 0, "monitor": "val_acc"}, tmp_path, test=False)) == 6
    )


def last_epoch(outcome: experiment.ExperimentResult) -> int:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(outcome.log_dir))
    events.Reload()
    return len(events.Scalars("train_acc"))


def test_weights_can_be_started_from_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    settings = checked(SMALL | SILENT | {"max_epochs": 3})
    first = run(settings, tmp_path, test=False)
    assert first.checkpoint is not None
    again = run(
        settings | {"max_epochs": 1, "lr": 1e-9},
        tmp_path,
        load_checkpoint=first.checkpoint,
        test=False,
    )
    assert again.validation["val_acc"] == pytest.approx(first.validation["val_acc"])
    with pytest.raises(CheckpointError, match="does not have the weights of this model"):
        run(settings | {"fc1": 25}, tmp_path, load_checkpoint=first.checkpoint)
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        run(settings, tmp_path, load_checkpoint=tmp_path / "text.ckpt")


class Deep(nn.Module):
    """A model that only this test knows; `hidden` is the argument that was just added."""

    def __init__(
        self,
        input_dims: tuple[int, int, int],
        num_classes: int,
        *,
        width: int = 16,
        hidden: int = 0,
    ) -> None:
        super().__init__()
        middle = [layer for _ in range(hidden) for layer in (nn.Linear(width, width), nn.ReLU())]
        self.layers = nn.Sequential(
            nn.Flatten(), nn.LazyLinear(width), nn.ReLU(), *middle, nn.Linear(width, num_classes)
        )
        self.layers(torch.zeros(1, *input_dims))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


@pytest.fixture
def deep() -> Iterator[None]:
    MODELS.register(Deep)
    yield
    del MODELS["Deep"]


@pytest.mark.usefixtures("deep")
def test_a_new_constructor_argument_is_at_once_a_flag_and_searchable(
    space_file: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [
        "--model-class=Deep",
        "--data-class=Digits",
        "--hidden=2",
        "--max-epochs=1",
        "--gpus=0",
    ]
    run_experiment.main([*flags, *(f"--{name}=false" for name in SILENT)])
    printed = capsys.readouterr().out
    (checkpoint,) = (tmp_path / "training/logs/Deep-Digits").rglob("best.ckpt")
    assert str(checkpoint.relative_to(tmp_path)) in printed
    assert (
        sum(isinstance(layer, nn.Linear) for layer in Recognizer.load(checkpoint).model.modules())
        == 4
    )

    text = "experiment: {model_class: Deep}\nspace:\n  hidden: {type: int, low: 0, high: 3}\n"
    check_space(read_space(space_file(text)), "Digits")
    with pytest.raises(InputError, match="Did you mean 'hidden'"):
        check_space(read_space(space_file(text.replace("hidden:", "hiden:"))), "Digits")


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_each_precision_trains_and_its_weights_predict(precision: str, tmp_path: Path) -> None:
    outcome = run(
        checked(SMALL | SILENT | {"max_epochs": 1, "precision": precision, "augment": True}),
        tmp_path,
    )
    assert outcome.checkpoint is not None
    assert len(Recognizer.load(outcome.checkpoint).predict(Digits().trainval.images[:3])) == 3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"accumulate_grad_batches": 0}, "accumulate_grad_batches >= 1"),
        ({"check_val_every_n_epoch": 0}, "check_val_every_n_epoch >= 1"),
        ({"val_check_interval": 30}, "val_check_interval"),
        (
            {"max_epochs": -1, "one_cycle": True, "max_time": "00:00:00:01"},
            "a training of known length",
        ),
        ({"gradient_clip_algorithm": "foo"}, "gradient_clip_algorithm"),
    ],
)
def test_what_the_trainer_cannot_do_is_said_without_a_traceback(
    settings: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=expected):
        run(checked(SMALL | SILENT | {"max_epochs": 1} | settings), tmp_path)


def test_a_config_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xca\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        run_experiment.main([f"--config={tmp_path / 'a.yaml'}"])


def test_flags_take_a_value_in_two_ways_and_a_switch_needs_none() -> None:
    given = ["--augment", "--max-epochs=5", "--fc1", "8", "--data-dir=a-b=c", "--one_cycle"]
    assert run_experiment.read_flags(given) == {
        "augment": True,
        "max_epochs": "5",
        "fc1": "8",
        "data_dir": "a-b=c",
        "one_cycle": True,
    }
    with pytest.raises(InputError, match="'fc1=8' is not a flag"):
        run_experiment.read_flags(["fc1=8"])


def test_a_printed_config_can_be_run_and_flags_override_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run_experiment.main(["--data-class=Digits", "--fc1=8", "--lr=1e-3", "--print_config"])
    Path("a.yaml").write_text(capsys.readouterr().out + "load_checkpoint: null\ntest: false\n")
    run_experiment.main(["--config=a.yaml", "--max_epochs=1", "--fc2=4", "--gpus=0"])
    assert "test, epoch" not in capsys.readouterr().out
    (checkpoint,) = tmp_path.rglob("best.ckpt")
    settings = read_checkpoint(checkpoint)["hyper_parameters"]
    assert (settings["fc1"], settings["fc2"], settings["lr"]) == (8, 4, 0.001)


def test_help_lists_the_settings_of_the_chosen_classes(capsys: pytest.CaptureFixture[str]) -> None:
    run_experiment.main(["--model_class", "CNN", "--help"])
    shown = capsys.readouterr().out
    for flag in ("--config", "--print_config", "--conv_dim", "--batch_size", "--gradient_clip_val"):
        assert flag in shown
