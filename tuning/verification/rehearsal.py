"""Rehearses trials: trains and validates one batch of made-up data, on the CPU."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from unittest.mock import patch

import pytorch_lightning as pl
import torch

from text_recognizer.data.base_data_module import BaseDataModule
from text_recognizer.data.util import BaseDataset, Batch, BatchLoader
from text_recognizer.errors import Problem
from text_recognizer.registry import hyperparameters
from text_recognizer.tables import MODELS
from text_recognizer.text import clipped, shown
from training.experiment import build_data, build_lit_model, quiet_lightning, train
from training.settings import TRAINER_NAMES, Settings, checked, chosen_classes
from tuning.space import SearchSpace

MAX_EXAMPLES = 8  # of a batch
MAX_REHEARSALS = 20  # one takes 20 ms
MAX_WEIGHTS = 20_000_000  # a step of a larger network takes seconds on a CPU
# They write files, and keep no trial from training.
UNREHEARSED = {"profiler", "default_root_dir"}


def rehearsal_problems(space: SearchSpace) -> Iterator[Problem]:
    """Settings with which no trial can train or be validated, one problem for each."""
    found: dict[str, Problem] = {}
    threads, metric = torch.get_num_threads(), space.search.metric
    torch.set_num_threads(1)  # on a busy machine two threads that wait for each other take 10 times
    try:
        for settings in scenes(space):
            if not (error := rehearse(settings, metric)):
                continue
            for name, cause in culprits(settings, metric, error).items():
                section = "space" if name in space.parameters else "experiment"
                where = space.where(section, name) if name else space.where("space")
                got = (
                    shown(settings[name]) if name else f"{type(cause).__name__}: {shown(settings)}"
                )
                rule = "a trial can train and validate one batch"
                found.setdefault(where, Problem(where, rule, got, clipped(str(cause), 300)))
    finally:
        torch.set_num_threads(threads)
    yield from found.values()


def scenes(space: SearchSpace) -> list[Settings]:
    """The settings of the first corners that differ in more than the network or a learning rate."""
    found: dict[str, Settings] = {}
    network = hyperparameters(MODELS[chosen_classes(space.experiment)[0]]).keys()
    smallest: Settings = {}
    for corner in space.corners():
        # The first corner has all parameters at their low.
        smallest = smallest or {name: corner[name] for name in corner.keys() & network}
        others = {name: corner[name] for name in corner if name not in network}
        counting = {
            name: value
            for name, value in others.items()
            if name in TRAINER_NAMES or not isinstance(value, float)
        }
        settings = checked(space.experiment | smallest | others)
        found.setdefault(repr(counting), settings)
        if len(found) == MAX_REHEARSALS:
            break
    with torch.device("meta"):
        weights = sum(weight.numel() for weight in build_lit_model(settings).parameters())
    return list(found.values()) if weights <= MAX_WEIGHTS else []


def culprits(settings: Settings, metric: str, error: Exception) -> dict[str, Exception]:
    """The Trainer flags because of which a rehearsal fails with `error`, each with its own error.

    "" stands for the other settings.
    """

    def error_with(flags: Iterable[str]) -> Exception | None:
        used = {name: settings[name] for name in settings if name not in TRAINER_NAMES}
        return rehearse(used | {name: settings[name] for name in flags}, metric)

    if without_flags := error_with([]):
        return {"": without_flags}
    flags = [name for name in settings if name in TRAINER_NAMES]
    # Those that fail alone; else those without which the others do not fail.
    alone = {name: cause for name in flags if (cause := error_with([name]))}
    found = alone or {
        name: error for name in flags if not error_with(other for other in flags if other != name)
    }
    # Half precision may work on a GPU alone.
    return {name: cause for name, cause in (found or {"": error}).items() if name != "precision"}


def rehearse(settings: Settings, metric: str) -> Exception | None:
    """Train and validate one batch. Returns the error, if there is one.

    Args:
        metric: what the validation has to measure.
    """
    quiet_lightning(silent=True)
    settings = {name: value for name, value in settings.items() if name not in UNREHEARSED}
    settings |= {"gpus": 0, "max_epochs": 1}
    try:
        # Lightning asks each GPU for the state of its random numbers, which would begin a context
        # on it: so it is told that there is none.
        with warnings.catch_warnings(), patch.object(torch.cuda, "is_available", lambda: False):
            warnings.simplefilter("ignore")
            trainer, _ = train(
                settings,
                made_up_data(settings),
                callbacks=[OneBatchEpoch()],
                whole_epochs=True,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
    except Exception as error:  # a model can raise anything
        return error
    if metric not in trainer.callback_metrics:
        return ValueError(f"{metric} is not measured in an epoch.")
    return None


def made_up_data(settings: Settings) -> BaseDataModule:
    """The data module of the settings with black images, and loaders that serve one batch."""
    data = build_data(settings)
    # One image that is seen `n` times: it needs the memory of one.
    image, n = torch.zeros(1, *data.config.input_dims, dtype=torch.uint8), data.trainval_size
    data.trainval = BaseDataset(image.expand(n, -1, -1, -1), torch.zeros(n, dtype=torch.int64))
    make = data._loader
    # An entry of the instance's own takes the place of the method.
    vars(data)["_loader"] = lambda *arguments: OneBatchLoader(**vars(make(*arguments)))
    return data


@dataclass(eq=False)
class OneBatchLoader(BatchLoader):
    """Says the real number of batches, by which Lightning computes its limits, but serves one."""

    def __iter__(self) -> Iterator[Batch]:
        # as small as the last batch of an epoch
        size = min(len(self.indices) % self.batch_size or self.batch_size, MAX_EXAMPLES)
        yield self.dataset[self.indices[:size]]


class OneBatchEpoch(pl.callbacks.Checkpoint):
    """Ends an epoch after its first batch, with the validation that a real one has.

    As a `Checkpoint` it keeps Lightning from adding a callback that writes checkpoints.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning has computed and checked these from the real number of batches.
        trainer.fit_loop.max_batches = 1
        # It is None if validation goes by time, and a step of the epoch otherwise.
        if trainer.val_check_batch:
            trainer.val_check_batch = 1
