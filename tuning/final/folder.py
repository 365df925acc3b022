"""Writes the whole `final/` folder of a run, or leaves the old one."""

import shutil
from pathlib import Path

import yaml

from text_recognizer.atomic import checksum, sync_folder
from text_recognizer.predict import Recognizer
from text_recognizer.text import printable
from tuning.analysis.run_data import RunData
from tuning.final.candidates import Config
from tuning.final.model_card import model_card
from tuning.run import FinalMetrics, RunFolder, unwritable, write_model, write_text

WORKPLACE = ".final."  # prefix of the temporary folder in the run's


def mend_final(folder: RunFolder) -> None:
    """Restore `final/` after a final script was killed, and delete what it left.

    Raises:
        StorageError: the run's folder cannot be written.
    """
    old = folder.final.with_suffix(".old")
    # The script was killed between the two renames of `replace_final`.
    if old.exists() and not folder.final.exists():
        try:
            old.rename(folder.final)
        except OSError as error:
            raise unwritable(folder.final, error) from None
    # No living process uses these: this one has locked the run.
    for left in (old, *folder.path.glob(f"{WORKPLACE}*")):
        shutil.rmtree(left, ignore_errors=True)


def write_final(
    folder: RunFolder, model: Path, config: Config, metrics: FinalMetrics, search: RunData
) -> None:
    """Write the files of the final model, and replace an older `final/` with them.

    Args:
        model: the file of weights in the temporary folder; it is moved.
        metrics: complete, except for the checksums.

    Raises:
        StorageError: a file cannot be written; an older `final/` stays.
    """
    new = model.with_name("final")
    # `printable`, because a line break in the run's name would end the comment.
    head = (
        f"# The config of {config} of the search {printable(folder.name)}. The final model was\n"
        f"# trained for {config.epochs} epochs on training and validation data. This command\n"
        "# trains the config on the training part alone, for max_epochs:\n"
        "# python training/run_experiment.py --config final/config.yaml\n"
    )
    try:
        new.mkdir()
        weights = model.rename(new / "model.ckpt")
        settings = new / "config.yaml"
        with_seed = config.settings | {"seed": metrics.seeds[0]}
        write_text(settings, head + yaml.safe_dump(with_seed, sort_keys=False))
        sums = {path.name: checksum(path) for path in (weights, settings)}
        metrics = metrics.model_copy(update={"sha256": sums})
        write_model(new / "metrics.json", metrics)
        # Loaded from the file: a model that cannot be loaded must not replace an older one.
        card = model_card(Recognizer.load(weights), config, metrics, search)
        write_text(new / "README.md", card)
        replace_final(folder, new)
    except OSError as error:
        raise unwritable(folder.final, error) from None


def replace_final(folder: RunFolder, new: Path) -> None:
    """Replace `final/` with the folder `new`. Raises `OSError`."""
    # Two renames, because no portable call replaces a folder that is not empty. If the process is
    # killed between them, `mend_final` repairs the run at the next start.
    try:
        if folder.final.exists():
            folder.final.rename(folder.final.with_suffix(".old"))
        new.rename(folder.final)
        sync_folder(folder.path)
    finally:
        mend_final(folder)
