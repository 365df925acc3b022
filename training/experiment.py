"""One experiment as plain functions: flat settings in, an outcome out.

The settings are those of `RunSettings`, of the chosen model and data set, of `BaseLitModel` and of
`pl.Trainer`, under the names of their constructors. A trial of a search is `train` with one more
callback; the command line is `run`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import Logger, TensorBoardLogger

from text_recognizer.data.base_data_module import BaseDataModule
from text_recognizer.errors import CheckpointError, InputError, Problem, check
from text_recognizer.lit_models.base import BaseLitModel
from text_recognizer.metrics import mode_of
from text_recognizer.predict import check_size, read_checkpoint
from text_recognizer.registry import hyperparameters
from text_recognizer.seeds import seed_of
from text_recognizer.tables import DATASETS, MODELS, build_model, chosen
from training.settings import RUN_DEFAULTS, TRAINER_NAMES, Settings, run_settings

Metrics = dict[str, float]
BEST_CHECKPOINT = "best"
# Settings of the Trainer under which it need not see an epoch's steps one by one. Any other may ask
# for them.
WITHOUT_STEPS = {
    *(
        "accelerator",
        "devices",
        "default_root_dir",
        "max_epochs",
        "min_epochs",
        "check_val_every_n_epoch",
        "limit_val_batches",
    ),
    *(
        "num_sanity_val_steps",
        "enable_checkpointing",
        "enable_progress_bar",
        "enable_model_summary",
        "deterministic",
        "benchmark",
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What one experiment came to. `checkpoint` and `validation` are of the best epoch (counted
    from 1) by the monitor.
    """

    best_epoch: int | None
    validation: Metrics
    test: Metrics
    checkpoint: Path | None
    log_dir: Path


def build_data(settings: Mapping[str, Any]) -> BaseDataModule:
    """The data module that the settings describe; nothing is read yet. Raises `InputError`."""
    run = run_settings(settings)
    cls = DATASETS[run.data_class]
    return cls(run.seed, **chosen(cls, settings))


def build_lit_model(settings: Mapping[str, Any]) -> BaseLitModel:
    """The untrained model that the settings describe, initialised from the training seed. Raises
    `InputError`.
    """
    run = run_settings(settings)
    data_config = DATASETS[run.data_class].config
    torch.manual_seed(seed_of("initialisation", run.seed))
    model = build_model({"model_class": run.model_class, **settings}, data_config)
    # Defaults are written down too: a checkpoint must mean the same after one of them has changed.
    owned = (MODELS[run.model_class], DATASETS[run.data_class], BaseLitModel)
    kept = (
        RUN_DEFAULTS
        | {name: value for cls in owned for name, value in hyperparameters(cls).items()}
        | dict(settings)
    )
    return BaseLitModel(model, data_config, kept, **chosen(BaseLitModel, settings))


def device_flags(settings: Mapping[str, Any]) -> Settings:
    """`accelerator` and `devices` for the Trainer. Raises `InputError` where `gpus` contradicts
    them, or asks for many.
    """
    gpus = run_settings(settings).gpus
    given = {name: settings[name] for name in ("accelerator", "devices") if name in settings}
    if gpus is not None and given:
        raise InputError(
            Problem("gpus", "either gpus, or accelerator and devices", f"gpus={gpus} and {given}")
        )
    if gpus is not None:
        given = {"accelerator": "gpu" if gpus and torch.cuda.is_available() else "cpu"}
    devices = given.get("devices", 1)
    one = devices in (1, "1", "auto", "0,") or (isinstance(devices, list) and len(devices) == 1)
    check("devices", "one experiment uses one device", devices, one)
    return {"accelerator": "auto"} | given | {"devices": 1 if devices == "auto" else devices}


def make_trainer(
    settings: Mapping[str, Any],
    callbacks: Sequence[pl.Callback],
    logger: Logger | bool,
    **flags: Any,
) -> pl.Trainer:
    """The Trainer that the settings describe; `flags` are the caller's defaults. Raises
    `InputError`.
    """
    run = run_settings(settings)
    given = {name: settings[name] for name in TRAINER_NAMES if name in settings}
    for name in ("accumulate_grad_batches", "check_val_every_n_epoch"):  # Lightning divides by them
        check(name, f"{name} >= 1", given.get(name), given.get(name) is None or given[name] >= 1)
    if run.threads:
        torch.set_num_threads(run.threads)
    try:
        return pl.Trainer(
            **{"num_sanity_val_steps": 0} | flags | given | device_flags(settings),
            callbacks=[EpochSeed(run.seed), *callbacks],
            logger=logger,
        )
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise InputError(f"Trainer: {error}") from None


