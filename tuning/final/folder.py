"""`final/` of a run: made beside it, then put in its place in one step."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from text_recognizer.errors import RunError
from text_recognizer.predict import Recognizer
from text_recognizer.text import printable, shown
from text_recognizer.util import checksum
from tuning.final.exchange import replace_folder
from tuning.final.model_card import Origin, model_card
from tuning.final.scores import Final
from tuning.run.folder import RunFolder
from tuning.run.reading import read_json, unwritable, write_json, write_text

FILES = (MODEL, CONFIG, METRICS, CARD) = ("model.ckpt", "config.yaml", "metrics.json", "README.md")
PREFIX = ".final."


@contextmanager
def workplace(folder: RunFolder) -> Iterator[Path]:
    """A folder inside of the run's, gone at the end whatever happens. Raises `StorageError`."""
    # by a process that was killed: this one holds the run's lock
    for left in folder.path.glob(f"{PREFIX}*"):
        delete(left)
    try:
        new = Path(tempfile.mkdtemp(dir=folder.path, prefix=PREFIX))
    except OSError as error:
        raise unwritable(folder.path, error) from None
    try:
        yield new
    finally:
        delete(new)


def delete(path: Path) -> None:
    """Delete a folder, if it is there."""
    shutil.rmtree(path, ignore_errors=True)


def reads_before(folder: RunFolder) -> int:
    """How often the test set was read for the run, as an older `final/` knows it. Raises
    `RunError` where it is damaged.
    """
    path = folder.final / METRICS
    reads = read_json(path).get("test_reads", 0) if path.exists() else 0
    if not isinstance(reads, int):
        raise RunError(f"{path}: `test_reads is a whole number` must hold, but got {shown(reads)}.")
    return reads


def write_final(folder: RunFolder, new: Path, model: Path, final: Final, origin: Origin) -> None:
    """Make a whole `final/` of what was found, and put it in place.

    Args:
        new: the workplace; nothing is left of it.
        model: the weights that become `model.ckpt`, in the workplace.

    Raises:
        StorageError: it cannot be written; an older `final/` is as it was.
    """
    made = new / "final"
    try:
        made.mkdir()
        model.rename(made / MODEL)
        write_text(made / CONFIG, config_text(final, origin.run))
        metrics = final.as_metrics({name: checksum(made / name) for name in (MODEL, CONFIG)})
        write_json(made / METRICS, metrics)
        write_text(made / CARD, model_card(Recognizer.load(made / MODEL), final, origin, metrics))
        replace_folder(made, folder.final)
    except OSError as error:
        raise unwritable(folder.final, error) from None


def config_text(final: Final, run: str) -> str:
    """The config as an experiment file; on which device it runs is left to the machine."""
    settings: dict[str, Any] = final.config.settings | {"seed": final.seeds[0]}
    head = (
        f"# The final config of {printable(run)}: {final.config.label}'s. The final model "
        f"had {final.config.epochs} epochs\n"
    )
    head += (
        "# of it on training and validation data; this trains it on the training part "
        "alone, for max_epochs:\n"
    )
    head += "# python training/run_experiment.py --config final/config.yaml\n"
    return head + yaml.safe_dump(settings, sort_keys=False)
