"""A Ray cluster that runs already: joined by its address, its nodes counted and watched, a folder proved to be on all of them.

The project's code goes to the workers with the job, so that nodes need the packages of `.venv` and no copy of the project.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuning.cluster import WORKER_SETTINGS, Cluster, http_address, keep_the_token_private  # before Ray, as in tuning/engine.py

# isort: split
import grpc
import ray
from ray._private import worker
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._private.state import state
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.experimental.internal_kv import _internal_kv_get
from ray.train._internal import storage as tune_storage
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from text_recognizer.errors import InputError, Problem, StorageError
from tuning.resources import Node, Slots, room

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("text_recognizer", "training", "tuning")
CLIENT = "ray://"
ANSWER_S = 3  # for a connection; a machine that is gone does not even refuse
GCS_PATIENCE_S = 20  # a head with a store of its own may come back; without one nothing does
GOING_DOWN_S = 3  # from the death of a node's worker to that of its Ray, where both are told to end
NODE_VERDICT_S = 40  # after which Ray itself has seen that a node is dead
COUNT_EVERY_S = 2
PROBE_S = 120  # a first worker on a busy node
AnyHost = tuple[str, int]
Say = Callable[[str], None]


def answers(place: AnyHost, patience: float = 0) -> bool:
    """Whether something listens there, now or soon."""
    end = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(place, ANSWER_S).close()
        except (OSError, UnicodeError):  # a name that cannot be one
            if time.monotonic() >= end:
                return False
            time.sleep(0.5)
        else:
            return True


class JoinedCluster(Cluster):
    """A cluster of others, which may lose nodes and get new ones.

    Args:
        gate: host and port that this process joined it by.
        client: whether by Ray Client, from outside of it.
        say: prints a line.
    """

    def __init__(self, gate: AnyHost, dashboard: str | None, *, client: bool, say: Say) -> None:
        super().__init__(dashboard)
        self.gate = gate
        self.client = client
        self.say = say
        self.grows = is_autoscaling(client=client)
        here = None if client else ray.get_runtime_context().get_node_id()
        self._raylet = next((raylet_of(node) for node in ray.nodes() if node["NodeID"] == here), None)
        self._lost = {node["NodeID"]: ("", 0.0) for node in ray.nodes() if not node["Alive"]}  # address, and when it was missed
        self._counted = -math.inf  # when, by the monotonic clock
        self._room: int | None = None

    @property
    def machines(self) -> list[dict[str, Any]]:
        """What Ray says of the nodes that live, as far as it and we know."""
        return [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in self._lost]

    def nodes(self) -> list[Node]:
        """What they offer to trials."""
        return [Node(node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0)) for node in self.machines]

    def dead(self) -> str | None:
        if self._raylet and not answers(self._raylet):
            return "the Ray of this node"
        return None if answers(self.gate, GCS_PATIENCE_S) else "the cluster's head"

    def lost_node(self, since: float) -> str | None:
        """The same. A node on its way down still answers for a moment, and from outside Ray's own verdict is waited for."""
        end = time.monotonic() + (NODE_VERDICT_S if self.client else GOING_DOWN_S)
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
            silent = not self.client and (ask or name in self._lost) and node["Alive"] and not answers(raylet_of(node))
            if node["Alive"] and not silent:
                self._lost.pop(name, None)
            elif name not in self._lost:
                self._lost[name] = (node["NodeManagerAddress"], time.time())
                self._counted = -math.inf
                self.say(f"node {node['NodeManagerAddress']} is gone: its trials go on elsewhere, charged with nothing")

    def room(self, slots: Slots) -> int:
        """As many trials as the nodes of now hold; where nodes are added for trials that wait, as many again wait for them."""
        if time.monotonic() - self._counted >= COUNT_EVERY_S:
            self._look(ask=False)
            self._counted = time.monotonic()
            found = room(self.nodes(), slots)
            found = found if slots.most is None else min(found, slots.most)
            self._tell(found, slots)
            self._room = found
        count = self._room or 0
        if self.grows:
            count += max(1, count)
        return count if slots.most is None else min(count, slots.most)

    def _tell(self, found: int, slots: Slots) -> None:
        if found == self._room or (self._room is None and found == slots.count and found):
            return
        if found == 0:
            grow = "for it to grow" if self.grows else "for a node to join"
            self.say(f"no node of the cluster has room for a trial ({slots.each}) now: waiting {grow}")
        else:
            self.say(f"the cluster has room for {found} trials at once now")

    def check_shared(self, folder: Path, where: str, hint: str, slots: Slots) -> None:
        """See that every node that trials may run on reads and writes the same folder as this process.

        Args:
            folder: is made where it is missing.
            where, hint: for the message: what names it, and what to do.

        Raises:
            InputError: with each node that does not.
            StorageError: this process cannot write there.
        """
        probe = folder / f".shared-{secrets.token_hex(8)}"
        try:
            probe.mkdir(parents=True)
            (probe / "driver").write_text(probe.name, encoding="utf-8")
            problems = [problem for problem in self._asked_of_all(probe, where, hint, slots) if problem]
        except OSError as error:
            raise StorageError(f"{folder}: `a folder that can be written` must hold, but got: {error.strerror}.") from None
        finally:
            shutil.rmtree(probe, ignore_errors=True)
        if problems:
            raise InputError(*problems)

    def _asked_of_all(self, probe: Path, where: str, hint: str, slots: Slots) -> Iterator[Problem | None]:
        asked = {}
        for node in self.machines:
            offer = Node(node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0))
            if room([offer], slots):
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                task = ray.remote(num_cpus=0)(sees).options(scheduling_strategy=there)
                asked[node["NodeID"]] = (node["NodeManagerAddress"], task.remote(str(probe), node["NodeID"]))
        for name, (address, answer) in asked.items():
            try:
                found = ray.get(answer, timeout=PROBE_S) or (
                    "" if written_by(probe / name, probe.name) else "what it wrote is not here"
                )
            except ray.exceptions.RayError as error:
                found = f"no answer: {str(error).splitlines()[0]}"
            yield (
                Problem(where, "a folder that every node sees", f"{probe.parent}, and node {address}: {found}", hint)
                if found
                else None
            )


