"""What a search has found, as files of its run: summary, table, live report, and at the end the
best config and checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import yaml

from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import CheckpointError, RunError
from text_recognizer.text import printable
from text_recognizer.util import checksum
from training.settings import Settings
from tuning.analysis import html
from tuning.analysis.advice import search_remarks
from tuning.analysis.run_data import RunData, read_run_data
from tuning.cli import shown_path
from tuning.run.environment import environment
from tuning.run.files import BestTrial, Environment, Resources, Summary, Validation
from tuning.run.folder import RunFolder
from tuning.run.forecast import notes
from tuning.run.reading import read_existing, read_model, write_model, write_text
from tuning.run.resources import Slots
from tuning.space.search_space import SearchSpace
from tuning.study.study import Study
from tuning.trials.table import TrialsTable
from tuning.trials.trial import Best, Trial, counts, epochs_trained
from tuning.verification import evaluation


def trial_settings(space: SearchSpace, slots: Slots) -> Settings:
    """What every trial has in common, as settings of an experiment."""
    return {
        **space.experiment,
        "max_epochs": space.search.max_epochs,
        "seed": space.experiment.get("seed", space.search.seed),
        "monitor": space.search.metric,
        "patience": 0,
        "threads": slots.cpus,
        "gpus": 1 if slots.gpus else 0,
    }


def best_settings(settings: Settings, best: Best) -> Settings:
    """The best trial as an experiment file; on which device it runs is left to the machine."""
    return {name: value for name, value in settings.items() if name != "gpus"} | best.trial.params


class Artifacts:
    """The files of a run that follow from its study; each is replaced in one step.

    Args:
        keep: how many best trials have a checkpoint to export.
        note: says something that the user should not miss.
    """

    def __init__(
        self,
        folder: RunFolder,
        space: SearchSpace,
        study: Study,
        slots: Slots,
        keep: int,
        note: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self.space = space
        self.study = study
        self.slots = slots
        self.keep = keep
        self.note = note
        self.damaged: dict[int, str] = {}  # trials whose checkpoint is not what was recorded
        self._table = TrialsTable(list(space.parameters), study.objective)
        self._live = html.LiveReport()

    def on_change(self, trial: Trial) -> None:
        """A listener for the study: the files are on disk before the console says that a trial
        ended.
        """
        if trial.outcome:
            summary = self.write_summary("running")
            self._live.write(lambda: self._facts(summary))

    def best(self) -> Best | None:
        """The best trial whose checkpoint is not known to be damaged."""
        return next(
            (best for best in self.study.ranked if best.trial.number not in self.damaged), None
        )

    def remarks(self) -> list[str]:
        """What to look at twice: lost checkpoints, and a colleague's advice."""
        said = search_remarks(self._sound(), self.space, self.study.trials, self._validation())
        return [*self.damaged.values(), *said]

    def write_summary(self, status: str, stop_reason: str | None = None) -> Summary:
        """`summary.json` and `trials.csv` as they are now; returns the summary."""
        search, trials = self.space.search, self.study.trials
        best, complete = self.best(), status == "complete"
        files = (self.folder.best_config, self.folder.best_checkpoint) if complete else ()
        summary = Summary(
            name=self.folder.name,
            status=status,
            data_class=self.space.experiment["data_class"],
            metric=search.metric,
            mode=search.objective.mode,
            seed=search.seed,
            counts=counts(trials),
            epochs_trained=epochs_trained(trials),
            wall_time_s=round(self.study.seconds, 1),
            stop_reason=stop_reason,
            best=BestTrial.model_validate(best.as_plain()) if best else None,
            resources=Resources.model_validate(self.slots.as_plain()),
            sha256={path.name: checksum(path) for path in files},
            warnings=[*notes(search, self.study.wanted, self.slots), *self.remarks()]
            if status in ("complete", "failed")
            else [],
        )
        write_model(self.folder.summary, summary)
        write_text(self.folder.trials_csv, self._table.text(trials))
        return summary

    def write_unfinished(self, status: str, reason: str | None) -> None:
        """Summary and report of a search that ended without a result, or was cut off."""
        html.write_report(self._facts(self.write_summary(status, reason)))

    def write_all(self, best: Best, reason: str) -> None:
        """The best config, the summary and the report of a search that has ended, its best trial
        exported.
        """
        settings = trial_settings(self.space, self.slots) | best.trial.params
        found = (
            f"trial {best.trial.number}, {self.study.objective.metric} {best.value:.4f} at epoch "
            f"{best.epoch.epoch}"
        )
        again = f"python training/run_experiment.py --config {shown_path(self.folder.best_config)}"
        header = "".join(
            printable(line) + "\n"
            for line in (
                f"# The best of {self.folder.name}: {found}.",
                f"# Train it again: {again}",
            )
        )
        write_text(
            self.folder.best_config,
            header + yaml.safe_dump(best_settings(settings, best), sort_keys=False),
        )
        self.write_summary("complete", reason)
        html.write_report(read_run_data(self.folder, self.study.record))

    def export(self, data: BaseDataset) -> Best | None:
        """The best trial, its weights exported and found to be as good as recorded; None where no
        trial can be best.

        A trial whose checkpoint is damaged gives way to the next that has one, and that is said.

        Raises:
            CheckpointError: no trial's checkpoint is sound.
        """
        first: CheckpointError | None = None
        for best in self.study.ranked[: self.keep]:
            try:
                self._export(best, data)
                return best
            except CheckpointError as error:
                first = first or error
                lost = (
                    f"trial {best.trial.number} with {self.study.objective.metric} "
                    f"{best.value:.4f} "
                    f"cannot be exported: {error}"
                )
                self.damaged[best.trial.number] = lost
                self.note(lost)
        if first:
            self.folder.best_checkpoint.unlink(missing_ok=True)
            self.folder.validation.unlink(missing_ok=True)
            raise first
        return None

    def is_finished(self) -> bool:
        """Whether an earlier process wrote everything down, and all of it is still there."""
        folder = self.folder
        files = (
            folder.best_config,
            folder.best_checkpoint,
            folder.report,
            folder.trials_csv,
            folder.summary,
            folder.validation,
        )
        try:
            return (
                all(file.is_file() for file in files)
                and read_existing(folder.summary, Summary).status == "complete"
            )
        except RunError:
            return False

    def _export(self, best: Best, data: BaseDataset) -> None:
        settings = trial_settings(self.space, self.slots) | best.trial.params
        target = self.folder.best_checkpoint
        evaluation.export_best(self.folder.checkpoints, best, target)
        write_model(self.folder.validation, evaluation.verify(target, best, settings, data))

    def _sound(self) -> list[Best]:
        return [best for best in self.study.ranked if best.trial.number not in self.damaged]

    def _validation(self) -> Validation | None:
        best = self.best()
        found = read_model(self.folder.validation, Validation) if best else None
        return found if found and best and found.trial == best.trial.number else None

    @cached_property
    def _environment(self) -> Environment:
        """What the run was made with; where that file is gone, what goes on with it: no search
        ends for want of it.
        """
        try:
            return read_existing(self.folder.environment, Environment)
        except RunError:
            return environment()

    def _facts(self, summary: Summary) -> RunData:
        return RunData(
            summary=summary,
            environment=self._environment,
            space=self.space,
            trials=self.study.trials,
            sessions=self.study.sessions,
            path=self.folder.path,
        )
