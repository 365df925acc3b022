"""How many trials fit: fractions of GPUs, CPUs, nodes."""

from __future__ import annotations

import math

import pytest

from text_recognizer.errors import InputError
from tuning.run.options import Options
from tuning.run.resources import Node, request_problems


@pytest.mark.parametrize(
    ("nodes", "options", "count", "gpus"),
    [
        ([Node(2, 0)], Options(), 2, 0),
        ([Node(2, 0)], Options(0.5), 2, 0),
        ([Node(8, 2)], Options(0.5), 4, 0.5),
        ([Node(8, 2)], Options(), 2, 1),
        ([Node(8, 2)], Options(0), 8, 0),
        ([Node(3, 2)], Options(0.5), 3, 0.5),
        ([Node(8, 1)], Options(0.166666666666667), 6, 0.166666666666667),
        ([Node(8, 1)], Options(0.4), 2, 0.4),
        ([Node(8, 2)], Options(0.4), 4, 0.4),
        ([Node(16, 1)], Options(0.1), 10, 0.1),
        ([Node(8, 1), Node(4, 0)], Options(0.5), 2, 0.5),
        ([Node(4, 0), Node(3, 0)], Options(None, 2), 3, 0),
        ([Node(8, 0)], Options(max_concurrent=3), 3, 0),
        ([Node(64, 0)], Options(max_concurrent=50), 30, 0),
        # each trial fits on one node
        ([Node(3, 0), Node(3, 0)], Options(None, 2), 2, 0),
        ([Node(0, 0), Node(2, 0)], Options(), 2, 0),
        ([Node(16, 0), Node(4, 2)], Options(0.5), 4, 0.5),
    ],
)
def test_slots_are_what_the_nodes_hold(
    nodes: list[Node], options: Options, count: int, gpus: float
) -> None:
    slots = options.slots(nodes, 30)
    assert (slots.count, slots.gpus) == (count, gpus)


def test_no_gpu_is_said_and_is_no_dead_end() -> None:
    assert "no GPU" in Options(0.5).slots([Node(2, 0)], 30).note
    assert Options().slots([Node(2, 0)], 30).note == ""


def test_gpus_that_fail_are_said_with_the_reason() -> None:
    broken, half = Node(2, 0, problem="GPU 0: too old"), Node(2, 1, problem="GPU 1: too old")
    for options in (Options(), Options(0.5)):
        slots = options.slots([broken], 30)
        assert (slots.count, slots.gpus) == (2, 0)
        assert slots.note == "no GPU here can be used: GPU 0: too old: searching on the CPUs"
    assert Options(0).slots([broken], 30).note == ""
    assert Options(0.5).slots([half], 30).note == "not all GPUs can be used: GPU 1: too old"


@pytest.mark.parametrize(
    ("nodes", "options", "note"),
    [
        ([Node(4, 8)], Options(0.5), "4 at once, the GPUs 16: --gpus-per-trial 1 gives each more"),
        ([Node(4, 1)], Options(0.1), "4 at once, the GPUs 10: --gpus-per-trial 0.25 gives"),
        ([Node(6, 1)], Options(0.1), "6 at once, the GPUs 10: --gpus-per-trial 0.166 gives"),
        ([Node(4, 8)], Options(1), "4 at once, the GPUs 8: more CPUs would use all GPUs"),
        ([Node(4, 2)] * 2, Options(0.5, 2), "4 at once, the GPUs 8: --cpus-per-trial 1 or less"),
        ([Node(4, 8)], Options(0.5, max_concurrent=4), ""),
        ([Node(16, 8)], Options(0.5), ""),
        ([Node(2, 8)], Options(0), ""),
    ],
)
def test_gpus_that_the_cpus_leave_idle_are_said(
    nodes: list[Node], options: Options, note: str
) -> None:
    slots = options.slots(nodes, 30)
    assert (note in slots.note) if note else not slots.note
    if "gives each" in note:
        share = float(note.split("per-trial ")[1].split()[0])
        assert Options(share).slots(nodes, 30).count == slots.count


@pytest.mark.parametrize(
    ("nodes", "options", "message"),
    [
        ([Node(2, 0)], Options(0.5, require_gpu=True), "--require-gpu: no node has a GPU"),
        (
            [Node(2, 0, problem="GPU 0: too old")],
            Options(require_gpu=True),
            "--require-gpu: no GPU here can be used: GPU 0: too old. Leave",
        ),
        ([Node(4, 0)] * 2, Options(None, 5), "--cpus-per-trial: `cpus-per-trial <= 4, the CPUs"),
        ([Node(16, 0), Node(2, 1)], Options(1, 4), "<= 2, the CPUs of the largest node with a GPU"),
        ([Node(0, 0)], Options(), "--address: no node that is up has a CPU for trials"),
    ],
)
def test_what_no_node_can_hold_is_refused(
    nodes: list[Node], options: Options, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        options.slots(nodes, 30)


@pytest.mark.parametrize("gpus", [-1, math.nan, math.inf, 1.5, 0.00001])
def test_impossible_shares_are_refused_before_anything_starts(gpus: float) -> None:
    assert "--gpus-per-trial" in str(request_problems(gpus, None, None)[0])


def test_possible_requests_have_no_problem_and_all_bad_ones_are_named() -> None:
    assert (
        request_problems(None, None, None)
        == request_problems(0, 1, 1)
        == request_problems(1, 4, 9)
        == []
    )
    assert len(request_problems(2, 0, 0)) == 3


def test_with_max_concurrent_a_cluster_is_asked_for_what_is_not_there_yet() -> None:
    slots = Options(0.5, max_concurrent=8, address="auto").slots([Node(0, 0)], 30)
    assert (slots.count, slots.gpus, slots.most, slots.waits) == (0, 0.5, 8, True)
    assert str(slots) == "up to 8 at once (1 CPU each, 0.5 GPU)"
    assert "no node has a GPU: trials wait for one" in slots.note
    needed = Options(max_concurrent=8, require_gpu=True, address="auto")
    assert needed.slots([], 30).gpus == 1
    found = Options(max_concurrent=8, address="auto").slots([Node(4, 0)], 30)
    assert (found.count, found.gpus, found.note) == (4, 0, "")
