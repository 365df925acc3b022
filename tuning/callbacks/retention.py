"""Deletes checkpoints that are no longer needed while a search runs."""

from contextlib import suppress
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
        self._tidy()  # an earlier process may have died before it deleted a checkpoint

    def on_change(self, trial: Trial) -> None:
        """Delete checkpoints when a trial ends."""
        if trial.outcome:
            self._tidy()

    def _tidy(self) -> None:
        """Delete the checkpoints of ended trials, except those that are kept."""
        ended = {str(trial.number) for trial in self.study.trials if trial.outcome}
        kept = {best.epoch.checkpoint for best in self.study.ranked[: self.keep]}
        # Only running and kept trials still have a folder, so this takes no longer with each trial.
        for folder in self.folder.glob("*"):
            # An error is no reason to end a search: the end of the next trial tries again.
            with suppress(OSError):
                for path in folder.glob("*") if folder.name in ended else ():
                    if f"{folder.name}/{path.name}" not in kept:
                        path.unlink()
                folder.rmdir()  # not possible while it holds a checkpoint
