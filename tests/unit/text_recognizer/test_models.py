"""The contract of every model, and of how one is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from text_recognizer.data.base_data_module import DataConfig
from text_recognizer.data.digits import Digits
from text_recognizer.errors import InputError
from text_recognizer.lit_models.base import OPTIMIZERS, BaseLitModel
from text_recognizer.models.dropout import Dropout
from text_recognizer.predict import Recognizer
from text_recognizer.registry import Registry, hyperparameters
from text_recognizer.tables import MODELS
from training.experiment import build_data, build_lit_model, train
from training.settings import checked

SILENT: dict[str, Any] = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}
CONFIG = DataConfig((3, 20, 12), ("a", "b", "c", "d"), 0.5, 0.25)


@pytest.fixture(params=sorted(MODELS))
def model_class(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_contract_of_a_model(model_class: str) -> None:
    cls = MODELS[model_class]
    model = cls(CONFIG.input_dims, len(CONFIG.mapping))
    assert model(torch.randn(5, *CONFIG.input_dims)).shape == (5, 4)
    assert hyperparameters(cls), "what is searched is keyword-only and has a default"
    for name, default in hyperparameters(cls).items():
        assert isinstance(default, int | float | str | bool | None), name
        if isinstance(default, int | float):
            with pytest.raises(InputError, match=name):
                cls(CONFIG.input_dims, 4, **{name: -8})


def test_lab_1s_mlp_has_the_courses_defaults() -> None:
    assert hyperparameters(MODELS["MLP"]) == {"fc1": 1024, "fc2": 128, "dropout": 0.5}
    shapes = [tuple(p.shape) for p in MODELS["MLP"]((1, 28, 28), 10).parameters()]
    assert shapes == [(1024, 784), (1024,), (128, 1024), (128,), (10, 128), (10,)]


def test_one_batch_is_memorised(model_class: str) -> None:
    """The best single test of a training loop: any model learns a handful of examples by heart."""
    settings = checked(
        {
            "model_class": model_class,
            "data_class": "Digits",
            "max_epochs": 30,
            "overfit_batches": 1,
            "batch_size": 32,
            "lr": 2e-3,
            "threads": 1,
            "gpus": 0,
        }
    )
    dropout = {name: 0.0 for name in hyperparameters(MODELS[model_class]) if "dropout" in name}
    trainer, _ = train(
        settings | dropout, build_data(settings), check_val_every_n_epoch=30, **SILENT
    )
    assert trainer.callback_metrics["train_acc"] == 1
    assert trainer.callback_metrics["train_loss"] < 0.05


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_each_optimizer_trains(optimizer: str) -> None:
    settings = checked(
        {"data_class": "Digits", "optimizer": optimizer, "max_epochs": 1, "fc1": 32, "gpus": 0}
    )
    trainer, lit_model = train(settings, build_data(settings), **SILENT)
    assert type(trainer.optimizers[0]) is OPTIMIZERS[optimizer]
    first, trained = (model.model.state_dict() for model in (build_lit_model(settings), lit_model))
    assert all(not torch.equal(first[name], trained[name]) for name in first)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"optimizer": "Adam", "momentum": 0.9}, "momentum is an argument of Adam"),
        ({"optimizer": "Adamm"}, "Did you mean 'Adam'"),
        ({"lr": 0.0}, "0 < lr"),
        ({"lr": float("nan")}, "0 < lr"),
        ({"momentum": 1.0, "optimizer": "SGD"}, "momentum < 1"),
        ({"weight_decay": -1.0}, "weight_decay >= 0"),
    ],
)
def test_an_argument_that_would_be_dropped_or_cannot_be_is_refused(
    arguments: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        BaseLitModel(nn.Linear(1, 1), CONFIG, **arguments)


def test_what_is_not_given_is_left_to_torch() -> None:
    assert BaseLitModel(nn.Linear(1, 1), CONFIG, optimizer="SGD").optimizer_arguments == {
        "lr": 1e-3
    }
    given = BaseLitModel(nn.Linear(1, 1), CONFIG, optimizer="SGD", momentum=0.0, weight_decay=0.0)
    assert given.optimizer_arguments == {"lr": 1e-3, "momentum": 0.0, "weight_decay": 0.0}


def test_one_cycle_rises_to_lr_and_falls_within_the_training() -> None:
    settings = checked(
        {
            "data_class": "Digits",
            "one_cycle": True,
            "lr": 0.01,
            "max_epochs": 3,
            "fc1": 8,
            "gpus": 0,
        }
    )
    seen: list[float] = []

    class Rate(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    train(settings, build_data(settings), callbacks=[Rate()], **SILENT)
    assert max(seen) == pytest.approx(0.01, rel=0.02)
    assert seen[0] < 0.002
    assert seen[-1] < 1e-4
    assert len(seen) == 3 * len(Digits().train_dataloader())


def test_means_are_exact_over_batches_of_different_size(monkeypatch: pytest.MonkeyPatch) -> None:
    lit_model = build_lit_model({"data_class": "Digits", "fc1": 8}).eval()
    logged: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(lit_model, "log_dict", lambda metrics, **_: logged.update(metrics))
    inputs, labels = torch.randn(3, 1, 28, 28), torch.tensor([0, 1, 2])
    logits = lit_model(inputs)
    labels[0] = logits[0].argmax()  # at least one is right
    for part in (slice(0, 2), slice(2, 3)):
        lit_model.validation_step((inputs[part], labels[part]), 0)
    lit_model.on_validation_epoch_end()
    lit_model.on_train_epoch_end()
    assert set(logged) == {"val_loss", "val_acc"}, "no training step was taken"
    assert logged["val_acc"].item() == pytest.approx(
        (logits.argmax(1) == labels).float().mean().item()
    )
    expected = nn.functional.cross_entropy(logits, labels).item()
    assert logged["val_loss"].item() == pytest.approx(expected, rel=1e-5)


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        return build_lit_model({"data_class": "Digits", "seed": seed, "fc1": 8}).model.state_dict()[
            "layers.1.weight"
        ]

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_name_of_another_constructor_is_refused_at_registration() -> None:
    class Greedy(nn.Module):
        def __init__(
            self, input_dims: tuple[int, int, int], num_classes: int, *, max_epochs: int = 3
        ) -> None:
            super().__init__()

    with pytest.raises(InputError, match="'max_epochs', a name of the trainer"):
        MODELS.register(Greedy)
    assert "Greedy" not in MODELS


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match="Did you mean 'MLP'"):
        MODELS["MLPP"]
    assert isinstance(MODELS, Registry)


def test_reading_a_checkpoint_needs_no_other_argument(tmp_path: Path) -> None:
    settings = checked({"data_class": "Digits", "fc1": 24, "fc2": 12, "max_epochs": 1, "gpus": 0})
    trainer, lit_model = train(settings, build_data(settings), **SILENT)
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    recognizer = Recognizer.load(tmp_path / "m.ckpt")
    images = Digits().trainval.images[:50]
    lit_model.eval()
    inputs = Digits().on_after_batch_transfer((images, images), 0)[0]
    assert torch.allclose(recognizer.probabilities(images), lit_model(inputs).softmax(1), atol=1e-6)


@pytest.mark.parametrize("chance", [0.0, 0.1, 0.5, 0.9])
def test_dropout_leaves_out_that_share_and_scales_the_rest_and_its_gradient(chance: float) -> None:
    torch.manual_seed(0)
    units = torch.full((100, 1000), 3.0, requires_grad=True)
    dropped = Dropout(chance)(units)
    dropped.sum().backward()
    left_out = dropped == 0
    assert left_out.float().mean().item() == pytest.approx(chance, abs=0.005)
    assert torch.allclose(dropped[~left_out], torch.tensor(3 / (1 - chance)))
    assert units.grad is not None
    assert torch.equal(units.grad, dropped.detach() / 3)


def test_dropout_is_a_function_of_the_seed_and_nothing_in_evaluation() -> None:
    layer, units = Dropout(0.5), torch.ones(50, 50)
    first, second, again = [(torch.manual_seed(seed), layer(units))[1] for seed in (1, 2, 1)]
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert layer.eval()(units) is units
