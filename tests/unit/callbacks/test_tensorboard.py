"""What TensorBoard reads of a search, through its own readers, against the study in a real
SQLite file.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import (
    api_pb2,
    backend_context,
    get_experiment,
    list_session_groups,
)

from tuning.callbacks.tensorboard import EVENT_FILES, Curves
from tuning.space.reader import read_space
from tuning.space.search_space import SearchSpace
from tuning.study.optuna_record import create_record, load_record
from tuning.study.study import Study
from tuning.trials.trial import Epoch, Outcome, Trial

NAN, INF = math.nan, math.inf
EVERY_TYPE = """
space:
  fc1: {type: int, low: 8, high: 64}
  lr: {type: float, low: 1e-4, high: 1e-1, log: true}
  augment: {type: categorical, choices: [true, false]}
  optimizer: {type: categorical, choices: [Adam, SGD]}
  momentum: {type: float, low: 0.0, high: 0.9, when: {optimizer: SGD}}
  clip: {type: categorical, choices: [null, 0.5, auto]}
search:
  sampler: random
  start_with:
  - {fc1: 8, lr: 0.001, augment: true, optimizer: Adam, clip: null}
  - {fc1: 9, lr: 0.001, augment: false, optimizer: SGD, momentum: 0.5, clip: 0.5}
  - {fc1: 9, lr: 0.001, augment: false, optimizer: SGD, momentum: 0.5, clip: auto}
"""


class Search:
    """A study with its curves, and what may befall them."""

    def __init__(self, folder: Path, space: SearchSpace, url: str) -> None:
        self.folder = folder
        self.space = space
        self.url = url
        self.said: list[str] = []
        self.begin(Study(create_record(url, space, "s"), space, trials=9, retries=0))

    def begin(self, study: Study) -> None:
        """A process starts to work on it."""
        self.study = study
        self.curves = Curves(self.folder, study.objective, self.said.append)
        self.curves.catch_up(study.trials)
        study.callbacks.append(self.curves)

    def resume(self) -> None:
        """The driver was killed, and another goes on."""
        self.begin(Study(load_record(self.url, "s"), self.space, trials=9))

    def train(self, *values: float, outcome: Outcome | None = None) -> Trial:
        """The next trial, its epochs from the first that it has not, and its end, where it has
        one.
        """
        trial = self.study.next_trial()
        assert trial is not None
        for i, value in enumerate(values, len(trial.epochs) + 1):
            self.study.record_epoch(
                trial.number, Epoch(i, {"val_acc": value, "val_loss": 1 - value}, time=1000.0 + i)
            )
        if outcome:
            self.study.close(trial.number, outcome, "why")
        return self.study.trial(trial.number)

    def file(self, number: int) -> Path:
        (path,) = (self.folder / str(number)).glob(EVENT_FILES)
        return path


@pytest.fixture
def search(tmp_path: Path, space: SearchSpace, database: Path) -> Search:
    return Search(tmp_path / "tensorboard", space, f"sqlite:///{database}")


def scalars(folder: Path, number: int) -> dict[str, list[tuple[int, float, float]]]:
    """Metric -> step, value and time of its events, as TensorBoard reads them."""
    events = EventAccumulator(str(folder / str(number))).Reload()
    return {
        tag: [(e.step, e.value, e.wall_time) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def steps(folder: Path, number: int) -> list[int]:
    return [step for step, _, _ in scalars(folder, number).get("val_acc", [])]


def outcome_text(folder: Path, number: int) -> str:
    (event,) = EventAccumulator(str(folder / str(number))).Reload().Tensors("outcome")
    return event.tensor_proto.string_val[0].decode()


def hparams_page(folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The trials as TensorBoard's HParams page shows them, and its metrics."""
    runs = EventMultiplexer().AddRunsFromDirectory(str(folder))
    runs.Reload()
    context = backend_context.Context(
        TBContext(data_provider=MultiplexerDataProvider(runs, str(folder)))
    )
    statuses = [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE]
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=100, allowed_statuses=statuses
    )
    found = list_session_groups.Handler(RequestContext(), context, "", request).run()
    experiment = get_experiment.Handler(
        RequestContext(), context, "", api_pb2.GetExperimentRequest()
    ).run()
    groups = json.loads(json_format.MessageToJson(found))["sessionGroups"]
    return {group["name"]: group for group in groups}, [
        metric.name.tag for metric in experiment.metric_infos
    ]


