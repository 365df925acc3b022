"""One process's work on a run: Ray is started, the trials run, and what was found is written down and said."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import suppress
from typing import Any

import yaml

from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import CheckpointError, ClusterError, NoResultError, RunError, StorageError
from training.experiment import Settings
from tuning import checkpoints, engine, report
from tuning.console import SearchConsole, tally
from tuning.duration import seconds_of
from tuning.forecast import notes
from tuning.options import Options
from tuning.resources import Node, Slots
from tuning.results import SCHEMA_VERSION, Best, Trial, TrialsTable, advice, counts, epochs_trained
from tuning.run_folder import RunFolder, read_json, shown_path, write_json, write_text
from tuning.space import SearchSpace
from tuning.study import Study
from tuning.trainable import Job, run_trial

FINISHED_TRIALS = "all trials are done"


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
        self,
        options: Options,
        space_name: str,
        space: SearchSpace,
        folder: RunFolder,
        study: Study,
        console: SearchConsole,
        node: Node,
        slots: Slots,
    ) -> None:
        self.options = options
        self.space_name = space_name
        self.space = space
        self.folder = folder
        self.study = study
        self.console = console
        self.node = node
        self.slots = slots
        self.table = TrialsTable(list(space.parameters), study.metric, study.mode)
        self.interrupt = engine.Interrupt()
        self.damaged: dict[int, str] = {}  # trials whose checkpoint is not what was recorded
        console.catch_up(study.trials)

    def go(self, data: BaseDataset) -> int:
        """Search, then write down what was found. Returns the exit code."""
        work = self.study.has_work()
        if not work and self.is_finished():
            return self.nothing_left()
        self.study.begin_session()
        self.study.gpu_share = self.slots.gpus
        self.write_summary("running")
        try:
            if work:
                self.search(data)
            self.tidy()
            self.study.end_session()
            if self.study.suspended:
                raise StorageError(f"{self.study.suspended}. Mend that, then: {self.how_to_resume()}")
            if not self.interrupt.signal:
                return self.finish(data)
        except NoResultError:
            raise  # said in the summary already
        except KeyboardInterrupt:  # while Ray was starting, or for the second time
            self.interrupt.signal = self.interrupt.signal or signal.SIGINT
        except SystemExit:  # Ray's own handler of SIGTERM, while it starts
            self.interrupt.signal = self.interrupt.signal or signal.SIGTERM
        except BaseException:
            with suppress(StorageError):  # the disk may be why
                self.write_summary("interrupted" if self.study.suspended else "failed", self.study.suspended)
            raise
        return self.end_interrupted()

    def search(self, data: BaseDataset) -> None:
        """Start Ray and run every trial."""
        self.console.say(f"{self.folder.name}: starting Ray …")
        cluster = engine.own_cluster(dashboard=self.options.dashboard, num_cpus=int(self.node.cpus), num_gpus=int(self.node.gpus))
        with cluster as dashboard, self.interrupt.listening(self.console.say):  # Ray takes SIGTERM for itself when it starts
            self.announce(dashboard)
            retention = checkpoints.Retention(self.study, self.folder.checkpoints, self.options.keep)
            self.study.listeners += [retention.on_change, self.on_change, self.console.on_change]
            job = Job(
                settings=trial_settings(self.space, self.slots),
                metric=self.study.metric,
                mode=self.study.mode,
                checkpoints=self.folder.checkpoints,
                logs=self.folder.logs,
                stall_limit=seconds_of(self.options.stall_limit),
                memory_share=self.slots.gpus or None,
            )
            daemons = engine.Daemons()
            with daemons.watched(self.end_without_ray), self.console:
                engine.run_study(
                    self.study,
                    run_trial,
                    self.slots,
                    self.folder.ray,
                    logs=self.folder.logs,
                    name=self.space_name,
                    interrupt=self.interrupt,
                    daemons=daemons,
                    shared={"job": job, "images": data.images.numpy(), "labels": data.labels.numpy()},
                )

    def tidy(self) -> None:
        """Delete what only a running search needs: Tune's own files, which are never read, and an empty log folder."""
        shutil.rmtree(self.folder.ray, ignore_errors=True)
        with suppress(OSError):
            for log in self.folder.logs.glob("*"):
                if log.stat().st_size == 0:  # of a process that was killed, not hung
                    log.unlink()
            self.folder.logs.rmdir()

    def on_change(self, trial: Trial) -> None:
        """A listener for the study: the summary is on disk before the console says that a trial ended."""
        if trial.outcome:
            self.write_summary("running")

    def announce(self, dashboard: str | None) -> None:
        """The head of EXAMPLES' table: what is searched, how, and where to look."""
        search, slots = self.space.search, self.slots
        for note in notes(search, self.study.wanted, slots):
            self.console.note(note)
        how = f"{search.sampler} + {search.scheduler}, seed {search.seed}"
        data = self.space.experiment["data_class"]
        self.console.say(
            f"{self.space_name}: {self.study.wanted} trials on {data}, {slots}, up to {search.max_epochs} epochs, {how}"
        )
        if dashboard:
            self.console.say(f"dashboard {dashboard}   (it asks for a token: ray get-auth-token)")
        self.console.say(f"study     {shown_path(self.folder.study)}")

    def best(self) -> Best | None:
        """The best trial whose checkpoint is not known to be damaged."""
        return next((best for best in self.study.ranked if best.trial.number not in self.damaged), None)

    def remarks(self) -> list[str]:
        said = advice(self.best(), self.space.as_plain()["space"], self.study.trials, self.space.search.max_epochs)
        return [*self.damaged.values(), *said]

    def write_summary(self, status: str, stop_reason: str | None = None) -> None:
        """`summary.json` and `trials.csv` as they are now."""
        search, trials = self.space.search, self.study.trials
        best = self.best()
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
            "wall_time_s": round(self.study.seconds, 1),
            "stop_reason": stop_reason,
            "best": best.as_plain() if best else None,
            "resources": self.slots.as_plain(),
            "warnings": [*notes(search, self.study.wanted, self.slots), *self.remarks()] if status == "complete" else [],
        }
        write_json(self.folder.summary, summary)
        write_text(self.folder.trials_csv, self.table.text(trials))

    def finish(self, data: BaseDataset) -> int:
        """Export and verify the best, then say it. Raises `NoResultError` where no trial can be best."""
        reason = self.study.stop_reason or FINISHED_TRIALS
        best = self.export(data)
        if best is None:
            self.write_summary("failed", reason)
            report.write(self.folder)
            totals = tally(self.study.trials, self.space.search.max_epochs)
            raise NoResultError(f"no trial can be best ({totals}); {reason}. See {shown_path(self.folder.report)}.")
        settings = trial_settings(self.space, self.slots) | best.trial.params
        found = f"trial {best.trial.number}, {self.study.metric} {best.value:.4f} at epoch {best.epoch.epoch}"
        header = f"# The best of {self.folder.name}: {found}.\n"
        header += f"# Train it again: python training/run_experiment.py --config {shown_path(self.folder.best_config)}\n"
        write_text(self.folder.best_config, header + yaml.safe_dump(best_settings(settings, best), sort_keys=False))
        self.write_summary("complete", reason)
        if self.study.stop_reason:
            self.console.say(f"ended: {reason}")
        self.say_result(best)
        for path in (self.folder.best_config, self.folder.best_checkpoint, report.write(self.folder)):
            self.console.say(f"wrote {shown_path(path)}")
        self.console.say(f"retrain: python tuning/retrain.py {shown_path(self.folder.path)}")
        return 0

    def export(self, data: BaseDataset) -> Best | None:
        """The best trial, its weights exported and found to be as good as recorded; None where no trial can be best.

        A trial whose checkpoint is damaged gives way to the next that has one, and that is said.

        Raises:
            CheckpointError: no trial's checkpoint is sound.
        """
        first: CheckpointError | None = None
        for best in self.study.ranked[: self.options.keep]:
            settings = trial_settings(self.space, self.slots) | best.trial.params
            try:
                checkpoints.export_best(self.folder.checkpoints, best, self.folder.best_checkpoint)
                checkpoints.verify(self.folder.best_checkpoint, best, settings, data)
                return best
            except CheckpointError as error:
                first = first or error
                lost = f"trial {best.trial.number} with {self.study.metric} {best.value:.4f} cannot be exported: {error}"
                self.damaged[best.trial.number] = lost
                self.console.note(lost)
        if first:
            self.folder.best_checkpoint.unlink(missing_ok=True)
            raise first
        return None

    def end_without_ray(self, name: str) -> None:
        """End the process at once: with Ray's own processes gone, neither its calls nor its end can be waited for."""
        reason = f"Ray's {name} died"
        self.write_summary("interrupted", reason)
        sys.stderr.write(f"\nerror: {reason}; nothing that was recorded is lost.\nresume: {self.how_to_resume()}\n")
        sys.stderr.flush()
        os._exit(ClusterError.exit_code)

    def how_to_go_on(self) -> str:
        """What to do where a limit ended the search."""
        if self.study.stop.time:
            return "More time with --time-budget T, or a new search with --warm-start."
        return f"A new search can learn from it: --warm-start {shown_path(self.folder.path)}."

    def how_to_resume(self) -> str:
        return f"python tuning/search.py --resume {shown_path(self.folder.path)}"

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
        done = tally(self.study.trials, self.space.search.max_epochs) if self.study.trials else "no trial had begun"
        self.console.say(f"interrupted; nothing is lost. {done}")
        if best := self.best():
            self.console.say(f"best so far: trial {best.trial.number}, {self.study.metric} {best.value:.4f}")
        self.console.say(f"resume: {self.how_to_resume()}")
        return 128 + (self.interrupt.signal or 0)

    def is_finished(self) -> bool:
        """Whether an earlier process wrote everything down, and all of it is still there."""
        folder = self.folder
        files = (folder.best_config, folder.best_checkpoint, folder.report, folder.trials_csv, folder.summary)
        try:
            return all(file.is_file() for file in files) and read_json(folder.summary)["status"] == "complete"
        except (RunError, KeyError):
            return False

    def nothing_left(self) -> int:
        """A search that has ended: say again what it found."""
        summary = read_json(self.folder.summary)
        if len(self.study.trials) >= self.study.wanted:
            self.console.say(f"{self.folder.name} has all its {self.study.wanted} trials; more with --trials N")
        else:
            self.console.say(f"{self.folder.name} has ended: {summary['stop_reason']}. {self.how_to_go_on()}")
        number = summary["best"]["trial"]
        self.say_result(next(best for best in self.study.ranked if best.trial.number == number))
        self.console.say(f"report: {shown_path(self.folder.report)}")
        return 0
