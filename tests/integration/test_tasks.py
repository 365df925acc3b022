"""Tasks on a real local Ray: results in order, and errors without Ray's traceback."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.conftest import FirstStart
from text_recognizer.errors import DataError, NoResultError, StorageError
from tuning.ray_backend.tasks import run_tasks
from tuning.run.resources import Slots

SLOTS = Slots(2, 1, 0.0)


def work(call: str, *, folder: Path) -> str:
    """Do what the call says; each call leaves a mark."""
    with (folder / call.split()[0]).open("a") as marks:
        marks.write(f"{os.environ['OMP_NUM_THREADS']}\n")
    if call.startswith("waits"):
        while not (folder / "quick").exists():
            pass
    if call == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if call == "bad data":
        raise DataError("the archive is damaged.")
    if call == "bad code":
        raise ZeroDivisionError("a bug\nwith a second line")
    if call == "full disk":
        raise OSError(28, "No space left on device")
    return call.upper()


@pytest.mark.usefixtures("cluster")
def test_results_are_in_the_order_of_the_calls_and_are_passed_on_as_they_come(
    tmp_path: Path,
) -> None:
    told: list[tuple[str, str]] = []
    found = run_tasks(
        work, ["waits", "quick"], {"folder": tmp_path}, SLOTS, lambda *done: told.append(done)
    )
    assert found == ["WAITS", "QUICK"]
    assert sorted(told) == [("quick", "QUICK"), ("waits", "WAITS")]
    assert (tmp_path / "quick").read_text() == "1\n", "as many threads as CPUs"


@pytest.mark.usefixtures("cluster")
def test_calls_share_a_process_on_one_gpu_but_not_on_several(first_start: FirstStart) -> None:
    assert "processes 1 for 3 calls on the one GPU" in first_start.ran.output
    ids = run_tasks(lambda call: os.getpid(), "abc", {}, Slots(2, 1, 1), lambda *_: None)
    assert len(set(ids)) == 3, "a process that has begun on one GPU would stay there"


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        ("bad data", DataError, "bad data: the archive is damaged."),
        ("bad code", NoResultError, "bad code: .*ZeroDivisionError: a bug$"),
        ("full disk", StorageError, "full disk: .*No space left on device"),
        ("dies", NoResultError, "dies: .*its process died twice"),
    ],
)
def test_an_error_names_the_call(
    call: str, kind: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=said) as error:
        run_tasks(work, ["fine", call], {"folder": tmp_path}, SLOTS, lambda *_: None)
    assert "\n" not in str(error.value)
    if call == "dies":
        assert (tmp_path / "dies").read_text().count("\n") == 2, "it is tried once more"
