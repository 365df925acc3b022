"""What `make bench` and `make bench-search` are made of, without running them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_direct import Controller, afterwards
from benchmarks.measure import ratio, run, spread
from benchmarks.meter import LIMITS, Meter, Window, buckets, figures, followed
from benchmarks.search.arms import OurPolicy, search_space
from benchmarks.search.report import report
from benchmarks.search.simulation import Job, Turn, arms, simulate
from benchmarks.search.tasks import Space, Table, Task, cube_point, sample, tasks
from benchmarks.task import Done
from benchmarks.task import Task as PeerTask

ROOT = Path(__file__).resolve().parents[2]


def test_a_task_and_what_came_of_it_survive_their_way_through_a_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = PeerTask(128, 64, 2, 3, "/a folder/of 'data'")
    assert PeerTask.from_json(task.as_json()) == task
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


def small_task(epochs: int = 9) -> Task:
    """Sixty curves that rise towards a value of their point."""
    points = np.random.default_rng(0).random((60, 2))
    heights = 0.9 - np.square(points - 0.4).sum(axis=1)
    values = heights[:, None] * (1 - 0.5 ** np.arange(1, epochs + 1))
    space: Space = {
        "a": {"type": "float", "low": 0.0, "high": 1.0},
        "b": {"type": "float", "low": 0.0, "high": 1.0},
    }
    return Table(space, points, values, np.ones(2)).task("small", "short", "val_acc")


def test_a_table_gives_the_nearest_curve_that_it_did_not_give_before() -> None:
    space: Space = {
        "lr": {"type": "float", "low": 0.001, "high": 0.1, "log": True},
        "optimizer": {"type": "categorical", "choices": ["Adam", "SGD", "Adagrad"]},
    }
    recorded = [(0.01, "Adam"), (0.05, "Adam"), (0.001, "SGD"), (0.01, "Adagrad")]
    points = [cube_point(space, {"lr": lr, "optimizer": name}) for lr, name in recorded]
    values = np.arange(4.0)[:, None]
    asked = {"lr": 0.012, "optimizer": "Adam"}
    curve = Table(space, np.array(points), values, np.ones(2)).lookup()
    # all choices are equally far from each other; once all curves were given, it begins again
    assert [float(curve(asked)[0]) for _ in range(5)] == [0, 1, 3, 2, 0]
    # a parameter of little weight decides little
    light = Table(space, np.array(points), values, np.array([1.0, 0.01])).lookup()
    assert [float(light(asked)[0]) for _ in range(4)] == [0, 3, 1, 2]


def test_regret_is_of_the_distance_between_best_and_median_whichever_way_is_better() -> None:
    values = np.array([[0.2, 0.9], [0.8, 0.5], [0.6, 0.1]])
    table = Table({}, np.zeros((3, 0)), values, np.zeros(0))
    highest, lowest = (table.task("t", "short", metric) for metric in ("val_acc", "val_loss"))
    assert (highest.best, highest.median) == (0.9, 0.8)
    assert (lowest.best, lowest.median) == (0.1, 0.2)
    assert highest.regret(0.85) == pytest.approx(50)
    assert lowest.regret(0.25) == pytest.approx(150)


class Waiting:
    """Three trials: the first waits after two epochs, and goes on when the second was stopped."""

    def __init__(self) -> None:
        self.turns = [Turn(0, {"a": 0.4, "b": 0.4}), Turn(1, {"a": 1.0, "b": 1.0})]
        self.turns += [Turn(0, {"a": 0.4, "b": 0.4}, 2)]
        self.reported: list[tuple[int, int, float]] = []

    def next(self) -> Turn:
        number = len(self.reported)
        return self.turns.pop(0) if self.turns else Turn(number, {"a": 0.0, "b": 0.0})

    def report(self, number: int, epoch: int, value: float) -> bool:
        self.reported.append((number, epoch, value))
        return (number, epoch) not in ((0, 2), (1, 1))


def test_a_trial_that_waited_goes_on_where_it_was() -> None:
    task, policy = small_task(3), Waiting()
    outcome = simulate(task, policy, 1)
    numbers = [(number, epoch) for number, epoch, _ in policy.reported[:5]]
    assert numbers == [(0, 1), (0, 2), (1, 1), (0, 3), (4, 1)]
    of_first = [value for number, _, value in policy.reported if number == 0]
    assert of_first == list(task.curves()({"a": 0.4, "b": 0.4}))  # one curve, not two
    assert len(policy.reported) == 20 * 3
    # 4 epochs for the two, then 18 trials of 3 epochs and 2 epochs of another
    assert (outcome.configs, outcome.full) == (21, 19)
    assert outcome.best == [max(of_first)] * 3


def test_our_policy_and_rays_are_simulated_to_the_end_of_the_budget() -> None:
    task, known = small_task(), arms()
    ours = known["ours"](task, 4, 0)
    outcomes = {"ours": simulate(task, ours, 4)}
    outcomes["stock"] = simulate(task, known["stock"](task, 4, 0), 4)
    for outcome in outcomes.values():
        assert outcome.best == sorted(outcome.best)
        assert 0 <= task.regret(outcome.best[-1]) < 50
        assert 1 <= outcome.full < outcome.configs / 2  # most were stopped, or wait
    assert isinstance(ours, OurPolicy)
    begun = [trial for trial in ours.study.trials if trial.epochs]
    assert sum(len(trial.epochs) for trial in begun) == 20 * task.max_epochs
    assert len(begun) == outcomes["ours"].configs
    assert max(trial.epochs[-1].metrics["val_acc"] for trial in begun) == outcomes["ours"].best[-1]
    record = asdict(Job("ours", "short", "digits_mlp", 4, 0)) | asdict(outcomes["ours"])
    other = {**record, "arm": "stock", "best": [value - 0.1 for value in record["best"]]}
    text = report([{**one, "cpu": 1.0} for one in (record, other)], "command")
    assert "| ours | -" in text.partition("minus stock")[2]  # less regret, better in all
    assert ", 100 / 0 |" in text.partition("minus stock")[2]


def test_the_recorded_tables_belong_to_their_spaces() -> None:
    for task in tasks("short").values():
        assert task.median < task.best <= 1
        curve = task.curves()(sample(task.space, np.random.default_rng(0)))
        assert len(curve) == task.max_epochs >= 9
        assert search_space(task, {"asha": {"grace_epochs": 2}}).search.rungs()[0] == 2
