"""What a worker reports of a trial, and what it must not: a disk or a node that fails, a GPU that is
dead or full of what ended trials left.
"""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ray import tune

from text_recognizer.data.digits import Digits
from text_recognizer.errors import InputError
from text_recognizer.metrics import Objective
from tuning.worker import guard, logged_cause, trial_log
from tuning.worker.guard import Report, run_guarded
from tuning.worker.trainable import TrialJob, as_dataset, limit_memory, run_trial, share_of_torch

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 GiB.")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a trial reports, without a worker; as in one that is new."""
    monkeypatch.setattr(guard, "failures", 0)
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(tune, "report", found.append)
    return found


@pytest.mark.parametrize("made", [(), ("trials",)])
def test_a_node_without_it_suspends_the_search_and_plants_nothing(
    made: tuple[str, ...], tmp_path: Path, told: list[dict[str, Any]]
) -> None:
    run = tmp_path / "mnt/run"
    for name in made:
        (run / name).mkdir(parents=True)
    job = TrialJob({}, Objective("val_acc", "max"), run / "trials", run / "logs", stall_limit=600)
    run_trial(
        {"number": 0, "params": {}, "history": []}, job=job, images=np.empty(0), labels=np.empty(0)
    )
    (end,) = told
    assert end.keys() == {"disk"}
    assert f"does not see {run}" in end["disk"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        {*made, *(("mnt", "run") if made else ())}
    )


@pytest.mark.parametrize(
    ("number", "where", "key"),
    [
        (errno.EIO, "trials/0/epoch-1.writing", "disk"),
        (errno.ESTALE, "logs", "disk"),
        (errno.EACCES, "trials", "disk"),
        (errno.ENOSPC, "/tmp/elsewhere", "disk"),
        (errno.EACCES, "/etc/shadow", "outcome"),
        (errno.ENOENT, None, "outcome"),
    ],
)
def test_what_the_file_system_says_of_it_is_no_trials_fault(
    number: int, where: str | None, key: str, tmp_path: Path, told: list[dict[str, Any]]
) -> None:
    folders = (tmp_path / "trials", tmp_path / "logs")
    for folder in folders:
        folder.mkdir()

    def work(report: Report) -> None:
        raise OSError(number, "what the disk says", str(tmp_path / where) if where else None)

    run_guarded(work, folders=folders)
    assert key in told[-1]


def failing(error: Exception) -> Callable[[Report], None]:
    """A trial's work that ends at once with this error."""

    def work(report: Report) -> None:
        raise error

    return work


def test_a_trial_that_raises_leaves_cause_traceback_and_what_its_worker_said(
    tmp_path: Path, told: list[dict[str, Any]]
) -> None:
    log = trial_log(tmp_path, 7)
    os.write(
        2, "".join(f"line {i}\x1b[31m\n" for i in range(30)).encode()
    )  # pytest has it in a file
    run_guarded(failing(ValueError("first \udc80\nsecond")), failure_log=log)
    run_guarded(failing(KeyError("no disk")), failure_log=tmp_path / "gone" / log.name)
    assert [end["cause"] for end in told] == ["ValueError: first \udc80", "KeyError: 'no disk'"]
    text = log.read_text()
    assert logged_cause(log) == text.splitlines()[0] == "ValueError: first \\udc80"
    assert "in failing\n" not in text
    assert "in work\n    raise error" in text
    assert "line 10\\x1b[31m\n" in text, "a terminal does not obey it"
    assert "line 29\\x1b" in text
    assert "line 9\\x1b" not in text
    assert list(tmp_path.iterdir()) == [log], "no half of a log"
    assert logged_cause(tmp_path / "none.txt") is None


class Ended(BaseException):
    """What stands for the end of the process."""


def in_one_worker(
    works: Sequence[Callable[[Report], None]], patch: pytest.MonkeyPatch, log: Path
) -> list[bool]:
    """Whether the process ends itself after each of these trials, in a new worker."""

    def end(code: int) -> None:
        raise Ended

    patch.setattr(os, "_exit", end)
    ends = []
    for work in works:
        try:
            run_guarded(work, failure_log=log)
            ends.append(False)
        except Ended:
            ends.append(True)
        except SystemExit:  # the scheduler stopped it
            ends.append(False)
    return ends


