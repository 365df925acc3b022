"""A Ray cluster that runs already: joined through its gate, its nodes counted and watched.

The project's code goes to the workers with the job, so that nodes need the packages of `.venv` and
no copy of the project.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import worker
from ray._raylet import (  # type: ignore[attr-defined]
    GCS_AUTOSCALER_STATE_NAMESPACE,
    GCS_AUTOSCALER_V2_ENABLED_KEY,
    Config,
)
from ray.experimental.internal_kv import _internal_kv_get
from ray.train._internal import storage as tune_storage

from tuning.ray_backend.address import Address, answers, refused
from tuning.ray_backend.local_cluster import (
    WORKER_SETTINGS,
    Cluster,
    http_address,
    keep_the_token_private,
)
from tuning.ray_backend.shared_storage import check_shared
from tuning.run.environment import PROJECT
from tuning.run.resources import Node, Slots, room

PACKAGES = ("text_recognizer", "training", "tuning")
GCS_PATIENCE_S = 20  # a head with a store of its own may come back; without one nothing does
GOING_DOWN_S = 3  # from the death of a node's worker to that of its Ray, where both are told to end
NODE_VERDICT_S = 40  # after which Ray itself has seen that a node is dead
COUNT_EVERY_S = 2
Say = Callable[[str], None]


class JoinedCluster(Cluster):
    """A cluster of others, which may lose nodes and get new ones.

    Args:
        gate: that this process joined it by.
        say: prints a line.
    """

    def __init__(self, gate: Address, dashboard: str | None, say: Say, *, has_token: bool) -> None:
        super().__init__(dashboard, has_token=has_token)
        self.gate = gate
        self.say = say
        self.grows = is_autoscaling()
        here = None if gate.client else ray.get_runtime_context().get_node_id()
        self._raylet = next(
            (raylet_of(node) for node in ray.nodes() if node["NodeID"] == here), None
        )
        # address, and when it was missed
        self._lost = {node["NodeID"]: ("", 0.0) for node in ray.nodes() if not node["Alive"]}
        self._counted = -math.inf  # when, by the monotonic clock
        self._room: int | None = None

    @property
    def machines(self) -> list[dict[str, Any]]:
        """What Ray says of the nodes that live, as far as it and we know."""
        return [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in self._lost]

    def nodes(self) -> list[Node]:
        """What they offer to trials."""
        return [offer_of(node) for node in self.machines]

    def dead(self) -> str | None:
        if self._raylet and not answers(*self._raylet):
            return "the Ray of this node"
        return None if self.gate.answers(GCS_PATIENCE_S) else "the cluster's head"

    def lost_node(self, since: float) -> str | None:
        """The same. A node on its way down still answers for a moment, and from outside Ray's
        own verdict is waited for.
        """
        end = time.monotonic() + (NODE_VERDICT_S if self.gate.client else GOING_DOWN_S)
        while True:
            self._look(ask=True)
            if lost := [name for name, (_, moment) in self._lost.items() if moment > since]:
                return self._lost[lost[0]][0]
            if time.monotonic() >= end:
                return None
            time.sleep(0.5)

    def _look(self, *, ask: bool) -> None:
        """Know which nodes are gone, and since when.

        Args:
            ask: each of them, too: Ray takes a quarter of a minute to see that one is dead.
        """
        for node in ray.nodes():
            name = node["NodeID"]
            silent = (
                not self.gate.client
                and (ask or name in self._lost)
                and node["Alive"]
                and not answers(*raylet_of(node))
            )
            if node["Alive"] and not silent:
                self._lost.pop(name, None)
            elif name not in self._lost:
                self._lost[name] = (node["NodeManagerAddress"], time.time())
                self._counted = -math.inf
                self.say(
                    f"node {node['NodeManagerAddress']} is gone: its trials go on elsewhere, "
                    "charged with nothing"
                )

    def room(self, slots: Slots) -> int:
        """As many trials as the nodes of now hold; where nodes are added for trials that wait,
        as many again wait for them.
        """
        count = self._count(slots)
        if self.grows:
            count += max(1, count)
        return count if slots.most is None else min(count, slots.most)

    def has_no_room(self, slots: Slots) -> bool:
        return self._count(slots) == 0

    def _count(self, slots: Slots) -> int:
        """How many trials the nodes hold, looked up again from time to time; a change is said."""
        if self._room is not None and time.monotonic() - self._counted < COUNT_EVERY_S:
            return self._room
        self._look(ask=False)
        self._counted = time.monotonic()
        found = room(self.nodes(), slots)
        found = found if slots.most is None else min(found, slots.most)
        # the plan said the first, but not that it is none
        told = (slots.count or None) if self._room is None else self._room
        if found != told:
            self._tell(found, slots)
        if found != self._room:
            self.on_capacity(found)
        self._room = found
        return found

    def _tell(self, found: int, slots: Slots) -> None:
        if found == 0:
            grow = "for it to grow" if self.grows else "for a node to join"
            self.say(
                f"no node of the cluster has room for a trial ({slots.each}) now: waiting {grow}"
            )
        else:
            self.say(f"the cluster has room for {found} trials at once now")

    def check_shared(self, folder: Path, where: str, hint: str, slots: Slots) -> None:
        """See that every node that trials may run on sees `folder`; the rest is as in
        `tuning.ray_backend.shared_storage`.
        """
        nodes = {
            node["NodeID"]: node["NodeManagerAddress"]
            for node in self.machines
            if room([offer_of(node)], slots)
        }
        check_shared(folder, nodes, where, hint)


def offer_of(node: Mapping[str, Any]) -> Node:
    """What a node has for trials."""
    return Node(node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0))


def raylet_of(node: Mapping[str, Any]) -> tuple[str, int]:
    """Host and port where a node's own process of Ray's listens."""
    return node["NodeManagerAddress"], node["NodeManagerPort"]


@contextmanager
def joined_cluster(address: str, say: Say) -> Iterator[JoinedCluster]:
    """The cluster at `address`: `auto`, `HOST:PORT`, or `ray://HOST:PORT` from outside.

    Args:
        say: prints a line, also later.

    Raises:
        InputError: none answers there, or it will not have us.
    """
    gate = Address.of(address)
    if not gate.answers():
        raise refused(address, f"nothing answers at {gate}")
    keep_the_token_private()
    has_token = gate.asks_for_a_token()
    if not has_token:
        say(
            "the cluster asks for no token: whoever reaches it over the network can run code "
            "there, and read what trials read"
        )
        os.environ["RAY_AUTH_MODE"] = "disabled"  # its workers have none to show to this process
        Config.initialize("")
    # pages of a dead raylet's state; we say which node died
    worker.print_to_stdstream = lambda *_, **__: None
    if gate.client:
        let_tune_be_driven_from_here()
    code = [str(PROJECT / package) for package in PACKAGES]
    try:
        context = ray.init(
            address=gate.for_ray,
            runtime_env={
                "py_modules": code,
                "env_vars": WORKER_SETTINGS,
                "excludes": ["__pycache__"],
            },
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    # versions, tokens, runtime environments: each has a type of its own, and none says "input"
    except Exception as error:
        raise refused(
            address, (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        ) from None
    try:
        yield JoinedCluster(gate, http_address(context.dashboard_url), say, has_token=has_token)
    finally:
        ray.shutdown()


def is_autoscaling() -> bool:
    """Whether nodes are added where trials wait. There is no public question.

    Ray's first autoscaler runs on every cluster, and knows nodes by types where it adds any, else
    by their ids alone. The second one, which `ray up` and KubeRay start, leaves a mark with the GCS
    (`ray.autoscaler.v2.utils.is_autoscaler_v2`).
    """
    if (
        _internal_kv_get(GCS_AUTOSCALER_V2_ENABLED_KEY, namespace=GCS_AUTOSCALER_STATE_NAMESPACE)
        == b"1"
    ):
        return True
    status = json.loads(_internal_kv_get("__autoscaling_status") or "{}")
    types = (status.get("autoscaler_report") or {}).get("active_nodes") or {}
    return any(not name.startswith("node_") for name in types)


def let_tune_be_driven_from_here() -> None:
    """Tune keeps its driver's files in the folder of the local Ray, of which there is none
    beside a client.
    """
    folder = tempfile.mkdtemp(prefix="ray-client-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tune_storage._get_ray_train_session_dir = lambda: folder  # type: ignore[attr-defined]
