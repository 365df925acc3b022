"""The checkpoints of a run: which ones stay, and how the best becomes `best.ckpt`."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from text_recognizer.atomic import atomic_write
from text_recognizer.data.base_data_module import EVALUATION_BATCH_SIZE
from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import CheckpointError
from text_recognizer.predict import Recognizer, read_checkpoint
from text_recognizer.util import checksum
from training.experiment import (
    Metrics,
    build_data,
    build_lit_model,
    load_weights,
    make_trainer,
    merge_metrics,
    quiet_lightning,
)
from training.settings import Settings
from tuning.run.files import WORST, Validation, WorstImage
from tuning.trials.trial import Best

WEIGHTS_ONLY = (
    "state_dict",
    "hyper_parameters",
    "data_config",
    "epoch",
    "global_step",
    "pytorch-lightning_version",
)
SILENT: Settings = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def export_best(folder: Path, best: Best, target: Path) -> None:
    """Write the weights of the best epoch to `target`, after its file in `folder` proved to be the
    one that was recorded.

    Raises:
        CheckpointError: it is missing, or was changed.
    """
    source = folder / (best.epoch.checkpoint or "")
    found = checksum(source) if source.is_file() else "no file"
    if found != best.epoch.sha256:
        raise CheckpointError(
            f"{source}: `sha256 == {best.epoch.sha256}` must hold, but got {found}."
        )
    save_weights(source, target)


def save_weights(source: Path, target: Path) -> None:
    """Write what it takes to predict: a training checkpoint without the optimizer's state.
    Raises `CheckpointError`.
    """
    content = read_checkpoint(source)
    with atomic_write(target) as file:
        torch.save({name: content[name] for name in WEIGHTS_ONLY if name in content}, file)


def evaluate(checkpoint: Path, settings: Settings, trainval: BaseDataset | None = None) -> Metrics:
    """Validation metrics of the weights in a checkpoint, measured afresh. Raises
    `CheckpointError`, `DataError`.
    """
    quiet_lightning(silent=True)
    data = build_data(settings)
    if trainval:
        data.share(trainval)
    lit_model = build_lit_model(settings)
    load_weights(lit_model, checkpoint)
    trainer = make_trainer(settings, **SILENT)
    return merge_metrics(trainer.validate(lit_model, datamodule=data, verbose=False))


def verify(
    checkpoint: Path, best: Best, settings: Settings, trainval: BaseDataset | None = None
) -> None:
    """Load the exported checkpoint and see that it is as good as was recorded, within what another
    device may round.

    Raises:
        CheckpointError: it is not.
    """
    found = evaluate(checkpoint, settings, trainval)
    for name, value in found.items():
        if not math.isclose(value, best.epoch.metrics[name], rel_tol=1e-2, abs_tol=2e-3):
            rule = (
                f"{name} == {best.epoch.metrics[name]:.6f}, as recorded for trial "
                f"{best.trial.number} at epoch {best.epoch.epoch}"
            )
            raise CheckpointError(
                f"{checkpoint}: `{rule}` must hold, but it re-evaluates to {value:.6f}."
            )


def examine(checkpoint: Path, trial: int, settings: Settings, trainval: BaseDataset) -> Validation:
    """What the weights in a checkpoint answer on the validation data: counts, and the images they
    get most wrong.

    Args:
        trial: whose weights they are.
    """
    recognizer = Recognizer.load(checkpoint)
    indices = build_data(settings).splits()[1]
    images, labels = trainval[indices]
    batches = [
        slice(start, start + EVALUATION_BATCH_SIZE)
        for start in range(0, len(labels), EVALUATION_BATCH_SIZE)
    ]
    probabilities = torch.cat([recognizer.probabilities(images[batch]) for batch in batches])
    answers, classes = probabilities.argmax(1), recognizer.data.mapping
    # (n,) what the true class was given
    truth = probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
    counts = torch.bincount(labels * len(classes) + answers, minlength=len(classes) ** 2)
    return Validation(
        trial=trial,
        sha256=checksum(checkpoint),
        classes=list(classes),
        confusion=counts.view(len(classes), len(classes)).tolist(),
        worst=[
            WorstImage(
                index=int(indices[i]),
                label=classes[labels[i]],
                predicted=classes[answers[i]],
                probability=min(1.0, float(truth[i])),
                png=png_of(images[i]),
            )
            for i in truth.argsort(stable=True)[:WORST].tolist()
        ],
    )


def png_of(image: Tensor) -> str:
    """A uint8 image of shape (channels, height, width), one channel or three, as base64 of a
    PNG.
    """
    pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()
