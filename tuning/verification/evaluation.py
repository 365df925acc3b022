"""Evaluates checkpoints, and exports the best one of a search as `best.ckpt`."""

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchvision.transforms.functional import to_pil_image

from text_recognizer.atomic import checksum
from text_recognizer.data.base_data_module import EVALUATION_BATCH_SIZE
from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import CheckpointError
from text_recognizer.predict import Recognizer, read_checkpoint
from training.experiment import build_data
from training.settings import Settings
from tuning.run import WORST, Validation, WorstImage, write_bytes
from tuning.trials import Best

# A training checkpoint also has the optimizer's state, which is twice as large as the weights.
KEPT_IN_EXPORT = (
    "state_dict",
    "hyper_parameters",
    "data_config",
    "epoch",
    "global_step",
    "pytorch-lightning_version",
)


@dataclass(frozen=True)
class Evaluation:
    """A model's results on n labelled images."""

    classes: tuple[str, ...]
    loss: float  # cross entropy, mean over the images
    confusion: list[list[int]]  # numbers of images, by true class and then by answer
    probabilities: Tensor  # (n, classes)

    @property
    def accuracy(self) -> float:
        hits = sum(row[i] for i, row in enumerate(self.confusion))
        return hits / len(self.probabilities)


def evaluate(checkpoint: Path, examples: BaseDataset) -> Evaluation:
    """Load a checkpoint as its users do, and run its model on labelled images.

    It runs on the CPU, whatever the model was trained on.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
    """
    recognizer = Recognizer.load(checkpoint)
    # In batches, because a CNN's activations for all images at once would take gigabytes.
    batches = torch.split(examples.images, EVALUATION_BATCH_SIZE)
    logits = torch.cat([recognizer.logits(images) for images in batches])
    n = len(recognizer.data.mapping)
    # Each pair (class, answer) as one number, so that one call counts all pairs.
    counts = torch.bincount(examples.labels * n + logits.argmax(1), minlength=n * n)
    return Evaluation(
        classes=recognizer.data.mapping,
        loss=float(cross_entropy(logits, examples.labels)),
        confusion=counts.view(n, n).tolist(),
        probabilities=logits.softmax(1),
    )


def export_best(folder: Path, best: Best, target: Path) -> None:
    """Write the weights of the best epoch to `target`, without the optimizer's state.

    Args:
        folder: the folder of the search's checkpoints.

    Raises:
        CheckpointError: the checkpoint is missing, or is not the recorded one.
        StorageError: `target` cannot be written.
    """
    # The recorded path is relative to the folder, so that a run can be moved.
    source = folder / (best.epoch.checkpoint or "")
    found = checksum(source) if source.is_file() else "no file"
    if found != best.epoch.sha256:
        raise CheckpointError(
            f"{source}: `sha256 == {best.epoch.sha256}` must hold, but got {found}."
        )
    content = read_checkpoint(source)  # unpickles nothing but tensors and plain values
    # To memory first: on a full disk torch raises errors of its own kinds.
    file = io.BytesIO()
    torch.save({name: content[name] for name in KEPT_IN_EXPORT if name in content}, file)
    write_bytes(target, file.getvalue())


def verify(checkpoint: Path, best: Best, settings: Settings, trainval: BaseDataset) -> Validation:
    """Evaluate an exported checkpoint on the validation data and compare it with its record.

    Args:
        settings: the trial's settings.
        trainval: the training and validation examples.

    Returns:
        The model's answers, for the report.

    Raises:
        CheckpointError: a metric differs by more than devices and precisions round.
    """
    indices = build_data(settings).splits()[1]
    examples = BaseDataset(*trainval[indices])
    found = evaluate(checkpoint, examples)
    # Training metrics cannot be measured again: they are means over an epoch in which the weights
    # changed.
    for name, value in (("val_loss", found.loss), ("val_acc", found.accuracy)):
        recorded = best.epoch.metrics[name]
        # Half precision and another device change a metric less than this, another epoch more.
        if not math.isclose(value, recorded, rel_tol=1e-2, abs_tol=2e-3):
            raise CheckpointError(
                f"{checkpoint}: `{name} == {recorded:.6f}` must hold, as recorded for trial "
                f"{best.trial.number} at epoch {best.epoch.epoch}, but got {value:.6f}."
            )
    return Validation(
        trial=best.trial.number,
        sha256=checksum(checkpoint),
        classes=list(found.classes),
        confusion=found.confusion,
        worst=worst_images(found, examples, indices),
    )


def worst_images(found: Evaluation, examples: BaseDataset, indices: Tensor) -> list[WorstImage]:
    """The images whose true class got the lowest probability, worst first.

    Args:
        indices: (n,) the number of each image among the training and validation examples.
    """
    given = found.probabilities[torch.arange(len(indices)), examples.labels]  # (n,)
    return [
        WorstImage(
            index=int(indices[i]),
            label=found.classes[examples.labels[i]],
            predicted=found.classes[found.probabilities[i].argmax()],
            probability=min(1.0, float(given[i])),  # rounding may give 1.0000001
            png=png_of(examples.images[i]),
        )
        # A stable sort gives the same images on every machine.
        for i in given.argsort(stable=True)[:WORST].tolist()
    ]


def png_of(image: Tensor) -> str:
    """A uint8 image of shape (1 or 3, height, width) as base64 of a PNG."""
    file = io.BytesIO()
    to_pil_image(image).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()