def raylet_of(node: Mapping[str, Any]) -> AnyHost:
    """Where a node's own process of Ray's listens."""
    return node["NodeManagerAddress"], node["NodeManagerPort"]


def sees(probe: str, name: str) -> str:
    """In a worker: what keeps it from reading what the driver wrote and from writing beside it; nothing where all is well."""
    try:
        if (Path(probe) / "driver").read_text(encoding="utf-8") != Path(probe).name:
            return "another file is there"
        (Path(probe) / name).write_text(Path(probe).name, encoding="utf-8")
    except OSError as error:
        return str(error.strerror)
    return ""


def written_by(path: Path, text: str) -> bool:
    """Whether `text` is to be read there, now or, on a file system that is slow to show it, soon."""
    end = time.monotonic() + ANSWER_S
    while time.monotonic() < end:
        try:
            if path.read_text(encoding="utf-8") == text:
                return True
        except OSError:
            pass
        time.sleep(0.2)
    return False


@contextmanager
def joined_cluster(address: str, say: Say) -> Iterator[JoinedCluster]:
    """The cluster at `address`: `auto`, `HOST:PORT`, or `ray://HOST:PORT` from outside.

    Args:
        say: prints a line, also later.

    Raises:
        InputError: none answers there, or it will not have us.
    """
    named = looked_up(address)
    client = named.startswith(CLIENT)
    place = place_of(named, address)
    if not answers(place):
        raise refused(address, f"nothing answers at {joined_up(place)}")
    keep_the_token_private()
    if turns_away(place, client=client):
        ours = AuthenticationTokenLoader.instance().get_token_for_http_header()
        if turns_away(place, client=client, token=list(ours.items())):
            raise refused(address, "it has another token. Copy the head's ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH")
    else:
        say("the cluster asks for no token: whoever reaches it over the network can run code there, and read what trials read")
        os.environ["RAY_AUTH_MODE"] = "disabled"  # its workers have none to show to this process
        Config.initialize("")
    worker.print_to_stdstream = lambda *_, **__: None  # pages of a dead raylet's state; we say which node died
    if client:
        let_tune_be_driven_from_here()
    code = [str(PROJECT / package) for package in PACKAGES]
    try:
        context = ray.init(
            address=f"{CLIENT}{joined_up(place)}" if client else joined_up(place),
            runtime_env={"py_modules": code, "env_vars": WORKER_SETTINGS, "excludes": ["__pycache__"]},
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # versions, tokens, runtime environments: each has a type of its own, and none says "input"
        raise refused(address, (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")) from None
    try:
        yield JoinedCluster(place, http_address(context.dashboard_url), client=client, say=say)
    finally:
        ray.shutdown()


def looked_up(address: str) -> str:
    """The address itself; for `auto` what `RAY_ADDRESS` says, else the Ray of this machine. Raises `InputError`."""
    if address != "auto":
        return address
    try:
        return os.environ.get("RAY_ADDRESS") or canonicalize_bootstrap_address_or_die("auto")
    except ConnectionError:
        raise refused(address, "no Ray that was started on this machine") from None


def place_of(named: str, address: str) -> AnyHost:
    """Host and port of an address. Raises `InputError`, which names the `address` that was given."""
    host, _, port = named.removeprefix(CLIENT).rpartition(":")
    if not re.fullmatch(r"\d{1,5}", port) or not host or "/" in host:
        raise refused(address, f"RAY_ADDRESS={named}, which is no HOST:PORT" if address == "auto" else "no HOST:PORT")
    return host.strip("[]"), int(port)


def joined_up(place: AnyHost) -> str:
    """`HOST:PORT`, as Ray and gRPC take it."""
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def refused(address: str, why: str) -> InputError:
    """That no cluster is to be had."""
    hint = "`ray start --head` begins one (docs/cluster.md); without --address this machine is used."
    return InputError(Problem("--address", "a Ray cluster that lets this process join", f"{address}: {why}", hint))


def turns_away(place: AnyHost, *, client: bool, token: Sequence[tuple[str, str]] = ()) -> bool:
    """Whether a question with this token, or none, is refused. Where nothing can be learned (TLS) Ray is left to find out."""
    method = "/ray.rpc.RayletDriver/ClusterInfo" if client else "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"
    with grpc.insecure_channel(joined_up(place)) as channel:
        ask = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
        try:
            ask(b"", timeout=ANSWER_S, metadata=token)
        except grpc.RpcError as error:
            return bool(
                error.code() == grpc.StatusCode.UNAUTHENTICATED or (not token and error.code() == grpc.StatusCode.UNAVAILABLE)
            )
    return False


def is_autoscaling(*, client: bool) -> bool:
    """Whether nodes are added where trials wait. There is no public question.

    Ray's first autoscaler knows nodes by types where it adds any, and else by their ids alone; the second one leaves its
    configuration with the GCS, which a client cannot ask.
    """
    status = json.loads(_internal_kv_get("__autoscaling_status") or "{}")
    types = (status.get("autoscaler_report") or {}).get("active_nodes") or {}
    return any(not name.startswith("node_") for name in types) or (not client and state.get_cluster_config() is not None)


def let_tune_be_driven_from_here() -> None:
    """Tune keeps its driver's files in the folder of the local Ray, of which there is none beside a client."""
    folder = tempfile.mkdtemp(prefix="ray-client-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tune_storage._get_ray_train_session_dir = lambda: folder  # type: ignore[attr-defined]
