"""Which checkpoints stay while a search runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from tuning.study.study import Study
from tuning.trials.trial import Trial


class Retention:
    """A listener for the study: of the trials that ended, only the best `keep` have a
    checkpoint, that of their best epoch.
    """

    def __init__(self, study: Study, folder: Path, keep: int) -> None:
        self.study = study
        self.folder = folder
        self.keep = keep
        ended = {trial.number for trial in study.trials if trial.outcome}
        self._kept = {number for number in ended if (folder / str(number)).exists()}

    def on_change(self, trial: Trial) -> None:
        if trial.outcome is None:
            return
        best = {entry.trial.number: entry for entry in self.study.ranked[: self.keep]}
        for number in (self._kept | {trial.number}) - best.keys():
            shutil.rmtree(self.folder / str(number), ignore_errors=True)
        if trial.number in best:
            keep_only(
                self.folder / str(trial.number),
                self.folder / (best[trial.number].epoch.checkpoint or ""),
            )
        self._kept = set(best)


def keep_only(folder: Path, checkpoint: Path) -> None:
    """Delete everything in `folder` but `checkpoint`."""
    files: Iterable[Path] = folder.iterdir() if folder.is_dir() else ()
    for path in files:
        if path != checkpoint:
            path.unlink(missing_ok=True)
