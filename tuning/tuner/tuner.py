"""Runs a search in this process: starts Ray, runs the trials, hands over the result."""

import os
import shutil
import signal
import sys
import termios
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from importlib.util import find_spec

from text_recognizer.atomic import HALF, is_abandoned
from text_recognizer.errors import ClusterError, InputError, NoResultError, StorageError
from text_recognizer.text import shown_path
from tuning.callbacks import Artifacts, Curves, Retention, SearchConsole, TrialTable, tally
from tuning.cli import typed_command, typed_path, typed_script
from tuning.ray_backend import Cluster, Interruptions, LastWords, run_trials
from tuning.run import Summary, describe_search, make_folder, notes, read_as_ours, read_existing
from tuning.space import seconds_of
from tuning.study import Search, noted_url
from tuning.trials import Best, epochs_trained, score
from tuning.tuner.export import export_weights, is_finished, write_result
from tuning.worker.trainable import TrialJob, run_trial

ALL_TRIALS = "all trials are done"
StartRay = Callable[[LastWords], AbstractContextManager[Cluster]]


class Tuner:
    """One process's work on a search.

    Args:
        start_ray: starts or joins Ray. It is called only if there are trials to run.
        discard: removes a new run that has trained nothing when Ray fails; None on a resume.
    """

    def __init__(
        self,
        search: Search,
        console: SearchConsole,
        start_ray: StartRay,
        discard: Callable[[], None] | None = None,
    ) -> None:
        self.search = search
        self.study = search.study
        self.folder = search.folder
        self.console = console
        self.start_ray = start_ray
        self.discard = discard
        self.artifacts = Artifacts(search)
        self.table = TrialTable(console, search.study, search.slots.count)
        self.interruptions = Interruptions()

    def run(self) -> int:
        """Search, then hand over the result. Returns the exit code.

        Raises:
            NoResultError: no trial produced a usable result.
            StorageError: the search is suspended: a disk or the database cannot be used.
        """
        work = self.study.has_work()
        if not work and is_finished(self.folder, self.console.note):
            return self._repeat_result()
        self.study.begin_session()
        self.study.gpu_share = self.search.slots.gpus  # for GPU-hours
        self.artifacts.write_summary("running")
        # With --keep-alive Ray outlives the search, so that its dashboard can be read.
        with self.interruptions, ExitStack() as until:
            try:
                if work:
                    self._run_trials(until)
                if not self.search.options.keep_alive:
                    until.close()
                best = self._hand_over()
            except BaseException as error:
                with suppress(KeyboardInterrupt):
                    until.close()
                return self._end_early(error)
            # From here on the run is complete, whatever happens to this process.
            self._say_end(best)
            if work and self.search.options.keep_alive:
                self._keep_alive()
        return 0

    def _end_early(self, error: BaseException) -> int:
        """Write down how the search stands. Returns a signal's exit code, or raises `error`."""
        signalled = self.interruptions.number is not None
        match error:
            case KeyboardInterrupt():
                return self._end_interrupted()
            case SystemExit(code=code) if signalled or code == signal.SIGTERM:
                # Ray takes SIGTERM itself while it starts.
                self.interruptions.number = self.interruptions.number or signal.SIGTERM
                return self._end_interrupted()
            case ClusterError() | InputError() if self._removed():
                pass
            case ClusterError() | InputError() | StorageError():
                with suppress(StorageError):  # the disk may be the reason
                    self.artifacts.write_summary("interrupted", self.study.suspended or str(error))
                if not isinstance(error, InputError):
                    raise type(error)(f"{error}\nresume: {self._resume_command()}") from None
            case NoResultError():
                pass  # its summary is written
            case _:
                with suppress(StorageError):
                    self.artifacts.write_summary("failed")
        raise error

    def _run_trials(self, until: ExitStack) -> None:
        """Start Ray, which runs until `until` closes, and run all trials."""
        search, study, folder = self.search, self.study, self.folder
        if not search.options.address:
            self.console.tell(f"{folder.name}: starting Ray …")
        cluster = until.enter_context(self.start_ray(self._last_words))
        self.interruptions.install()
        cluster.on_capacity, cluster.say = self._on_capacity, self.console.note
        for path in (folder.checkpoints, folder.logs):  # a worker that sees none is on a wrong node
            make_folder(path)
        curves = Curves(folder.tensorboard, study.objective, self.console.note)
        curves.catch_up(study.trials)
        self._announce(cluster)
        retention = Retention(study, folder.checkpoints, search.options.keep)
        # The order is part of the contract, see `Callback`.
        study.callbacks += [retention, self.artifacts, curves, self.table]
        job = TrialJob(
            settings=search.trial_settings,
            objective=study.objective,
            checkpoints=folder.checkpoints,
            logs=folder.logs,
            stall_limit=seconds_of(search.options.stall_limit),
            memory_share=search.slots.gpus,
        )
        # Through Ray's object store once: all workers of a node read the same pages.
        shared = {
            "job": job,
            "images": search.data.images.numpy(),
            "labels": search.data.labels.numpy(),
        }
        with (
            self.interruptions.first_asks(self._on_first_signal),
            self.interruptions.ray_watched(cluster, self._last_words),
            self.table,
        ):
            run_trials(search, run_trial, shared, cluster, self.interruptions)

    def _hand_over(self) -> Best:
        """Write the result of a search that has ended. Returns the exported trial."""
        search, study = self.search, self.study
        self._tidy()
        study.end_session()
        if study.suspended:
            raise StorageError(f"{study.suspended}. Mend that first.")
        if self.interruptions.number is not None:
            raise KeyboardInterrupt
        study.close_all()  # those that wait
        reason = study.stop_reason or ALL_TRIALS
        best = export_weights(search, self.artifacts, self.console)
        if best is None:
            self.artifacts.write_unfinished("failed", reason)
            raise NoResultError(
                f"no trial produced a usable result ({self._tally()}); {reason}. See "
                f"{shown_path(self.folder.report)}."
            )
        write_result(search, self.artifacts, best, reason)
        return best

    def _say_end(self, best: Best) -> None:
        """Say what was found, and where it is."""
        if self.study.stop_reason:
            self.console.say(f"ended: {self.study.stop_reason}")
        self._say_result(best)
        for path in (self.folder.best_config, self.folder.best_checkpoint, self.folder.report):
            self.console.say(f"wrote {shown_path(path)}")
        self.console.say(
            f"retrain: {typed_script('tuning/retrain.py')} {typed_path(self.folder.path)}"
        )

    def _on_capacity(self, count: int) -> None:
        """The cluster now runs so many trials at once."""
        # `Search` is frozen: the next summary is written from the new value.
        slots = replace(self.search.slots, count=count)
        self.search = self.artifacts.search = replace(self.search, slots=slots)
        self.table.slots = count

    def _on_first_signal(self) -> None:
        self.console.note("stopping, nothing is lost; once more to stop at once")
        self.console.say(f"to go on: {self._resume_command()}")

    def _last_words(self, reason: str) -> None:
        """Say that Ray died or does not start, and write it down."""
        sys.stderr.write(f"\nerror: {reason}\n")
        if not self._removed():
            sys.stderr.write(
                f"nothing that was recorded is lost.\nresume: {self._resume_command()}\n"
            )
            self.artifacts.write_summary("interrupted", reason)

    def _removed(self) -> bool:
        """Remove a new run that has trained nothing, unless a signal came: whether it is gone."""
        trained = any(one.epochs or one.failures or one.outcome for one in self.study.trials)
        if not self.discard or trained or self.interruptions.number is not None:
            return False
        self.discard()
        self.console.note(f"{self.folder.name} is removed: it has trained nothing")
        return True

    def _keep_alive(self) -> None:
        """Wait for Enter or a signal. Until then Ray and its dashboard stay up."""
        self.console.say("Ray and its dashboard stay up: press Enter or Ctrl-C to end")
        with suppress(KeyboardInterrupt):
            line = ""
            with suppress(OSError, TypeError, ValueError, termios.error):  # no terminal, no stdin
                termios.tcflush(sys.stdin, termios.TCIFLUSH)  # typed while the search ran
            with suppress(OSError):  # the terminal was closed
                line = sys.stdin.readline() if sys.stdin else ""
            if not line:  # nobody can press Enter
                threading.Event().wait()

    def _tidy(self) -> None:
        """Delete Tune's own files, which are never read, and what killed processes left."""
        shutil.rmtree(self.folder.ray, ignore_errors=True)
        with suppress(OSError):
            for folder in {self.folder.path, self.folder.for_workers}:
                for half in filter(is_abandoned, folder.rglob(f"*{HALF}")):
                    half.unlink(missing_ok=True)
            for log in self.folder.logs.glob("*"):
                if log.stat().st_size == 0:  # of a process that was killed, not hung
                    log.unlink()
            self.folder.logs.rmdir()

    def _announce(self, cluster: Cluster) -> None:
        """Say what is searched, how, and where to look."""
        space, slots, tell = self.search.space, self.search.slots, self.console.tell
        limits = self.study.limits
        for note in notes(limits, limits.trials, slots):
            self.console.note(note)
        data = space.experiment["data_class"]
        tell(describe_search(limits, limits.trials, self.search.name, data, slots))
        run = typed_path(self.folder.path)
        if cluster.dashboard:
            path = os.environ.get("RAY_AUTH_TOKEN_PATH")
            how = f"cat {path}" if path else f"{typed_command('ray')} get-auth-token"
            ask = f"   (asks for a token: {how})"
            tell(f"dashboard {cluster.dashboard}{ask if cluster.has_token else ''}")
        tell(f"report    {run}/report.html   (after the first finished trial; it reloads itself)")
        tell(f"curves    {typed_command('tensorboard')} --logdir {run}/tensorboard")
        study = noted_url(self.folder) or f"sqlite:///{run}/study.db"
        dashboard = typed_command("optuna-dashboard")
        missing = "" if find_spec("optuna_dashboard") else "   (pip install '.[dashboards]')"
        tell(f"study     {dashboard} {study}{missing}")

    def _end_interrupted(self) -> int:
        """Say how to go on. Unfinished trials stay unfinished: a resume begins with them."""
        number = self.interruptions.number or signal.SIGINT
        self.artifacts.write_unfinished("interrupted", signal.Signals(number).name)
        done = self._tally() if self.study.trials else "no trial had begun"
        self.console.say(f"interrupted; nothing is lost. {done}")
        if ranked := self.artifacts.ranked():
            self.console.say(f"best so far: {self._describe(ranked[0])}")
        self.console.say(f"resume: {self._resume_command()}")
        return self.interruptions.exit_code

    def _repeat_result(self) -> int:
        """Say again what a search found that has ended."""
        study = self.study
        summary = read_existing(self.folder.summary, Summary)
        more = f"A new search can learn from it: --warm-start {shown_path(self.folder.path)}."
        if study.stop.epochs and epochs_trained(study.trials) >= study.stop.epochs:
            more = "More with --epochs N."
        elif len(study.trials) >= study.wanted:
            more = "More with --trials N."
        elif study.stop.time:
            more = "More time with --time-budget T, or a new search with --warm-start."
        self.console.say(f"{self.folder.name} has ended: {summary.stop_reason}. {more}")
        # A better trial's checkpoint may have been damaged: the exported one is in the summary.
        number = summary.best.trial if summary.best else None
        with read_as_ours(self.folder.path):
            (best,) = [best for best in study.ranked if best.trial.number == number]
        self._say_result(best)
        self.console.say(f"report: {shown_path(self.folder.report)}")
        return 0

    def _say_result(self, best: Best) -> None:
        self.console.say(
            f"best: {self._describe(best)} at epoch {best.epoch.epoch}   ({self._tally()})",
            "bold green",
        )
        for remark in self.artifacts.remarks():
            self.console.say(f"hint: {remark}", "yellow")

    def _describe(self, best: Best) -> str:
        return f"trial {best.trial.number}, {self.study.objective.metric} {score(best.value)}"

    def _tally(self) -> str:
        return tally(self.study.trials, self.search.space.search.max_epochs)

    def _resume_command(self) -> str:
        address = self.search.options.address
        joined = f" --address {address}" if address else ""
        search = typed_script("tuning/search.py")
        return f"{search} --resume {typed_path(self.folder.path)}{joined}"