def as_recorded(trial: Trial, metric: str) -> list[tuple[int, float, float]]:
    # which is how TensorBoard keeps it
    return [(e.epoch, float(np.float32(e.metrics[metric])), e.time) for e in trial.epochs]


@pytest.mark.parametrize("outcome", [Outcome.COMPLETE, Outcome.FAILED])
def test_curves_are_the_studys_epochs_however_a_trial_ends(
    outcome: Outcome, search: Search
) -> None:
    trial = search.train(0.5, 0.9, 0.7, outcome=outcome)
    found = scalars(search.folder, 0)
    assert found == {name: as_recorded(trial, name) for name in ("val_acc", "val_loss")} | {
        "best_val_acc": found["best_val_acc"]
    }
    assert [value for _, value, _ in found["best_val_acc"]] == [
        float(np.float32(value)) for value in (0.5, 0.9, 0.9)
    ]
    assert outcome_text(search.folder, 0) == f"{outcome}: why"


def test_an_epoch_can_be_seen_when_recording_returns_and_no_file_stays_open(search: Search) -> None:
    for number in range(3):
        for epochs in range(1, 4):
            search.study.record_epoch(
                search.train().number if epochs == 1 else number, Epoch(epochs, {"val_acc": 0.5})
            )
            assert steps(search.folder, number) == list(range(1, epochs + 1))
    assert not [
        path for path in Path("/proc/self/fd").iterdir() if "tfevents" in str(path.resolve())
    ]


def test_parameters_of_any_type_are_on_the_hparams_page_with_the_best_value(
    tmp_path: Path, database: Path, space_file: Callable[[str], Path]
) -> None:
    search = Search(
        tmp_path / "tensorboard", read_space(space_file(EVERY_TYPE)), f"sqlite:///{database}"
    )
    for value in (0.5, 0.75, 0.25):
        search.train(value, value - 0.125, outcome=Outcome.COMPLETE)
    trials, metrics = hparams_page(search.folder)
    common = {"lr": 0.001, "augment": False, "optimizer": "SGD", "momentum": 0.5, "fc1": 9.0}
    assert trials["0"]["hparams"] == {
        "fc1": 8.0,
        "lr": 0.001,
        "augment": True,
        "optimizer": "Adam",
        "clip": "None",
    }
    assert trials["0"]["hparams"]["augment"] is True, "and not 1"
    assert trials["1"]["hparams"] == common | {"clip": 0.5}
    assert trials["2"]["hparams"] == common | {"clip": "auto"}
    assert metrics[0] == "best_val_acc", "the one that the page shows unasked"
    shown = {
        name: next(m["value"] for m in t["metricValues"] if m["name"]["tag"] == metrics[0])
        for name, t in trials.items()
    }
    assert shown == {"0": 0.5, "1": 0.75, "2": 0.25}


def test_values_that_are_not_finite_are_shown_and_never_best(search: Search) -> None:
    search.train(NAN, 0.5, INF, NAN, outcome=Outcome.DIVERGED)
    found = scalars(search.folder, 0)
    np.testing.assert_equal([value for _, value, _ in found["val_acc"]], [NAN, 0.5, INF, NAN])
    assert [(step, value) for step, value, _ in found["best_val_acc"]] == [
        (2, 0.5),
        (3, 0.5),
        (4, 0.5),
    ]
    assert hparams_page(search.folder)[0]["0"]["hparams"].keys() == {"fc1", "lr"}, (
        "the page digests them"
    )


