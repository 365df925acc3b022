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


@pytest.mark.parametrize(
    ("nodes", "options", "message"),
    [
        ([Node(2, 0)], Options(0.5, require_gpu=True), "--require-gpu: no node has a GPU"),
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
