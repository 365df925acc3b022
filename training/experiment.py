"""One experiment: flat settings in, a trained model and its metrics out.

A trial of a search is `train` with one more callback; the command line is `run`.
"""

import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import EarlyStopping, LambdaCallback, ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger

from text_recognizer.atomic import atomic_write
from text_recognizer.data.base_data_module import BaseDataModule
from text_recognizer.errors import CheckpointError, InputError, ensure, ensure_range
from text_recognizer.lit_models.base import BaseLitModel
from text_recognizer.metrics import mode_of
from text_recognizer.predict import check_size, read_checkpoint
from text_recognizer.seeds import seed_of
from text_recognizer.tables import DATASETS, build_model, chosen
from text_recognizer.whole_epochs import with_whole_epochs
from training.settings import TRAINER_NAMES, Settings, chosen_classes, run_settings, with_defaults

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class ExperimentResult:
    """The result of one experiment.

    Args:
        best_epoch: the best epoch by the monitor, counted from 1; None without a checkpoint.
        validation, test: metrics of the best epoch, or of the last one without a checkpoint. Empty
            if that part was not read.
        checkpoint: the checkpoint of the best epoch.
        log_dir: the folder with the curves.
    """

    best_epoch: int | None
    validation: Metrics
    test: Metrics
    checkpoint: Path | None
    log_dir: Path


def build_data(settings: Mapping[str, Any]) -> BaseDataModule:
    """Build the data module of the settings. Reads no data. Raises `InputError`."""
    run = run_settings(settings)
    cls = DATASETS[run.data_class]
    return cls(run.seed, **chosen(cls, settings))


def build_lit_model(settings: Mapping[str, Any]) -> BaseLitModel:
    """Build the untrained model of the settings, with weights drawn from the training seed.

    Raises:
        InputError: a class is unknown, or a setting is out of its range.
    """
    run = run_settings(settings)
    data_config = DATASETS[run.data_class].config
    # The checkpoint gets the defaults, too: it must mean the same after one of them has changed.
    whole = with_defaults(settings)
    # Just before the network is built, so that nothing else has drawn random numbers in between.
    torch.manual_seed(seed_of("initialisation", run.seed))
    model = build_model(whole, data_config)
    return BaseLitModel(model, data_config, whole, **chosen(BaseLitModel, whole))


class DurableCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, then renames it. Lightning writes it in the folder of
    temporary files, which may be on another, full disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        # In memory first: of a full disk torch's own file says that a position is wrong.
        whole = io.BytesIO()
        torch.save(checkpoint, whole)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(Path(path)) as file:
            file.write(whole.getbuffer())


def device_flags(settings: Mapping[str, Any]) -> Settings:
    """The Trainer's `accelerator` and `devices`. `gpus` means CUDA's, or ROCm's, not Apple's.

    Raises:
        InputError: `gpus` contradicts them.
    """
    gpus = run_settings(settings).gpus
    given = {name: settings[name] for name in ("accelerator", "devices") if name in settings}
    if gpus is not None:
        ensure("gpus", "either gpus, or accelerator and devices", {"gpus": gpus} | given, not given)
        # A worker that was given a GPU must not train on the CPU without a word, so Lightning
        # refuses this one where there is no GPU.
        given = {"accelerator": "cuda" if gpus else "cpu"}
    return {"devices": 1} | given


def make_trainer(
    settings: Mapping[str, Any], callbacks: Sequence[pl.Callback] = (), **flags: Any
) -> pl.Trainer:
    """Build the Trainer of the settings.

    Args:
        settings: flat settings, checked.
        callbacks: further callbacks of the caller.
        flags: Trainer flags that apply if the settings do not name them.

    Raises:
        InputError: Lightning refuses a flag, or more than one device is asked for.
    """
    run = run_settings(settings)
    given = {name: settings[name] for name in TRAINER_NAMES if name in settings}
    ensure_range(  # Lightning divides by them
        1,
        accumulate_grad_batches=given.get("accumulate_grad_batches"),
        check_val_every_n_epoch=given.get("check_val_every_n_epoch"),
    )
    if run.threads:
        torch.set_num_threads(run.threads)
    # Dropout and augmentation of an epoch depend on (training seed, epoch) alone. So a run that
    # continues from a checkpoint draws the same numbers as one that never stopped.
    epoch_seed = LambdaCallback(
        on_train_epoch_start=lambda trainer, _: torch.manual_seed(
            seed_of("epoch", run.seed, trainer.current_epoch)
        )
    )
    # The sanity check validates before the first epoch, so that a broken validation does not waste
    # a long epoch. Our epochs take seconds.
    defaults = {"logger": False, "num_sanity_val_steps": 0}
    all_flags = defaults | flags | given | device_flags(settings)
    try:
        # One process on one device: the variables of SLURM or LSF are not meant for it.
        plugins: list[Any] = [LightningEnvironment(), DurableCheckpoints()]
        trainer = pl.Trainer(**all_flags, callbacks=[epoch_seed, *callbacks], plugins=plugins)
    # `ImportError`: for a precision or a profiler whose package is not installed
    except (ValueError, TypeError, ImportError, MisconfigurationException) as error:
        raise InputError(f"Trainer: {error}") from None
    # On several devices each process would need its own part of a batch, which our loader does not
    # serve. A search runs a trial on each device instead.
    devices = trainer.world_size
    ensure("devices", "one experiment uses one device", devices, devices == 1)
    return trainer


