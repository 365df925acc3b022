"""Each trial's curves and hyperparameters for TensorBoard, written as the search goes: `tensorboard
--logdir RUN/tensorboard`.

One event file a trial, under its number. The study is the record: these files are made from it, and
made again where a kill has torn one. No file stays open: what is written is there for TensorBoard,
and a thousand trials hold nothing.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.text.metadata import create_summary_metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from text_recognizer.metrics import Objective
from text_recognizer.text import printable
from tuning.trials.trial import RANKED, Trial

FILES = "events.out.tfevents.*"  # how TensorBoard knows them


class Curves:
    """A listener for the study that follows every trial. A disk that fails ends the curves, never
    the search.

    Args:
        folder: of all trials' curves; made when there is something to write.
        objective: what the trials are judged by; `best_<metric>` is the best of it so far.
        note: told once, where nothing more can be written.
    """

    def __init__(self, folder: Path, objective: Objective, note: Callable[[str], None]) -> None:
        self.folder = folder
        self.objective = objective
        self.note = note
        # trials that have not ended: their file, and what it says of them
        self._following: dict[int, tuple[Path, Trial]] = {}
        self._stopped = False

    def catch_up(self, trials: Iterable[Trial]) -> None:
        """Make the files right at the start of a session: an earlier one may have ended at any
        moment, or on a full disk.
        """
        with self._or_stop():
            for trial in trials:
                if trial.outcome is None or not self._is_whole(trial):
                    self._write_anew(trial)

    def on_change(self, trial: Trial) -> None:
        """Write what is new of a trial: that it began, its epochs, how it ended."""
        if self._stopped:
            return
        with self._or_stop():
            following = self._following.get(trial.number)
            if following and following[1].params == trial.params:
                path, before = following
                append(path, self._events(trial, before))
                self._follow(trial, path)
            else:  # new, or killed before all of its parameters were recorded
                self._write_anew(trial)

    @contextmanager
    def _or_stop(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._stopped = True
            self.note(
                f"no more curves for TensorBoard: {self.folder}: {error.strerror or error}; the "
                "search goes on"
            )

    def _write_anew(self, trial: Trial) -> None:
        """A new file in place of what is there, under a new name: a TensorBoard that reads the
        old one goes on to it.
        """
        folder = self.folder / str(trial.number)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(FILES):
            old.unlink()
        path = folder / FILES.replace("*", f"{time.time():.6f}")
        append(
            path,
            [
                Event(wall_time=started(trial), file_version="brain.Event:2"),
                start_event(trial),
                *self._events(trial),
            ],
        )
        self._follow(trial, path)

    def _follow(self, trial: Trial, path: Path) -> None:
        if trial.outcome:
            self._following.pop(trial.number, None)
        else:
            self._following[trial.number] = path, trial

    def _events(self, trial: Trial, before: Trial | None = None) -> Iterator[Event]:
        """What happened in a trial since it was as `before`."""
        known, best = len(before.epochs) if before else 0, None
        for i, epoch in enumerate(trial.epochs):
            value = epoch.metrics[self.objective.metric]
            best = value if self.objective.is_better(value, best) else best
            if i >= known:
                so_far = {} if best is None else {f"best_{self.objective.metric}": best}
                yield scalars_event(epoch.metrics | so_far, epoch.epoch, epoch.time)
        if trial.outcome:
            yield end_event(trial)

    def _is_whole(self, trial: Trial) -> bool:
        """Whether a trial that has ended has one file, which ends as the trial did."""
        files = list((self.folder / str(trial.number)).glob(FILES))
        end = record_of(end_event(trial))
        if len(files) != 1:
            return False
        with files[0].open("rb") as file:
            file.seek(max(0, files[0].stat().st_size - len(end)))
            return file.read() == end


def append(path: Path, events: Iterable[Event]) -> None:
    """Write events at the end of a file, in one go. Raises OSError."""
    records = b"".join(record_of(event) for event in events)
    with path.open("ab") as file:
        file.write(records)


def record_of(event: Event) -> bytes:
    """An event as it stands in a file: with its length and its checksums."""
    record = io.BytesIO()
    RecordWriter(record).write(event.SerializeToString())
    return record.getvalue()


def start_event(trial: Trial) -> Event:
    """A trial's parameters for the HParams page.

    No `Experiment` goes with them: of several TensorBoard takes any one, which lacks what applies
    in other trials only. Without one it gathers parameters and metrics from all trials.
    """
    info = plugin_data_pb2.SessionStartInfo(start_time_secs=started(trial))
    for name, value in trial.params.items():
        put(info.hparams[name], value)
    value = hparams_value(metadata.SESSION_START_INFO_TAG, session_start_info=info)
    return Event(wall_time=started(trial), summary=Summary(value=[value]))


def put(target: Any, value: Any) -> None:
    """Give a protobuf `Value` a parameter's value; what is neither true, false nor a number goes
    as text.
    """
    if isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = value
    else:
        target.string_value = printable(str(value))


def scalars_event(values: Mapping[str, float], step: int, at: float) -> Event:
    """Metrics of one epoch; those that are not finite are shown as such. `at`: seconds since
    1970.
    """
    scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
    return Event(wall_time=at, step=step, summary=Summary(value=scalars))


def end_event(trial: Trial) -> Event:
    """How a trial ended: whether well, for the HParams page, and its outcome as text. A function
    of the record alone.
    """
    at, step = (trial.epochs[-1].time, trial.epochs[-1].epoch) if trial.epochs else (0.0, 0)
    status = api_pb2.STATUS_SUCCESS if trial.outcome in RANKED else api_pb2.STATUS_FAILURE
    info = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=at)
    outcome = printable(": ".join(part for part in (trial.status, trial.cause) if part))
    values = [
        hparams_value(metadata.SESSION_END_INFO_TAG, session_end_info=info),
        text_value("outcome", outcome),
    ]
    return Event(wall_time=at, step=step, summary=Summary(value=values))


def hparams_value(tag: str, **content: Any) -> Summary.Value:
    """Content for the HParams page."""
    about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**content))
    return Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)


def text_value(tag: str, text: str) -> Summary.Value:
    """Content for the Text page."""
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
    return Summary.Value(tag=tag, metadata=text_metadata(tag, ""), tensor=tensor)


def started(trial: Trial) -> float:
    """When a trial began, as far as it is known, seconds since 1970: the first epoch's time,
    else now.
    """
    return trial.epochs[0].time if trial.epochs else time.time()
