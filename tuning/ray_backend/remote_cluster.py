"""Joins a running Ray cluster, counts its nodes and watches them."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from typing import Any

import ray
from ray._private import worker
from ray._raylet import Config, GcsClient  # type: ignore[attr-defined]

import text_recognizer
import training
import tuning
from tuning.ray_backend.address import Address, attempts, refused
from tuning.ray_backend.ending import complain, start_watched
from tuning.ray_backend.local_cluster import Cluster
from tuning.ray_backend.private import keep_the_token_private
from tuning.run import Node, Slots, room

# Workers have the environment of their cluster, not ours. They read these settings.
WORKER_SETTINGS = ("RAY_CHDIR_TO_TRIAL_DIR", "TUNE_FUNCTION_THREAD_TIMEOUT_S")
GCS_PATIENCE_S = 20  # a head that keeps its state in a store may be restarted
GOING_DOWN_S = 3  # a node that shuts down ends its workers first, then its Ray
COUNT_EVERY_S = 2


class JoinedCluster(Cluster):
    """A cluster that others started. Its nodes may leave, and new ones may join.

    Args:
        head: where the cluster was joined.
        say: prints a line.
    """

    def __init__(
        self, head: Address, dashboard: str | None, say: Callable[[str], None], *, has_token: bool
    ) -> None:
        super().__init__(dashboard, has_token=has_token)
        self.head = head
        self.say = say
        here = ray.get_runtime_context().get_node_id()
        self._raylet = next(raylet_of(node) for node in ray.nodes() if node["NodeID"] == here)
        # Node id -> address and time of its loss by the monotonic clock, 0 if it died before.
        self._lost = {node["NodeID"]: ("", 0.0) for node in ray.nodes() if not node["Alive"]}
        self._counted = -math.inf  # time of the last count, by the monotonic clock
        self._room = -1  # not counted yet

    def nodes(self) -> list[Node]:
        """The nodes that live, as far as Ray and we know."""
        return [
            Node(
                node["Resources"].get("CPU", 0),
                node["Resources"].get("GPU", 0),
                node["NodeID"],
                node["NodeManagerAddress"],
            )
            for node in ray.nodes()
            if node["Alive"] and node["NodeID"] not in self._lost
        ]

    def dead(self) -> str | None:
        if not self._raylet.answers():
            return "the Ray of this node"
        return None if self.head.answers(GCS_PATIENCE_S) else "the cluster's head"

    def lost_node(self, since: float) -> str | None:
        # A node that is going down still answers for a moment.
        for _ in attempts(GOING_DOWN_S):
            self._find_lost()
            for address, moment in self._lost.values():
                if moment > since:
                    return address
        return None

    def _find_lost(self) -> None:
        """Note which nodes are gone now."""
        for node in ray.nodes():
            name, raylet = node["NodeID"], raylet_of(node)
            # Each node is asked, because Ray takes 15 s to see that one is dead. A dead one refuses
            # the connection at once.
            if node["Alive"] and raylet.answers():
                self._lost.pop(name, None)
            elif name not in self._lost:
                self._lost[name] = (raylet.host, time.monotonic())
                self._counted = -math.inf  # count again
                self.say(
                    f"node {raylet.host} is gone: its trials go on elsewhere and lose no retry"
                )

    def room(self, slots: Slots) -> int:
        count = self._count(slots)
        # Trials that wait for a node are the only demand that an autoscaler sees.
        return slots.most or count if slots.waits else count

    def has_no_room(self, slots: Slots) -> bool:
        return self._count(slots) == 0

    def _count(self, slots: Slots) -> int:
        """How many trials the nodes hold, counted every two seconds. Prints a change."""
        if time.monotonic() - self._counted < COUNT_EVERY_S:
            return self._room
        self._find_lost()
        self._counted = time.monotonic()
        found = room(self.nodes(), slots)
        found = min(found, slots.most or found)
        if found != self._room:
            self.on_capacity(found)
            if not found:
                self.say(
                    f"no node has room for a trial ({slots.cpus} CPU, {slots.gpus:g} GPU): waiting "
                    "for a node to join"
                )
            elif self._room >= 0:  # the search's head line has the first count
                self.say(f"trials that fit at once now: {found}")
        self._room = found
        return found


def raylet_of(node: Mapping[str, Any]) -> Address:
    """The address of a node's raylet, its own process of Ray."""
    return Address(node["NodeManagerAddress"], node["NodeManagerPort"])


@contextmanager
def joined_cluster(address: str, say: Callable[[str], None]) -> Iterator[JoinedCluster]:
    """Join the cluster at `address`, which is `auto` or `HOST:PORT`.

    Args:
        say: prints a line. It is called as long as the cluster is in use.

    Raises:
        InputError: no cluster answers there, or it refuses this process.
    """
    head = Address.parse(address)
    # `ray.init` waits for minutes for a head that is not there.
    if not head.answers():
        raise refused(address, f"nothing answers at {head}")
    keep_the_token_private()
    # When a raylet dies, Ray prints pages of its state, even with `log_to_driver=False`
    # (ray-project/ray#25516). `JoinedCluster` says which node died.
    worker.print_to_stdstream = lambda *_, **__: None
    try:
        has_token = match_token_mode(head)
        if not has_token:
            say(
                "the cluster asks for no token: whoever reaches it over the network can run code "
                "there, and read what trials read"
            )
        # Ray puts the current folder first in the path of all workers: a node's own copy of the
        # project in a folder of that name would run instead of this one.
        with start_watched(lambda: None, complain), chdir("/"):
            context = ray.init(
                address=str(head),
                runtime_env=runtime_environment(),
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:  # versions, runtime environments, TLS: each has its own type
        why = str(error).strip().partition("\n")[0].rstrip(".")
        raise refused(address, why or type(error).__name__) from None
    try:
        yield JoinedCluster(head, context.dashboard_url, say, has_token=has_token)
    finally:
        ray.shutdown()


def runtime_environment() -> dict[str, Any]:
    """What the workers of a cluster get from this process: the project's code, and settings."""
    # As paths: inside of `ray job submit` Ray copies these values, and modules cannot be copied.
    return {
        "py_modules": [code.__path__[0] for code in (text_recognizer, training, tuning)],
        "env_vars": {name: os.environ[name] for name in WORKER_SETTINGS},
        "excludes": ["__pycache__"],
    }


def match_token_mode(head: Address) -> bool:
    """Set this process to the cluster's token mode. Returns whether the cluster asks for a token.

    Raises:
        ConnectionError: the cluster has another token.
    """
    # The workers of a cluster without tokens cannot show one, so this process must not ask for it.
    # No call of Ray tells the mode, so its client tries both, 10 ms each. `ray.init` would try a
    # wrong token for 20 s, and joins a cluster without tokens even if we have one.
    for mode in ("disabled", "token"):
        os.environ["RAY_AUTH_MODE"] = mode
        Config.initialize("")  # else Ray keeps the mode that it read first
        with suppress(ray.exceptions.AuthenticationError), hidden_stderr():
            GcsClient(address=str(head))
            return mode == "token"
    hint = "copy the head's ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH"
    raise ConnectionError(f"the cluster has another token; {hint}")


@contextmanager
def hidden_stderr() -> Iterator[None]:
    """Hide the warnings of Ray's C++ client, which no log level turns off."""
    # C++ writes to the file descriptor, so `contextlib.redirect_stderr` does not catch it.
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
