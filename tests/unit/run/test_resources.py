"""How many trials fit: fractions of GPUs, CPUs, nodes."""

from __future__ import annotations

import math

import pytest

from text_recognizer.errors import InputError
from tuning.run.resources import Node, plan, request_problems


@pytest.mark.parametrize(
    ("nodes", "request_", "count", "gpus"),
    [
        ([Node(2, 0)], {}, 2, 0),
        ([Node(2, 0)], {"gpus": 0.5}, 2, 0),
        ([Node(8, 2)], {"gpus": 0.5}, 4, 0.5),
        ([Node(8, 2)], {}, 2, 1),
        ([Node(8, 2)], {"gpus": 0}, 8, 0),
        ([Node(3, 2)], {"gpus": 0.5}, 3, 0.5),
        ([Node(8, 1)], {"gpus": 1 / 3}, 3, 1 / 3),
        ([Node(8, 1)], {"gpus": 0.4}, 2, 0.4),
        ([Node(16, 1)], {"gpus": 0.1}, 10, 0.1),
        ([Node(8, 1), Node(4, 0)], {"gpus": 0.5}, 2, 0.5),
        ([Node(4, 0), Node(3, 0)], {"cpus": 2}, 3, 0),
        ([Node(8, 0)], {"concurrent": 3}, 3, 0),
    ],
)
def test_slots_are_what_the_nodes_hold(
    nodes: list[Node], request_: dict[str, float], count: int, gpus: float
) -> None:
    slots = plan(nodes, **request_)  # type: ignore[arg-type]
    assert (slots.count, slots.gpus) == (count, gpus)


def test_no_gpu_is_said_and_is_no_dead_end() -> None:
    assert "no GPU" in plan([Node(2, 0)], gpus=0.5).note
    assert plan([Node(2, 0)]).note == ""
    with pytest.raises(InputError, match="--require-gpu"):
        plan([Node(2, 0)], gpus=0.5, require_gpu=True)


def test_what_no_node_can_hold_is_refused() -> None:
    with pytest.raises(InputError, match="cpus-per-trial <= 4"):
        plan([Node(4, 0), Node(4, 0)], cpus=5)


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


def test_a_trial_fits_on_one_node() -> None:
    assert plan([Node(3, 0), Node(3, 0)], cpus=2).count == 2
    assert plan([Node(0, 0), Node(2, 0)]).count == 2, "the head has no room"
    assert plan([Node(16, 0), Node(4, 2)], gpus=0.5).count == 4, "a node without a GPU holds none"
    with pytest.raises(
        InputError,
        match="cpus-per-trial <= 2, the CPUs of the largest node with a GPU` must hold, but got 4",
    ):
        plan([Node(16, 0), Node(2, 1)], gpus=1, cpus=4)


def test_with_max_concurrent_a_cluster_is_asked_for_what_is_not_there_yet() -> None:
    slots = plan([Node(0, 0)], gpus=0.5, concurrent=8, waits=True)
    assert (slots.count, slots.gpus, slots.most, slots.waits) == (0, 0.5, 8, True)
    assert str(slots) == "up to 8 at once (1 CPU each, 0.5 GPU)"
    assert "no node has a GPU: trials wait for one" in slots.note
    assert plan([], require_gpu=True, concurrent=8, waits=True).gpus == 1
    found = plan([Node(4, 0)], concurrent=8, waits=True)
    assert (found.count, found.gpus, found.note) == (4, 0, "")


def test_a_cluster_whose_nodes_are_not_up_yet_is_told_so() -> None:
    with pytest.raises(
        InputError,
        match="--address: no node that is up has a CPU for trials",
    ):
        plan([Node(0, 0)])
