"""One process's work on a run: Ray is started, the trials run, and what was found is written down and said."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import Any

import yaml

from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import NoResultError
from training.experiment import Settings
from tuning import checkpoints, engine, report
from tuning.console import SearchConsole, tally
from tuning.resources import Slots, plan
from tuning.results import SCHEMA_VERSION, Best, Trial, advice, counts, epochs_trained, ranking, trials_csv
from tuning.run_folder import RunFolder, read_json, shown_path, write_json, write_text
from tuning.space import SearchSpace
from tuning.study import Study
from tuning.trainable import Job, run_trial

FINISHED_TRIALS = "all trials are done"


@dataclass(frozen=True)
class Options:
    """How a search is run, apart from what is searched. Kept in the study, so that a resume goes on in the same way."""

    gpus_per_trial: float | None = None
    cpus_per_trial: int | None = None
    max_concurrent: int | None = None
    require_gpu: bool = False
    retries: int = 1
    keep: int = 3
    dashboard: bool = True
    quiet: bool = False


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


class Session:
    """A search in progress."""

    def __init__(
        self, options: Options, space_name: str, space: SearchSpace, folder: RunFolder, study: Study, console: SearchConsole
    ) -> None:
        self.options = options
        self.space_name = space_name
        self.space = space
        self.folder = folder
        self.study = study
        self.console = console
        self.interrupt = engine.Interrupt()
        self.started = time.monotonic() - wall_time_before(folder)
        self.slots: Slots | None = None
        console.catch_up(study.trials)

    def go(self, data: BaseDataset) -> int:
        """Search, then write down what was found. Returns the exit code."""
        if not self.study.has_work() and self.folder.best_config.exists():
            return self.nothing_left()
        self.write_summary("running")
        try:
            self.search(data)
            if not self.interrupt.signal:
                return self.finish(data)
        except NoResultError:
            raise  # said in the summary already
        except KeyboardInterrupt:  # while Ray was starting, or for the second time
            self.interrupt.signal = self.interrupt.signal or signal.SIGINT
        except BaseException:
            self.write_summary("failed")
            raise
        return self.end_interrupted()

    def search(self, data: BaseDataset) -> None:
        """Start Ray and run every trial."""
        self.console.say(f"{self.folder.name}: starting Ray …")
        cluster = engine.own_cluster(dashboard=self.options.dashboard)
        with cluster as dashboard, self.interrupt.listening(self.console.say):  # Ray takes SIGTERM for itself when it starts
            self.slots = self.plan()
            self.announce(dashboard)
            retention = checkpoints.Retention(self.study, self.folder.checkpoints, self.options.keep)
            self.study.listeners += [retention.on_change, self.on_change, self.console.on_change]
            settings = trial_settings(self.space, self.slots)
            share = self.slots.gpus or None
            job = Job(settings, self.study.metric, self.study.mode, self.folder.checkpoints, share)
            with self.console:
                engine.run_study(
                    self.study,
                    run_trial,
                    self.slots,
                    self.folder.ray,
                    name=self.space_name,
                    interrupt=self.interrupt,
                    shared={"job": job, "images": data.images.numpy(), "labels": data.labels.numpy()},
                )

    def on_change(self, trial: Trial) -> None:
        """A listener for the study: the summary is on disk before the console says that a trial ended."""
        if trial.outcome:
            self.write_summary("running")

    def plan(self) -> Slots:
        asked = self.options
        return plan(
            engine.cluster_nodes(),
            gpus=asked.gpus_per_trial,
            cpus=asked.cpus_per_trial,
            concurrent=min(asked.max_concurrent or self.study.wanted, self.study.wanted),
            require_gpu=asked.require_gpu,
        )

    def announce(self, dashboard: str | None) -> None:
        """The head of EXAMPLES' table: what is searched, how, and where to look."""
        search, slots = self.space.search, self.slots
        assert slots is not None
        if slots.note:
            self.console.note(slots.note)
        how = f"{search.sampler} + {search.scheduler}, seed {search.seed}"
        data = self.space.experiment["data_class"]
        self.console.say(
            f"{self.space_name}: {self.study.wanted} trials on {data}, {slots}, up to {search.max_epochs} epochs, {how}"
        )
        if dashboard:
            self.console.say(f"dashboard {dashboard}   (it asks for a token: ray get-auth-token)")
        self.console.say(f"study     {shown_path(self.folder.study)}")

    def ranked(self) -> list[Best]:
        return ranking(self.study.trials, self.study.metric, self.study.mode)

    def remarks(self) -> list[str]:
        best = next(iter(self.ranked()), None)
        return advice(best, self.space.as_plain()["space"], self.study.trials, self.space.search.max_epochs)

    def write_summary(self, status: str, stop_reason: str | None = None) -> None:
        """`summary.json` and `trials.csv` as they are now."""
        search, trials = self.space.search, self.study.trials
        best = next(iter(self.ranked()), None)
        summary: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "name": self.folder.name,
            "status": status,
            "data_class": self.space.experiment["data_class"],
            "metric": search.metric,
            "mode": search.direction,
            "seed": search.seed,
            "counts": counts(trials),
            "epochs_trained": epochs_trained(trials),
            "wall_time_s": round(time.monotonic() - self.started, 1),
            "stop_reason": stop_reason,
            "best": best.as_plain() if best else None,
            "resources": self.slots.as_plain() if self.slots else None,
            "warnings": self.remarks() if status == "complete" else [],
        }
        write_json(self.folder.summary, summary)
        write_text(self.folder.trials_csv, trials_csv(trials, list(self.space.parameters), search.metric, search.direction))

    def finish(self, data: BaseDataset) -> int:
        """Export and verify the best, then say it. Raises `NoResultError` where no trial can be best."""
        best = next(iter(self.ranked()), None)
        reason = self.study.stop_reason or FINISHED_TRIALS
        if best is None:
            self.write_summary("failed", reason)
            report.write(self.folder)
            totals = tally(self.study.trials, self.space.search.max_epochs)
            raise NoResultError(f"no trial can be best ({totals}); {reason}. See {shown_path(self.folder.report)}.")
        assert self.slots is not None
        settings = trial_settings(self.space, self.slots) | best.trial.params
        checkpoints.export_best(best, self.folder.best_checkpoint)
        checkpoints.verify(self.folder.best_checkpoint, best, settings, data)
        found = f"trial {best.trial.number}, {self.study.metric} {best.value:.4f} at epoch {best.epoch.epoch}"
        header = f"# The best of {self.folder.name}: {found}.\n"
        header += f"# Train it again: python training/run_experiment.py --config {shown_path(self.folder.best_config)}\n"
        write_text(self.folder.best_config, header + yaml.safe_dump(best_settings(settings, best), sort_keys=False))
        self.write_summary("complete", reason)
        self.say_result(best)
        for path in (self.folder.best_config, self.folder.best_checkpoint, report.write(self.folder)):
            self.console.say(f"wrote {shown_path(path)}")
        self.console.say(f"retrain: python tuning/retrain.py {shown_path(self.folder.path)}")
        return 0

    def say_result(self, best: Best) -> None:
        say = self.console.say
        totals = tally(self.study.trials, self.space.search.max_epochs)
        say(
            f"best: trial {best.trial.number}, {self.study.metric} {best.value:.4f} at epoch {best.epoch.epoch}   ({totals})",
            "bold green",
        )
        for remark in self.remarks():
            say(f"look: {remark}", "yellow")

    def end_interrupted(self) -> int:
        """Unfinished trials stay unfinished in the study: they are what a resume begins with."""
        self.write_summary("interrupted", signal.Signals(self.interrupt.signal or 0).name)
        self.console.say(f"interrupted; nothing is lost. {tally(self.study.trials, self.space.search.max_epochs)}")
        self.console.say(f"resume: python tuning/search.py --resume {shown_path(self.folder.path)}")
        return 128 + (self.interrupt.signal or 0)

    def nothing_left(self) -> int:
        """A search that has ended: say again what it found."""
        self.console.say(f"{self.folder.name} has all its {self.study.wanted} trials; more with --trials N")
        self.say_result(self.ranked()[0])
        self.console.say(f"report: {shown_path(self.folder.report)}")
        return 0


def wall_time_before(folder: RunFolder) -> float:
    """Seconds that earlier processes worked on the run."""
    return float(read_json(folder.summary).get("wall_time_s", 0)) if folder.summary.exists() else 0.0