def test_the_third_failure_in_a_row_ends_the_process_unreported(
    tmp_path: Path, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(report: Report) -> None:
        raise SystemExit

    bad, full, fine = failing(ValueError("bad")), failing(FULL), lambda report: None
    works = [bad, bad, fine, bad, bad, stopped, bad, bad, full, bad, bad, bad]
    log = tmp_path / "trial-3.txt"
    assert in_one_worker(works, monkeypatch, log) == [False] * 11 + [True]
    assert len(told) == len(works) - 2, "neither the stopped nor the last one reported its end"
    assert logged_cause(log) == "ValueError: bad"


def test_a_dead_cuda_context_ends_the_process_at_its_first_failure(
    tmp_path: Path, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.device_count():
        pytest.skip("the GPU here works")
    # A context that began, and in which nothing can be computed: without a GPU that is easy.
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    error = torch.AcceleratorError("CUDA error: device-side assert triggered")
    log = tmp_path / "trial-3.txt"
    assert in_one_worker([lambda _: None, failing(error)], monkeypatch, log) == [False, True]
    assert told == [{"outcome": "complete", "cause": ""}]
    assert logged_cause(log) == "AcceleratorError: CUDA error: device-side assert triggered"


class Held:
    """What a trial has on the device, in a cycle as Lightning's objects are."""

    def __init__(self) -> None:
        self.cycle = self


@pytest.mark.parametrize(("full", "outcome"), [(1, "complete"), (2, "out_of_memory")])
def test_an_out_of_memory_is_believed_if_it_is_one_on_a_clean_device_too(
    full: int, outcome: str, told: list[dict[str, Any]]
) -> None:
    held: list[weakref.ref[Held]] = []

    def work(report: Report) -> None:
        assert not any(one() for one in held), "nothing of the first attempt is left"
        mine = Held()
        held.append(weakref.ref(mine))
        if len(held) <= full:
            raise torch.OutOfMemoryError(str(FULL))

    for _ in range(2):  # and nothing of the trial before
        run_guarded(work)
    assert [end["outcome"] for end in told] == [outcome, "complete"]
    assert len(held) == 3


def test_after_an_out_of_memory_a_trial_goes_on_from_what_it_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[int | str] = []

    def report(result: dict[str, Any]) -> None:
        epochs.append(result.get("epoch", result.get("outcome", "")))
        if epochs == [1, 2, 3, 4]:
            raise torch.OutOfMemoryError(str(FULL))

    monkeypatch.setattr(tune, "report", report)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    (tmp_path / "trials").mkdir()
    settings = {"data_class": "Digits", "max_epochs": 5, "gpus": 0, "fc1": 8, "fc2": 8}
    job = TrialJob(settings, Objective("val_acc", "max"), tmp_path / "trials", tmp_path, 600)
    data = Digits().trainval
    arrays = {"images": data.images.numpy(), "labels": data.labels.numpy()}
    run_trial({"number": 0, "params": {}, "history": []}, job=job, **arrays)
    assert epochs == [1, 2, 3, 4, 4, 5, "complete"]
    assert len(list(tmp_path.glob("trials/0/*"))) <= 2, "the newest, and the best of both attempts"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "", "it was given no GPU, and sees none"


def test_the_trials_of_a_worker_share_one_copy_of_the_data_and_none_on_a_cpu() -> None:
    images, labels = np.zeros((4, 1, 2, 2), np.uint8), np.zeros(4, np.int64)
    data = as_dataset(images, labels)
    assert as_dataset(images[:], labels[:]) is data, "views of the same memory"
    device = torch.device("meta")  # stands for a GPU
    assert data.to(device).images.device == device
    assert data.to(device) is data.to(device)
    on_cpu = data.to(torch.device("cpu"))
    assert (on_cpu.images.data_ptr(), on_cpu.labels.data_ptr()) == (
        images.ctypes.data,
        labels.ctypes.data,
    )
    assert as_dataset(images.copy(), labels) is not data


def test_a_share_of_a_gpu_holds_the_cuda_context_too() -> None:
    assert share_of_torch(0.5, 10e9) == pytest.approx(0.41)
    assert share_of_torch(1, 80e9) < 1
    with pytest.raises(InputError, match=r"`gpus-per-trial > 0.113, .* 8 GB` must hold.*0.1"):
        share_of_torch(0.1, 8e9)


def test_memory_is_limited_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of a GPU that this machine has not is no error here: Lightning refuses it."""
    limited: list[float] = []
    memory = SimpleNamespace(total_memory=10e9)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: memory)
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", limited.append)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    limit_memory(0.5)
    assert not limited
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    limit_memory(0.5)
    assert limited == [pytest.approx(0.41)]
