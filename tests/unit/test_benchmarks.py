"""What `make bench` is made of, without running it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.bench_direct import Controller, afterwards
from benchmarks.measure import ratio, run, spread
from benchmarks.meter import LIMITS, Meter, Window, buckets, figures, followed
from benchmarks.task import Done, Task

ROOT = Path(__file__).resolve().parents[2]


def test_a_task_and_what_came_of_it_survive_their_way_through_a_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = Task(128, 64, 2, 3, "/a folder/of 'data'")
    assert Task.from_json(task.as_json()) == task
    done = Done(10.0, 25.5, [[14.0, 16.0, 19.0], [15.0, 18.0]], 0.97)
    print("a library says something", end="")
    done.tell()
    print("and something more")
    assert Done.heard(capsys.readouterr().out) == done
    assert done.seconds == 15.5
    assert done.steady == [2.0, 3.0, 3.0]


def test_a_command_that_fails_is_no_measurement() -> None:
    assert run("-c", "print(6)").output == "6\n"
    with pytest.raises(RuntimeError, match=r"ended with 3:\nno data"):
        run("-c", "import sys; print('no data'); sys.exit(3)")


def test_a_spread_has_median_range_and_n() -> None:
    assert spread([1.0, 3.0, 2.0]) == "2.00 s (1.00 to 3.00, n = 3)"
    assert ratio([2.0, 4.0, 9.0], [1.0, 2.0, 8.0]) == 2.0


def test_windows_leave_no_trial_out() -> None:
    assert buckets(1000, 250) == [(0, 250), (250, 500), (500, 750), (750, 1000)]
    assert buckets(1001, 1000) == [(0, 1000), (1000, 1001)]


def test_a_search_without_ray_is_measured_to_its_end(tmp_path: Path) -> None:
    meter = Meter([0, 6, 12])
    search = {"trials": 12, "epochs": 3, "sampler": "random", "scheduler": "none", "stop": LIMITS}
    ground = followed(tmp_path, meter, 4, [], **search)
    meter.mark()
    Controller(ground, meter).run()
    assert [len(trial.epochs) for trial in ground.study.trials] == [3] * 12
    found = figures(
        meter, [Window(meter.marks[0], meter.marks[6]), Window(meter.marks[6], meter.marks[12])], 4
    )
    assert sum(found["results"]) == 36
    assert found["files_mb"]["trials.csv"][0] < found["files_mb"]["trials.csv"][1]
    assert all(ms > 0 for ms in afterwards(ground).values())


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there may be a GPU")
def test_without_a_gpu_its_benchmark_says_so_and_is_no_failure() -> None:
    done = subprocess.run([ROOT / "benchmarks" / "gpu.sh"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "no GPU here: nothing was run\n")
