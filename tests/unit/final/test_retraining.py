"""The final script without its trainings: what it refuses, and what it counts."""

from __future__ import annotations

import os
import signal

import pytest

from tests.unit.final.conftest import Start
from text_recognizer.command import exit_code_of
from text_recognizer.data.digits import Digits
from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import DataError, InputError, RunError
from tuning import retrain
from tuning.run.folder import RunFolder
from tuning.run.lock import locked
from tuning.run.options import Options
from tuning.run.resources import Node
from tuning.study.optuna_record import open_study, set_attr
from tuning.verification import preflight


@pytest.mark.parametrize("seeds", ["101", "two"])
def test_the_seeds_are_a_number_and_no_more_than_a_hundred(seeds: str, run: RunFolder) -> None:
    with pytest.raises((InputError, SystemExit)):
        retrain.main([str(run.path), "--seeds", seeds])


def test_a_run_that_another_process_works_on_is_refused(run: RunFolder, no_ray: None) -> None:
    with locked(run), pytest.raises(RunError, match=f"process {os.getpid()}"):
        retrain.main([str(run.path)])


def test_other_data_than_was_searched_on_is_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Digits().load_trainval()
    monkeypatch.setattr(
        Digits, "load_trainval", lambda _: BaseDataset(real.images.flip(0), real.labels)
    )
    with pytest.raises(RunError, match="Digits is not the data that the search used"):
        start().searched_data()


@pytest.mark.parametrize("folder", ["", "~nobody-of-this-name/data"])
def test_a_data_folder_that_can_be_none_is_refused(folder: str, start: Start) -> None:
    with pytest.raises(InputError, match="data_dir"):
        start(data_dir=folder)


def test_no_gpu_and_too_few_trials_are_said(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "machine", lambda: Node(2, 0))
    said: list[str] = []
    start(said, top=5, options=Options(gpus_per_trial=0.5))
    assert said == [
        "note: no GPU here: training on the CPUs",
        "note: only 2 trials of this run can be best",
    ]


def test_the_seeds_begin_with_the_searchs(start: Start, run: RunFolder) -> None:
    assert start(seeds=3).seeds == [0, 1, 2]
    last = run.best_config.read_text().replace("seed: 0", f"seed: {2**32 - 1}")
    run.best_config.write_text(last)
    run.summary.write_text(run.summary.read_text().replace('"sha256"', '"unread"'))
    assert start().seeds == [2**32 - 1, 0]


def test_a_reading_of_the_test_set_is_recorded_before_it_happens(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> BaseDataset:
        raise DataError("the disk is gone")

    monkeypatch.setattr(Digits, "load_test", broken)
    work = start()
    assert work.reads == 1
    with pytest.raises(DataError):
        work.test(work.configs[0], [], [], 0)
    assert start().reads == 2


def test_a_count_of_readings_that_is_no_number_is_refused(start: Start, run: RunFolder) -> None:
    set_attr(open_study(run), "test_reads", "often")
    with pytest.raises(RunError, match="damaged"):
        start()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_work_with_its_exit_code(
    number: signal.Signals, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = start()
    monkeypatch.setattr(os, "umask", lambda _: 0)  # it would outlive the test
    monkeypatch.setattr(work, "workers", lambda *_: signal.raise_signal(number))
    assert exit_code_of(work.run) == 128 + number
