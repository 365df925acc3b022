"""Writes each trial's curves, hyperparameters and outcome for TensorBoard while a search runs."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

# `plugins.hparams.api` has the same function, but imports TensorFlow
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from text_recognizer.metrics import Objective
from text_recognizer.text import printable
from tuning.trials import Trial

EVENT_FILES = "events.out.tfevents.*"  # TensorBoard finds its files by this name


class Curves:
    """Follows the study and writes one event file for each trial, in a folder named by its number.

    If the disk fails, the curves end with one note, and the search goes on.

    Args:
        folder: holds the folders of all trials; created with the first trial.
        objective: `best_<metric>` is written next to the metrics, for the HParams page.
        note: called with a sentence if nothing more can be written.
    """

    def __init__(self, folder: Path, objective: Objective, note: Callable[[str], None]) -> None:
        self.folder = folder
        self.objective = objective
        self.note = note
        self._open_trials: dict[int, tuple[Path, int]] = {}  # number -> file, epochs in it
        self._failed = False

    def catch_up(self, trials: Iterable[Trial]) -> None:
        """Write the files of all recorded trials again."""
        # An earlier process may have died in the middle of a write. 1,000 trials of 5 epochs take
        # 0.6 s.
        for trial in trials:
            # a trial without epochs may lack parameters until it is handed out again
            if trial.epochs or trial.outcome:
                self.on_change(trial)

    def on_change(self, trial: Trial) -> None:
        """Write the news of a trial: its parameters, epochs and outcome."""
        if self._failed:
            return
        try:
            followed = self._open_trials.pop(trial.number, None)
            path, known = followed or (self._new_file(trial.number), None)
            # An append takes 0.04 ms for each epoch. TensorBoard's `EventFileWriter` takes 0.16 ms
            # and a thread for each trial, which prints a traceback when the disk is full.
            with path.open("ab") as file:
                writer = RecordWriter(file)
                for event in self._events(trial, known):
                    writer.write(event.SerializeToString())
        except OSError as error:
            self._failed = True  # for good: a full disk would give a note for each epoch
            self.note(
                f"no more curves for TensorBoard: {self.folder}: {error.strerror}; the search "
                "goes on"
            )
            return
        if not trial.outcome:
            self._open_trials[trial.number] = path, len(trial.epochs)

    def _new_file(self, number: int) -> Path:
        """Delete a trial's files and name a new one."""
        folder = self.folder / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(EVENT_FILES):
            old.unlink()
        # A new name, because a TensorBoard that has read the old file does not read it again.
        return folder / EVENT_FILES.replace("*", f"{time.time():.6f}")

    def _events(self, trial: Trial, known: int | None) -> Iterator[Event]:
        """The events that a trial's file lacks: parameters, epochs and outcome.

        Args:
            known: how many epochs are in the file; None if the file is new.
        """
        if known is None:
            start = trial.epochs[0].time if trial.epochs else time.time()
            yield Event(wall_time=start, file_version="brain.Event:2")  # each file begins with it
            params = {
                name: value if isinstance(value, int | float) else printable(str(value))
                for name, value in trial.params.items()
            }
            # No experiment summary (`hparams_config_pb`) is written: TensorBoard would take the
            # list of parameters from one trial, and hide the conditional ones that this trial does
            # not have. Without such a list it collects the parameters of all trials.
            hparams = hparams_pb(params, trial_id=str(trial.number), start_time_secs=start)
            yield Event(wall_time=start, summary=hparams)
        metric = self.objective.metric
        best: float | None = None
        for i, epoch in enumerate(trial.epochs):
            scalars = dict(epoch.metrics)
            if self.objective.is_better(scalars[metric], best):
                best = scalars[metric]
            if best is not None:
                # The HParams page shows the last value of a metric: that of the last epoch would
                # not be the trial's result.
                scalars[f"best_{metric}"] = best
            if i >= (known or 0):
                values = [Summary.Value(tag=tag, simple_value=x) for tag, x in scalars.items()]
                yield Event(wall_time=epoch.time, step=epoch.epoch, summary=Summary(value=values))
        if trial.outcome:
            outcome = printable(f"{trial.status}: {trial.cause}".removesuffix(": "))
            end = trial.epochs[-1].time if trial.epochs else time.time()
            yield Event(wall_time=end, step=len(trial.epochs), summary=text_pb("outcome", outcome))
