"""Optuna's own example for Lightning (`pytorch_lightning_simple.py`): its pruning callback, a
shared study, two processes.

As in the example, torchvision's data set makes each sample a tensor whenever it is read, and the
accuracy is logged at each validation step. Pruning is off: all that are compared train the same
number of epochs.
"""

from __future__ import annotations

import sys
import tempfile
import time
from multiprocessing import get_context
from types import ModuleType
from typing import Any

from benchmarks.task import SLOTS, Done, Task


def work(task: Task, storage: str, trials: int) -> None:
    """One process of the search, as if the example had been started once more."""
    import optuna
    import pytorch_lightning as pl
    import torch
    from torch import Tensor
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader, random_split
    from torchvision import transforms
    from torchvision.datasets import MNIST

    from text_recognizer.models.mlp import MLP

    # Optuna's callback asks for the package `lightning`, which has the same code under another
    # name.
    alias: Any = ModuleType("lightning")
    alias.pytorch = pl
    sys.modules.update(
        {"lightning": alias, "lightning.pytorch": pl, "lightning.pytorch.callbacks": pl.callbacks}
    )
    from optuna_integration import PyTorchLightningPruningCallback

    torch.set_num_threads(1)

    class LightningNet(pl.LightningModule):
        def __init__(self, lr: float) -> None:
            super().__init__()
            self.model, self.lr = MLP((1, 28, 28), 10, fc1=task.fc1, fc2=task.fc2), lr

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            return cross_entropy(self.model(batch[0]), batch[1])

        def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
            accuracy = (self.model(batch[0]).argmax(1) == batch[1]).float().mean()
            self.log("val_acc", accuracy)
            self.log("hp_metric", accuracy, on_step=False, on_epoch=True)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.model.parameters(), lr=self.lr)

    class Timed(pl.Callback):
        def __init__(self, trial: optuna.Trial) -> None:
            self.trial, self.ends = trial, list[float]()

        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if not trainer.sanity_checking:
                self.ends.append(time.time())
                self.trial.set_user_attr("ends", self.ends)

    def objective(trial: optuna.Trial) -> float:
        mnist = MNIST(task.data_dir, train=True, transform=transforms.ToTensor())
        training, validation = random_split(mnist, [55_000, 5_000])
        trainer = pl.Trainer(
            logger=True,
            default_root_dir=folder,
            enable_checkpointing=False,
            max_epochs=task.epochs,
            accelerator="cpu",
            enable_progress_bar=False,
            callbacks=[PyTorchLightningPruningCallback(trial, monitor="val_acc"), Timed(trial)],
        )
        trainer.fit(
            LightningNet(trial.suggest_float("lr", 1e-4, 1e-2, log=True)),
            DataLoader(training, batch_size=task.batch_size, shuffle=True),
            DataLoader(validation, batch_size=task.batch_size),
        )
        return float(trainer.callback_metrics["val_acc"])

    with tempfile.TemporaryDirectory() as folder:
        study = optuna.load_study(
            study_name="peer", storage=storage, pruner=optuna.pruners.NopPruner()
        )
        study.optimize(objective, n_trials=trials)


def main() -> None:
    """Two processes share the trials and the study."""
    import optuna

    task = Task.from_json(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/study.db"
        study = optuna.create_study(storage=storage, study_name="peer", direction="maximize")
        begin = time.time()
        context = get_context("spawn")
        workers = [
            context.Process(target=work, args=(task, storage, task.trials // SLOTS))
            for _ in range(SLOTS)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        end = time.time()
        trials = study.get_trials()
    assert len(trials) == task.trials, "every trial came to its end"
    Done(begin, end, [trial.user_attrs["ends"] for trial in trials], study.best_value).tell()


if __name__ == "__main__":
    main()
