"""Deletes checkpoints that are no longer needed while a search runs."""

from contextlib import suppress
from pathlib import Path

from tuning.study import Study
from tuning.trials import Trial


class Retention:
    """Follows the study and deletes checkpoints. Of the ended trials the best `keep` have one, that
    of their best epoch; the others have none. Those that can go on after an extension have all.

    Args:
        folder: holds a folder of checkpoints for each trial, named by its number.
    """

    def __init__(self, study: Study, folder: Path, keep: int) -> None:
        self.study = study
        self.folder = folder
        self.keep = keep
        self._delete()  # an earlier process may have died before it deleted a checkpoint

    def on_change(self, trial: Trial) -> None:
        """Delete checkpoints when a trial ends."""
        if trial.outcome:
            self._delete()

    def _delete(self) -> None:
        """Delete the checkpoints of ended trials, except those that are kept. Few folders are there
        at any time: those of running trials, which stay even if they are empty, and those kept.
        """
        kept = {
            self.folder / (best.epoch.checkpoint or "") for best in self.study.ranked[: self.keep]
        }
        ended = {
            str(trial.number) for trial in self.study.trials if trial.outcome and not trial.is_held
        }
        # an error is no reason to end a search: the next trial that ends tries again
        with suppress(OSError):
            for folder in self.folder.glob("*"):
                if folder.name in ended:
                    with suppress(OSError):
                        for path in set(folder.glob("*")) - kept:
                            path.unlink(missing_ok=True)  # its worker deletes some itself
                        folder.rmdir()
