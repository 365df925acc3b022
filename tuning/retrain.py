"""The final script: train a search's best config on training and validation data, then read the test set once."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from text_recognizer.errors import NoResultError, RunError, exit_code_of
from tuning.run_folder import RunFolder, open_run, read_json, shown_path, write_json, write_text


def main(argv: list[str] | None = None) -> None:
    """Retrain, evaluate, say it."""
    parser = argparse.ArgumentParser(prog="retrain.py", description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder, e.g. runs/latest")
    folder = open_run(parser.parse_args(argv).run)
    best = read_best(folder)

    from training.experiment import quiet_lightning  # torch takes seconds to import; a wrong path is refused before

    quiet_lightning(silent=True)
    print(f"{folder.name}: training trial {best['trial']}'s config on training and validation data, {best['epoch']} epochs")
    metrics = retrain(folder, best)
    print(
        f"test, read {times(metrics['test_reads'])} for this run: acc {metrics['test_acc']:.4f}  loss {metrics['test_loss']:.4f}"
    )
    print(f"the search promised {metrics['metric']} {metrics['promised']:.4f} on the validation data")
    print(f"wrote {shown_path(folder.final)}/model.ckpt, config.yaml, metrics.json")


def read_best(folder: RunFolder) -> dict[str, Any]:
    """The best trial as the summary has it.

    Raises:
        NoResultError: the search found none, or has not ended.
        RunError: the summary is damaged.
    """
    summary = read_json(folder.summary)
    if summary.get("status") != "complete":
        raise NoResultError(
            f"{folder.path}: `a search that has ended` must hold, but it is {summary.get('status')}. "
            f"Let it end: python tuning/search.py --resume {shown_path(folder.path)}"
        )
    best = summary.get("best")
    if not best or not folder.best_config.is_file():
        raise NoResultError(
            f"{folder.path}: `a search that ended with a best trial` must hold, but there is no best_config.yaml."
        )
    if not isinstance(best, dict) or not {"trial", "epoch", "value"} <= best.keys():
        raise RunError(f"{folder.summary}: `best has trial, epoch and value` must hold, but got {json.dumps(best)[:80]}.")
    return best


def retrain(folder: RunFolder, best: dict[str, Any]) -> dict[str, Any]:
    """Train, test, and put `final/` in place in one step. Returns its metrics.

    Raises:
        RunError: a file of the run is damaged.
        InputError, DataError
    """
    import yaml

    from training.experiment import build_data, checked, merged, train
    from tuning.checkpoints import SILENT, save_weights

    settings = checked(yaml.safe_load(folder.best_config.read_text(encoding="utf-8")))
    data = build_data(settings)
    data.prepare_data()
    data.train_on_validation_too()
    trainer, lit_model = train(
        settings, data, callbacks=[stop_after(best["epoch"])], limit_val_batches=0, **SILENT | {"enable_progress_bar": True}
    )
    tested = merged(trainer.test(lit_model, datamodule=data, verbose=False))
    metrics = {
        "trial": best["trial"],
        "seed": settings["seed"],
        "epochs": best["epoch"],
        "metric": settings["monitor"],
        "promised": best["value"],
        **tested,
        "test_reads": test_reads(folder) + 1,
    }
    new = Path(tempfile.mkdtemp(dir=folder.path, prefix=".final."))
    try:
        trainer.save_checkpoint(new / "training.ckpt", weights_only=True)
        save_weights(new / "training.ckpt", new / "model.ckpt")
        (new / "training.ckpt").unlink()
        write_text(new / "config.yaml", folder.best_config.read_text(encoding="utf-8"))
        write_json(new / "metrics.json", metrics)
        replace_folder(new, folder.final)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return metrics


def stop_after(epochs: int) -> Any:
    """A callback that ends training there, while the learning rate schedule keeps the length it had in the search."""
    import pytorch_lightning as pl

    return pl.callbacks.LambdaCallback(
        on_train_epoch_end=lambda trainer, _: setattr(trainer, "should_stop", trainer.current_epoch + 1 >= epochs)
    )


def test_reads(folder: RunFolder) -> int:
    """How often this run's test set was read before."""
    path = folder.final / "metrics.json"
    return int(read_json(path).get("test_reads", 0)) if path.exists() else 0


def replace_folder(new: Path, target: Path) -> None:
    """Put `new` where `target` is; a reader sees the old folder or the new one."""
    old = new.with_name(f"{new.name}.old")
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