class EpochSeed(pl.Callback):
    """Makes dropout and augmentation of an epoch a function of (training seed, epoch): a resumed
    run goes on undisturbed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.manual_seed(seed_of("epoch", self.seed, trainer.current_epoch))


def train(
    settings: Mapping[str, Any],
    data: BaseDataModule,
    *,
    callbacks: Sequence[pl.Callback] = (),
    logger: Logger | bool = False,
    continue_from: Path | None = None,
    prepare: Callable[[BaseLitModel], None] | None = None,
    whole_epochs: bool = False,
    **flags: Any,
) -> tuple[pl.Trainer, BaseLitModel]:
    """Build the model and fit it once. This is all a trial, an experiment and the final training
    have in common.

    Args:
        settings: flat settings, checked.
        data: the data module, built from the same settings.
        callbacks: what the caller adds.
        logger: where curves go; False for nowhere.
        continue_from: a checkpoint of the same settings, to go on after its epoch.
        prepare: called with the model before training (to load weights, say).
        whole_epochs: take all steps of an epoch in one step of Lightning's, which gives the same
            weights in less time. For callers whose callbacks do not look between steps; not done
            where a Trainer flag might.
        flags: Trainer flags where the settings name none.

    Raises:
        InputError: the settings cannot be built.
    """
    if continue_from:
        check_size(continue_from)
    lit_model = build_lit_model(settings)
    trainer = make_trainer(settings, callbacks, logger, **flags)
    if prepare:
        prepare(lit_model)
    if whole_epochs and TRAINER_NAMES & {*settings, *flags} <= WITHOUT_STEPS:
        lit_model.take_whole_epochs()
        data.serve_whole_epochs()
    # Averages of gradients that stay zero become denormal numbers, at which CPUs are slow: a step
    # of Adam took 2.5 times as long after three epochs as in the first.
    torch.set_flush_denormal(True)
    try:
        trainer.fit(lit_model, datamodule=data, ckpt_path=continue_from, weights_only=True)
    except MisconfigurationException as error:
        raise InputError(f"Trainer: {error}") from None
    except ValueError as error:
        if "val_check_interval" not in str(error):
            raise
        raise InputError(f"Trainer:{error}") from None
    return trainer, lit_model


def load_weights(lit_model: BaseLitModel, path: Path) -> None:
    """Start from the weights in a checkpoint. Raises `CheckpointError` where they are not this
    model's.
    """
    try:
        lit_model.load_state_dict(read_checkpoint(path)["state_dict"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: `weights of this model` must hold, but got: {error}"
        ) from None


def run(
    settings: Mapping[str, Any],
    log_root: Path,
    *,
    load_checkpoint: Path | None = None,
    test: bool = True,
) -> Outcome:
    """A whole experiment as lab 1 ran it: curves for TensorBoard, early stopping, the best
    checkpoint, the test at the end.

    Args:
        settings: flat settings, checked.
        log_root: a numbered folder for curves and checkpoints is made here.
        load_checkpoint: start from these weights.
        test: read the test set once, with the best checkpoint.

    Raises:
        InputError, DataError, CheckpointError
    """
    chosen_run = run_settings(settings)
    monitoring: dict[str, Any] = {
        "monitor": chosen_run.monitor,
        "mode": mode_of(chosen_run.monitor),
    }
    best = ModelCheckpoint(
        filename=BEST_CHECKPOINT,
        save_on_train_epoch_end=True,
        save_weights_only=False,
        **monitoring,
    )
    callbacks: list[pl.Callback] = [best]
    if chosen_run.patience:
        callbacks.append(
            EarlyStopping(
                patience=chosen_run.patience,
                check_on_train_epoch_end=True,
                strict=False,
                **monitoring,
            )
        )
    if settings.get("enable_checkpointing") is False:
        callbacks.remove(best)
    logger = TensorBoardLogger(log_root, name=f"{chosen_run.model_class}-{chosen_run.data_class}")
    data = build_data(settings)
    trainer, lit_model = train(
        settings,
        data,
        callbacks=callbacks,
        logger=logger,
        prepare=lambda model: load_weights(model, load_checkpoint) if load_checkpoint else None,
    )
    checkpoint = Path(best.best_model_path) if best.best_model_path else None
    judged: dict[str, Any] = {
        "datamodule": data,
        "ckpt_path": checkpoint,
        "weights_only": True,
        "verbose": False,
    }
    validation = trainer.validate(lit_model, **judged)
    tested = trainer.test(lit_model, **judged) if test else []
    best_epoch = read_checkpoint(checkpoint)["epoch"] + 1 if checkpoint else None
    return Outcome(best_epoch, merged(validation), merged(tested), checkpoint, Path(logger.log_dir))


def merged(results: Sequence[Mapping[str, float]]) -> Metrics:
    """Lightning's list of metrics per loader as one dictionary."""
    return {name: float(value) for result in results for name, value in result.items()}


@cache
def quiet_lightning(*, silent: bool = False) -> None:
    """Leave out Lightning's advertisements and the advice that does not fit batches sliced from
    tensors; or all but errors.
    """
    logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    logger.addFilter(lambda record: "litlogger" not in record.getMessage().lower())
    if silent:
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logger.addFilter(
        lambda record: (
            not record.getMessage().startswith(("Restoring states", "Loaded model weights"))
        )
    )
    for message in (
        ".*LeafSpec.*",
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
    ):
        warnings.filterwarnings("ignore", message=message)
