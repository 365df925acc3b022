"""A search as one value: what a start or a resume prepared, and everything else is handed whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuning.run import Options, RunFolder, Slots
from tuning.space import SearchSpace
from tuning.study.study import Study

if TYPE_CHECKING:  # torch takes seconds to import, and this package must not need it
    from text_recognizer.data.util import BaseDataset


@dataclass(frozen=True)
class Search:
    """A search that is ready to run.

    Args:
        name: of the space. Ray's workers are called after it.
        slots: how many trials run at once, and what each gets.
        data: the training and validation examples.
    """

    name: str
    space: SearchSpace
    options: Options
    folder: RunFolder
    study: Study
    slots: Slots
    data: BaseDataset

    @property
    def trial_settings(self) -> dict[str, Any]:
        """The settings that all trials of the search share: those of the file, and those that the
        search decides (`OWNED_BY_SEARCH`).
        """
        settings = self.space.search
        return {
            **self.space.experiment,
            "max_epochs": settings.max_epochs,
            "seed": self.space.experiment.get("seed", settings.seed),
            "monitor": settings.metric,
            "patience": 0,  # early stopping is ASHA's
            "threads": self.slots.cpus,
            "gpus": 1 if self.slots.gpus else 0,
        }
