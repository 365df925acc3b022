"""How many trials a joined cluster is given while its nodes leave and join.

Each node is a socket that listens; the searches over real nodes are in `tests/cluster`.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tuning.ray_backend import remote_cluster
from tuning.ray_backend.remote_cluster import JoinedCluster, raylet_of
from tuning.run.resources import Slots

ONE_CPU = Slots(2, 1, 0, most=5)


class Nodes:
    """Two nodes of one CPU each, the first of which is the driver's."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.capacity: list[int] = []
        self.sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.records: list[dict[str, Any]] = [
            {
                "NodeID": str(number),
                "Alive": True,
                "NodeManagerAddress": "127.0.0.1",
                "NodeManagerPort": listening.getsockname()[1],
                "Resources": {"CPU": 1.0},
            }
            for number, listening in enumerate(self.sockets)
        ]

    def join(self) -> JoinedCluster:
        head = raylet_of(self.records[0])
        cluster = JoinedCluster(head, None, self.said.append, has_token=True)
        cluster.on_capacity = self.capacity.append
        return cluster


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    found = Nodes()
    context = SimpleNamespace(get_node_id=lambda: "0")
    monkeypatch.setattr(remote_cluster.ray, "nodes", lambda: found.records)
    monkeypatch.setattr(remote_cluster.ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(remote_cluster, "COUNT_EVERY_S", -math.inf)
    monkeypatch.setattr(remote_cluster, "GOING_DOWN_S", 0)
    monkeypatch.setattr(remote_cluster, "GCS_PATIENCE_S", 0)
    yield found
    for listening in found.sockets:
        listening.close()


def test_trials_are_handed_out_for_the_nodes_of_now(nodes: Nodes) -> None:
    cluster, begun = nodes.join(), time.monotonic()
    assert cluster.room(ONE_CPU) == 2
    assert cluster.lost_node(begun) is None
    nodes.sockets[1].close()
    assert cluster.room(ONE_CPU) == 1
    assert cluster.lost_node(begun) == "127.0.0.1"
    assert cluster.lost_node(time.monotonic()) is None, "it was lost before"
    assert nodes.said == [
        "node 127.0.0.1 is gone: its trials go on elsewhere and lose no retry",
        "trials that fit at once now: 1",
    ]
    assert cluster.dead() is None
    nodes.sockets[0].close()
    assert cluster.dead() == "the Ray of this node"
    assert cluster.has_no_room(ONE_CPU)
    assert (
        nodes.said[-1] == "no node has room for a trial (1 CPU, 0 GPU): waiting for a node to join"
    )
    assert nodes.capacity == [2, 1, 0]


def test_with_max_concurrent_trials_wait_for_nodes_and_are_the_demand(nodes: Nodes) -> None:
    cluster, waiting = nodes.join(), Slots(0, 4, 0, most=5, waits=True)
    assert cluster.room(waiting) == 5
    assert cluster.has_no_room(waiting)
    nodes.records[0]["Resources"] = {"CPU": 8.0}
    assert cluster.room(waiting) == 5
    assert nodes.said[-1] == "trials that fit at once now: 2"
    assert nodes.capacity == [0, 2]
