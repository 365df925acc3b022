"""Deletes checkpoints that are no longer needed while a search runs."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from tuning.study import Study
from tuning.trials import Trial


class Retention:
    """Follows the study and deletes checkpoints. Of the ended trials the best `keep` have one, that
    of their best epoch; the others have none.

    Args:
        folder: holds a folder of checkpoints for each trial, named by its number.
    """

    def __init__(self, study: Study, folder: Path, keep: int) -> None:
        self.study = study
        self.folder = folder
        self.keep = keep
        # an earlier process may have died before it deleted a checkpoint
        self._delete([trial.number for trial in study.trials if trial.outcome])

    def on_change(self, trial: Trial) -> None:
        """Delete checkpoints when a trial ends."""
        if trial.outcome:
            self._delete([trial.number])

    def _delete(self, ended: Iterable[int]) -> None:
        """Delete the checkpoints of ended trials, except those that are kept."""
        ranked = self.study.ranked
        kept = {best.trial.number: best.epoch.checkpoint or "" for best in ranked[: self.keep]}
        # A trial that joins the best ones pushes at most one out: the one just below them. Looking
        # through all folders each time would take longer with each trial.
        displaced = [best.trial.number for best in ranked[self.keep : self.keep + 1]]
        for number in (*ended, *displaced):
            folder = self.folder / str(number)
            if number not in kept:
                # an error is no reason to end a search: the next process tries again
                shutil.rmtree(folder, ignore_errors=True)
                continue
            for path in folder.glob("*"):
                if path != self.folder / kept[number]:
                    path.unlink(missing_ok=True)
