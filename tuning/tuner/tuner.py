"""One process's work on a run: Ray is started, the trials run, and what was found is written
down and said.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import termios
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace

from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import ClusterError, NoResultError, StorageError
from tuning.callbacks import retention
from tuning.callbacks.artifacts import Artifacts, trial_settings
from tuning.callbacks.console import SearchConsole, TrialTable, tally
from tuning.callbacks.tensorboard import Curves
from tuning.cli import shown_path, typed_command, typed_path
from tuning.ray_backend import tune_run
from tuning.ray_backend.local_cluster import Cluster
from tuning.run.files import Summary
from tuning.run.folder import RunFolder
from tuning.run.forecast import describe_search, notes
from tuning.run.options import Options
from tuning.run.reading import read_existing
from tuning.run.resources import Slots
from tuning.space.durations import seconds_of
from tuning.space.search_space import SearchSpace
from tuning.study.storage import noted_url
from tuning.study.study import Study
from tuning.trials.table import score
from tuning.trials.trial import Best
from tuning.worker.trainable import TrialJob, run_trial

LAST_WORDS_S = 10
FINISHED_TRIALS = "all trials are done"


class Tuner:
    """A search in progress.

    Args:
        start: Ray, begun or joined; entered where there are trials to run.
        again: flags that a resume is to be given once more.
    """

    def __init__(
        self,
        options: Options,
        space_name: str,
        space: SearchSpace,
        folder: RunFolder,
        study: Study,
        console: SearchConsole,
        slots: Slots,
        start: Callable[[], AbstractContextManager[Cluster]],
        again: str = "",
    ) -> None:
        self.options = options
        self.space_name = space_name
        self.space = space
        self.folder = folder
        self.study = study
        self.console = console
        self.slots = slots
        self.start = start
        self.again = again
        self.findings = Artifacts(folder, space, study, slots, options.keep, console.note)
        self.interrupt = tune_run.Interrupt()
        self.table = TrialTable(console, study, slots.count)

    def go(self, data: BaseDataset) -> int:
        """Search, then write down what was found. Returns the exit code."""
        work = self.study.has_work()
        if not work and self.findings.is_finished():
            return self.nothing_left()
        self.study.begin_session()
        self.study.gpu_share = self.slots.gpus
        self.findings.write_summary("running")
        try:
            with ExitStack() as until:  # with --keep-alive Ray outlives the search
                if work:
                    self.search(data, until)
                if not self.options.keep_alive:
                    until.close()
                self.tidy()
                self.study.end_session()
                if self.study.suspended:
                    raise StorageError(
                        f"{self.study.suspended}. Mend that, then: {self.how_to_resume()}"
                    )
                if not self.interrupt.signal:
                    code = self.finish(data)
                    if work and self.options.keep_alive:
                        self.keep_alive()
                    return code
        except NoResultError:
            raise  # said in the summary already
        except KeyboardInterrupt:  # while Ray was starting, or for the second time
            self.interrupt.signal = self.interrupt.signal or signal.SIGINT
        except SystemExit:  # Ray's own handler of SIGTERM, while it starts
            self.interrupt.signal = self.interrupt.signal or signal.SIGTERM
        except BaseException:
            with suppress(StorageError):  # the disk may be why
                self.findings.write_summary(
                    "interrupted" if self.study.suspended else "failed", self.study.suspended
                )
            raise
        return self.end_interrupted()

    def search(self, data: BaseDataset, until: ExitStack) -> None:
        """Have Ray run `until` that closes, and run every trial."""
        if not self.options.address:
            self.console.tell(f"{self.folder.name}: starting Ray …")
        ray = until.enter_context(self.start())
        # a worker that sees none is on a node without this folder
        for folder in (self.folder.checkpoints, self.folder.logs):
            folder.mkdir(mode=0o700, exist_ok=True)
        ray.on_capacity = self.has_room
        # Ray takes SIGTERM for itself when it starts
        with self.interrupt.listening(self.interrupted):
            curves = Curves(self.folder.tensorboard, self.study.objective, self.console.note)
            curves.catch_up(self.study.trials)
            self.announce(ray)
            retaining = retention.Retention(self.study, self.folder.checkpoints, self.options.keep)
            self.study.listeners += [
                retaining.on_change,
                self.findings.on_change,
                curves.on_change,
                self.table.on_change,
            ]
            job = TrialJob(
                settings=trial_settings(self.space, self.slots),
                objective=self.study.objective,
                checkpoints=self.folder.checkpoints,
                logs=self.folder.logs,
                stall_limit=seconds_of(self.options.stall_limit),
                memory_share=self.slots.gpus or None,
            )
            with ray.watched(self.end_without_ray), self.table:
                tune_run.run_study(
                    self.study,
                    run_trial,
                    self.slots,
                    self.folder.ray,
                    logs=self.folder.logs,
                    name=self.space_name,
                    interrupt=self.interrupt,
                    cluster=ray,
                    shared={
                        "job": job,
                        "images": data.images.numpy(),
                        "labels": data.labels.numpy(),
                    },
                )

    def has_room(self, count: int) -> None:
        """So many trials fit at once from now on."""
        self.slots = self.findings.slots = replace(self.slots, count=count)
        self.table.slots = count

    def interrupted(self) -> None:
        """Said at the first signal."""
        self.console.note("stopping, nothing is lost; once more to stop at once")
        self.console.say(f"to go on: {self.how_to_resume()}")

    def keep_alive(self) -> None:
        """Wait for Enter, Ctrl-C or SIGTERM; until then Ray and its dashboard stay up."""
        self.console.say("Ray and its dashboard stay up: press Enter or Ctrl-C to end")
        with suppress(KeyboardInterrupt, SystemExit):  # Ray's own handler of SIGTERM exits
            with suppress(OSError, ValueError, termios.error):  # no terminal
                # what was typed while the search ran was not meant for this
                termios.tcflush(sys.stdin, termios.TCIFLUSH)
            if not sys.stdin or not sys.stdin.readline():  # nobody can press Enter
                threading.Event().wait()

    def tidy(self) -> None:
        """Delete what only a running search needs: Tune's own files, which are never read, and
        an empty log folder.
        """
        shutil.rmtree(self.folder.ray, ignore_errors=True)
        with suppress(OSError):
            for log in self.folder.logs.glob("*"):
                if log.stat().st_size == 0:  # of a process that was killed, not hung
                    log.unlink()
            self.folder.logs.rmdir()

    def announce(self, ray: Cluster) -> None:
        """The head of the table: what is searched, how, and where to look."""
        search, slots = self.space.search, self.slots
        for note in notes(search, self.study.wanted, slots):
            self.console.note(note)
        data = self.space.experiment["data_class"]
        self.console.tell(describe_search(search, self.study.wanted, self.space_name, data, slots))
        run = typed_path(self.folder.path)
        if ray.dashboard:
            ask = f"   (asks for a token: {typed_command('ray')} get-auth-token)"
            token = ask if ray.has_token else ""
            self.console.tell(f"dashboard {ray.dashboard}{token}")
        self.console.tell(
            f"report    {run}/report.html   (from the first finished trial on; it refreshes itself)"
        )
        self.console.tell(f"curves    {typed_command('tensorboard')} --logdir {run}/tensorboard")
        study = noted_url(self.folder) or (f"sqlite:///{run}/study.db")
        self.console.tell(
            f"study     {typed_command('optuna-dashboard')} {study}   (pip install .[dashboards])"
        )

    def finish(self, data: BaseDataset) -> int:
        """Export and verify the best, then say it. Raises `NoResultError` where no trial can be
        best.
        """
        reason = self.study.stop_reason or FINISHED_TRIALS
        best = self.findings.export(data)
        if best is None:
            self.findings.write_unfinished("failed", reason)
            totals = tally(self.study.trials, self.space.search.max_epochs)
            raise NoResultError(
                f"no trial produced a usable result ({totals}); {reason}. See "
                f"{shown_path(self.folder.report)}."
            )
        self.findings.write_all(best, reason)
        if self.study.stop_reason:
            self.console.say(f"ended: {reason}")
        self.say_result(best)
        for path in (self.folder.best_config, self.folder.best_checkpoint, self.folder.report):
            self.console.say(f"wrote {shown_path(path)}")
        self.console.say(f"retrain: python tuning/retrain.py {typed_path(self.folder.path)}")
        return 0

    def end_without_ray(self, name: str) -> None:
        """End the process at once: with Ray's own processes gone, neither its calls nor its end
        can be waited for.
        """
        reason = f"{name} died"
        sys.stderr.write(
            f"\nerror: {reason}; nothing that was recorded is lost.\nresume: "
            f"{self.how_to_resume()}\n"
        )
        sys.stderr.flush()
        # the disk may have died with the head
        end = threading.Timer(LAST_WORDS_S, os._exit, [ClusterError.exit_code])
        end.daemon = True
        end.start()
        try:
            self.findings.write_summary("interrupted", reason)
        finally:
            os._exit(ClusterError.exit_code)

    def how_to_go_on(self) -> str:
        """What to do where a limit ended the search."""
        if self.study.stop.time:
            return "More time with --time-budget T, or a new search with --warm-start."
        return f"A new search can learn from it: --warm-start {shown_path(self.folder.path)}."

    def how_to_resume(self) -> str:
        return f"python tuning/search.py --resume {typed_path(self.folder.path)}{self.again}"

    def say_result(self, best: Best) -> None:
        say = self.console.say
        totals = tally(self.study.trials, self.space.search.max_epochs)
        say(
            f"best: trial {best.trial.number}, {self.study.objective.metric} "
            f"{score(best.value)} at epoch "
            f"{best.epoch.epoch}   ({totals})",
            "bold green",
        )
        for remark in self.findings.remarks():
            say(f"hint: {remark}", "yellow")

    def end_interrupted(self) -> int:
        """Unfinished trials stay unfinished in the study: they are what a resume begins with."""
        self.findings.write_unfinished(
            "interrupted", signal.Signals(self.interrupt.signal or 0).name
        )
        done = (
            tally(self.study.trials, self.space.search.max_epochs)
            if self.study.trials
            else "no trial had begun"
        )
        self.console.say(f"interrupted; nothing is lost. {done}")
        if best := self.findings.best():
            self.console.say(
                f"best so far: trial {best.trial.number}, {self.study.objective.metric} "
                f"{score(best.value)}"
            )
        self.console.say(f"resume: {self.how_to_resume()}")
        return 128 + (self.interrupt.signal or 0)

    def nothing_left(self) -> int:
        """A search that has ended: say again what it found."""
        summary = read_existing(self.folder.summary, Summary)
        if len(self.study.trials) >= self.study.wanted:
            self.console.say(
                f"{self.folder.name} has all its {self.study.wanted} trials; more with --trials N"
            )
        else:
            self.console.say(
                f"{self.folder.name} has ended: {summary.stop_reason}. {self.how_to_go_on()}"
            )
        number = summary.best.trial if summary.best else None
        self.say_result(next(best for best in self.study.ranked if best.trial.number == number))
        self.console.say(f"report: {shown_path(self.folder.report)}")
        return 0