def test_a_trial_that_is_tried_again_has_its_epochs_once(search: Search) -> None:
    search.study.retries = 1
    search.train(0.1, 0.2, outcome=Outcome.FAILED)
    search.train(0.3, outcome=Outcome.COMPLETE)
    assert len(search.study.trials) == 1
    assert steps(search.folder, 0) == [1, 2, 3]


def test_a_resume_goes_on_where_the_record_ends(search: Search) -> None:
    search.train(0.1, outcome=Outcome.COMPLETE)
    search.train(0.2, 0.3)
    killed = search.file(1)
    killed.write_bytes(killed.read_bytes()[:-30])  # in the middle of its last epoch
    assert steps(search.folder, 1) == [1]
    search.resume()
    assert steps(search.folder, 0) == [1]
    assert steps(search.folder, 1) == [1, 2], "already before it is handed out"
    assert search.file(1) != killed, "a TensorBoard that has read the old file goes on to this one"
    search.train(0.4, outcome=Outcome.COMPLETE)
    assert steps(search.folder, 1) == [1, 2, 3]


@pytest.mark.parametrize("damage", ["folder gone", "torn at its end", "one file too many"])
def test_a_resume_mends_the_files_of_ended_trials(damage: str, search: Search) -> None:
    search.train(0.1, 0.2, outcome=Outcome.STOPPED_EARLY)
    search.train(outcome=Outcome.OUT_OF_MEMORY)  # without an epoch
    path = search.file(0)
    match damage:
        case "folder gone":
            shutil.rmtree(search.folder)
        case "torn at its end":
            path.write_bytes(path.read_bytes()[:-1])
        case "one file too many":
            shutil.copy(path, path.with_name("events.out.tfevents.2"))
    search.resume()
    assert search.file(0), "there is one"
    assert steps(search.folder, 0) == [1, 2]
    assert outcome_text(search.folder, 0) == "stopped_early: why"
    assert outcome_text(search.folder, 1) == "out_of_memory: why"


def test_parameters_that_a_kill_kept_from_the_record_are_there_once_it_goes_on(
    search: Search,
) -> None:
    load_record(search.url, "s").ask()  # and killed before the first parameter
    search.resume()
    trial = search.train(0.5)
    assert trial.number == 0
    assert hparams_page(search.folder)[0]["0"]["hparams"] == pytest.approx(trial.params)


def test_a_folder_that_cannot_be_written_ends_the_curves_and_not_the_search(search: Search) -> None:
    search.folder.write_text("a file")
    for value in (0.1, 0.2):
        search.train(value, outcome=Outcome.COMPLETE)
    (note,) = search.said
    assert "no more curves for TensorBoard" in note
    assert str(search.folder) in note
    assert "the search goes on" in note
    search.folder.unlink()
    search.train(0.3, outcome=Outcome.COMPLETE)
    assert not search.folder.exists(), "for good"
    search.resume()
    assert [steps(search.folder, number) for number in range(3)] == [[1], [1], [1]], (
        "and the next session makes it right"
    )


def test_a_disk_that_fails_in_the_middle_leaves_what_was_written(search: Search) -> None:
    search.train(0.1, 0.2)
    path = search.file(0)
    kept = path.rename(path.with_name("kept"))
    path.mkdir()  # root writes to read-only files, but nobody to a folder
    search.study.record_epoch(0, Epoch(3, {"val_acc": 0.3, "val_loss": 0.7}))
    search.study.record_epoch(0, Epoch(4, {"val_acc": 0.4, "val_loss": 0.6}))
    assert len(search.said) == 1
    path.rmdir()
    kept.rename(path)
    assert steps(search.folder, 0) == [1, 2]
    assert len(search.study.trial(0).epochs) == 4
