"""Writes a run's `summary.json`, `trials.csv` and report while its search runs."""

from text_recognizer.atomic import checksum
from tuning.analysis.advice import search_remarks
from tuning.analysis.html import LiveReport, write_report
from tuning.analysis.run_data import RunData
from tuning.run import (
    BestTrial,
    Environment,
    Resources,
    Summary,
    Validation,
    notes,
    read_existing,
    read_model,
    write_model,
    write_text,
)
from tuning.study import Search
from tuning.trials import Best, Trial, counts, epochs_trained, trials_table


class Artifacts:
    """The files of a run that follow from its study. Each is replaced in one step.

    `damaged` maps trials whose checkpoint is not the recorded one to a sentence that says so.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        self.damaged: dict[int, str] = {}
        self._live = LiveReport()
        self._environment = read_existing(search.folder.environment, Environment)

    def on_change(self, trial: Trial) -> None:
        """Write the files when a trial has ended or waits."""
        # Not with each epoch: the table of 1,000 trials takes 13 ms, and the console is live.
        if trial.outcome or trial.waits:
            summary = self.write_summary("running")
            self._live.write(lambda: self._run_data(summary))

    def ranked(self) -> list[Best]:
        """The trials that can be best and whose checkpoint is not damaged, best first."""
        ranked = self.search.study.ranked
        return [best for best in ranked if best.trial.number not in self.damaged]

    def remarks(self) -> list[str]:
        """Lost checkpoints and advice, as sentences."""
        search, ranked = self.search, self.ranked()
        validation = read_model(search.folder.validation, Validation) if ranked else None
        said = search_remarks(ranked, search.space, search.study.trials, validation)
        return [*self.damaged.values(), *said]

    def write_summary(self, status: str, stop_reason: str | None = None) -> Summary:
        """Write `summary.json` and `trials.csv`.

        Args:
            status: running, complete, interrupted or failed.
        """
        search, study, folder = self.search, self.search.study, self.search.folder
        settings, ranked = search.space.search, self.ranked()
        exported = (folder.best_config, folder.best_checkpoint) if status == "complete" else ()
        summary = Summary(
            name=folder.name,
            status=status,
            data_class=search.space.experiment["data_class"],
            metric=settings.metric,
            mode=settings.objective.mode,
            seed=settings.seed,
            counts=counts(study.trials),
            epochs_trained=epochs_trained(study.trials),
            wall_time_s=round(study.seconds, 1),
            stop_reason=stop_reason,
            best=BestTrial.of(ranked[0]) if ranked else None,
            resources=Resources(
                slots=search.slots.count,
                cpus_per_trial=search.slots.cpus,
                gpus_per_trial=search.slots.gpus,
            ),
            sha256={path.name: checksum(path) for path in exported},
            warnings=[*notes(settings, study.wanted, search.slots), *self.remarks()]
            if status in ("complete", "failed")
            else [],
        )
        write_model(folder.summary, summary)
        table = trials_table(study.trials, list(search.space.parameters), study.objective)
        write_text(folder.trials_csv, table)
        return summary

    def write_unfinished(self, status: str, reason: str | None) -> None:
        """Write summary and report of a search that has no result or was interrupted."""
        write_report(self._run_data(self.write_summary(status, reason)))

    def _run_data(self, summary: Summary) -> RunData:
        search = self.search
        return RunData(
            summary=summary,
            environment=self._environment,
            space=search.space,
            trials=search.study.trials,
            path=search.folder.path,
        )