def train(
    settings: Mapping[str, Any],
    data: BaseDataModule,
    *,
    callbacks: Sequence[pl.Callback] = (),
    continue_from: Path | None = None,
    whole_epochs: bool = False,
    **flags: Any,
) -> tuple[pl.Trainer, BaseLitModel]:
    """Build a model and fit it once, as an experiment, a trial and the final training do.

    Args:
        settings: flat settings, checked.
        data: the data module, built from the same settings.
        callbacks: further callbacks of the caller.
        continue_from: a checkpoint of the same settings; training continues after its epoch.
        whole_epochs: train an epoch in one step of Lightning (`text_recognizer.whole_epochs`), if
            the Trainer flags allow it. The callbacks then see no single steps.
        flags: Trainer flags that apply if the settings do not name them.

    Raises:
        InputError: the settings cannot be built.
        CheckpointError: `continue_from` is missing or too large.
    """
    if continue_from:
        check_size(continue_from)
    lit_model = build_lit_model(settings)
    trainer = make_trainer(settings, callbacks, **flags)
    names = TRAINER_NAMES & {*settings, *flags}
    served = with_whole_epochs(lit_model, data, names) if whole_epochs else data
    # Adam's averages of gradients that stay zero become denormal numbers, which are slow on CPUs:
    # its step took 1.1 ms in the first epoch and 2.8 in the third; flushed 1.4 in each.
    torch.set_flush_denormal(True)
    try:  # `weights_only`, because the checkpoint may come from a stranger's run
        trainer.fit(lit_model, datamodule=served, ckpt_path=continue_from, weights_only=True)
    except (MisconfigurationException, ValueError) as error:
        # Lightning checks this flag against the loader, so only now. Another `ValueError` is a bug.
        if isinstance(error, ValueError) and "val_check_interval" not in str(error):
            raise
        raise InputError(f"Trainer: {error}") from None
    return trainer, lit_model


def load_weights(lit_model: pl.LightningModule, path: Path) -> dict[str, Any]:
    """Load the weights of a checkpoint into a model, and return the whole checkpoint.

    Raises:
        CheckpointError: it cannot be read, or its weights do not fit the model.
    """
    checkpoint = read_checkpoint(path)
    try:
        lit_model.load_state_dict(checkpoint["state_dict"])
        return checkpoint
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: does not have the weights of this model: {error}") from None


def run(
    settings: Mapping[str, Any],
    log_root: Path,
    *,
    load_checkpoint: Path | None = None,
    test: bool = True,
) -> ExperimentResult:
    """Run a whole experiment, like lab 1: curves, early stopping, the best checkpoint, the test.

    Args:
        settings: flat settings, checked.
        log_root: curves and checkpoints go to a new numbered folder in it.
        load_checkpoint: start from these weights.
        test: read the test set once, with the best checkpoint.

    Raises:
        InputError, DataError, CheckpointError
    """
    best, callbacks = monitors(settings)
    if load_checkpoint:  # in a callback, because `train` builds the model itself
        callbacks.append(
            LambdaCallback(on_fit_start=lambda _, model: load_weights(model, load_checkpoint))
        )
    logger = TensorBoardLogger(log_root, name="-".join(chosen_classes(settings)))
    data = build_data(settings)
    trainer, lit_model = train(settings, data, callbacks=callbacks, logger=logger)
    checkpoint = Path(best.best_model_path) if best.best_model_path else None
    best_epoch = load_weights(lit_model, checkpoint)["epoch"] + 1 if checkpoint else None
    # Lightning returns an empty list if it read no batch.
    [validation] = trainer.validate(lit_model, datamodule=data, verbose=False) or [{}]
    [tested] = (test and trainer.test(lit_model, datamodule=data, verbose=False)) or [{}]
    return ExperimentResult(best_epoch, validation, tested, checkpoint, Path(logger.log_dir))


def monitors(settings: Mapping[str, Any]) -> tuple[ModelCheckpoint, list[pl.Callback]]:
    """The keeper of the best checkpoint, and all callbacks that follow the monitor."""
    run = run_settings(settings)
    mode = mode_of(run.monitor)
    # Both look at the end of the training epoch. With some flags (`--val_check_interval`) Lightning
    # would look after a validation, when the epoch's training metrics do not exist yet.
    best = ModelCheckpoint(
        filename="best", monitor=run.monitor, mode=mode, save_on_train_epoch_end=True
    )
    # `strict=False`, because an epoch without validation has no `val_loss`, which is no error.
    stopping = EarlyStopping(
        run.monitor, mode=mode, patience=run.patience, check_on_train_epoch_end=True, strict=False
    )
    callbacks: list[pl.Callback] = [stopping] if run.patience else []
    # Lightning refuses a `ModelCheckpoint` if this flag is off.
    if settings.get("enable_checkpointing") is not False:
        callbacks.append(best)
    return best, callbacks


@cache  # a filter would be added at each call
def quiet_lightning(*, silent: bool = False) -> None:
    """Suppress Lightning's advertisements and its advice that does not apply to sliced tensors.

    Args:
        silent: suppress everything but errors.
    """
    if silent:
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(
        lambda record: "litlogger" not in record.getMessage().lower()
    )
    # A deprecation inside of Lightning; advice for loaders with worker processes and for logs of
    # single steps, which we do not have.
    for advice in ("LeafSpec", "does not have many workers", "smaller than the logging interval"):
        warnings.filterwarnings("ignore", message=f".*{advice}")
