"""Fixtures that tests share: the real MNIST, small search spaces, databases, Rays, a mirror."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import sysconfig
import threading
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mirror import MirrorServer, archives
from tests.processes import Command, run
from tuning.ray_backend.local_cluster import own_cluster
from tuning.run.resources import Node
from tuning.space.reader import read_space
from tuning.space.search_space import SearchSpace
from tuning.study.storage import open_storage

ROOT = Path(__file__).resolve().parents[1]
CANDIDATES = (
    os.environ.get("TEXT_RECOGNIZER_DATA_DIR"),
    str(ROOT.parent / "shared" / "data"),
    str(ROOT / "data"),
)

SPACE = """
experiment: {model_class: MLP, data_class: Digits}
space:
  fc1: {type: int, low: 8, high: 64, log: true}
  lr: {type: float, low: 1e-4, high: 1e-1, log: true}
search: {trials: 4, max_epochs: 3}
"""


@pytest.fixture(autouse=True)
def keep_denormals() -> Iterator[None]:
    """A training lets its process take denormal numbers for zero; Hypothesis refuses such ones."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """A folder with the four real archives. Tests that need it are skipped if there is none."""
    for candidate in CANDIDATES:
        if candidate and (Path(candidate) / "MNIST/raw/train-images-idx3-ubyte.gz").exists():
            return Path(candidate).resolve()
    pytest.skip(
        "the real MNIST archives are not here; set TEXT_RECOGNIZER_DATA_DIR to have this test run"
    )


@pytest.fixture
def space_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a search space and returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "space.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def space(space_file: Callable[[str], Path]) -> SearchSpace:
    """Two parameters, four trials of three epochs."""
    return read_space(space_file(SPACE))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with Optuna's tables and no study: making the tables takes half a second."""
    path = tmp_path_factory.mktemp("empty") / "study.db"
    open_storage(f"sqlite:///{path}")
    return path


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> Path:
    """A SQLite file for one test."""
    return Path(shutil.copy(empty_database, tmp_path / "study.db"))


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test if it starts Ray in this process. Another test's Ray may run here."""
    monkeypatch.setattr(
        "tuning.ray_backend.local_cluster.ray.init", lambda *_, **__: pytest.fail("Ray was started")
    )


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A real local Ray with two CPUs, two GPUs that exist for Ray alone, and no dashboard."""
    with own_cluster(Node(2, 2), dashboard=False):
        yield


STARTS_RAY = """
import os
import urllib.error
import urllib.request
from pathlib import Path
import grpc
from tuning.ray_backend import local_cluster
from tuning.ray_backend.tasks import run_tasks
from tuning.run.resources import Node, Slots
with local_cluster.own_cluster(Node(1, 1)) as ours:
    import ray
    url, address = ours.dashboard, ray.get_runtime_context().gcs_address
    print("dashboard", url, "cpus", ray.cluster_resources()["CPU"], flush=True)
    print("page", urllib.request.urlopen(url).read().decode()[:200].replace(chr(10), " "))
    try:
        urllib.request.urlopen(url + "/api/jobs/")
    except urllib.error.HTTPError as error:
        print("a job without the token", error.code)
    try:
        call = grpc.insecure_channel(address).unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
        call(b"", timeout=10)
    except grpc.RpcError as error:
        print("a call without the token", error.code())
    print("mode", oct((Path.home() / ".ray/auth_token").stat().st_mode & 0o777))
    log = ray.remote(num_cpus=0)(type("Talks", (), {"say": lambda self: print("said", flush=True)})).remote()
    ray.get(log.say.remote())
    from ray.util.state import get_log
    os.environ["RAY_ADDRESS"] = address  # this function follows it
    path = ray.remote(num_cpus=0)(lambda: __import__("sys").path[:1])
    print("workers look first in", *ray.get(path.remote()))
    print("log", *get_log(actor_id=log._actor_id.hex(), suffix="out"))
    ids = run_tasks(lambda call: os.getpid(), "abc", {}, Slots(1, 1, 0.5), lambda *_: None)
    print("processes", len(set(ids)), "for", len(ids), "calls on the one GPU")
    print("session", ray._private.worker._global_node.get_session_dir_path())
"""
RAYS_PORTS = (8265, 52365)  # of the dashboard and of its agent, unless another is chosen


@dataclass(frozen=True)
class FirstStart:
    """A Ray of ours, started in a new home."""

    home: Path
    ran: Command


def python_with_a_blank(folder: Path) -> str:
    """This Python in an environment whose path has a blank."""
    place = folder / "a b"
    venv.create(place, with_pip=False, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "all.pth").write_text(sysconfig.get_paths()["purelib"])
    return str(place / "bin/python")


@pytest.fixture(scope="session")
def first_start(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> FirstStart:
    """Ray started under bad conditions: another Ray runs, Ray's usual ports are taken, there is no
    token yet, the umask is 0, the path of Python has a blank, and the environment switches
    authentication off (Ray takes an unknown word for off).
    """
    home = tmp_path_factory.mktemp("home")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("HOME", str(home))
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        patch.setenv("RAY_AUTH_MODE", "tokne")
        patch.setenv("RAY_AUTH_TOKEN", "")
        for port in RAYS_PORTS:
            taken = stack.enter_context(socket.socket())
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):  # taken by somebody else, which is as good
                taken.bind(("127.0.0.1", port))
                taken.listen()
        old = os.umask(0)
        try:
            ran = run(["-c", STARTS_RAY], home, python=python_with_a_blank(home))
        finally:
            os.umask(old)
    assert ran.process.returncode == 0, ran.errors
    return FirstStart(home, ran)


@pytest.fixture
def mirror_server(tmp_path: Path) -> Iterator[MirrorServer]:
    """A mirror with four small archives in MNIST's format, from `tmp_path / "mirror"`."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name, content in archives().items():
        (folder / name).write_bytes(content)
    server = MirrorServer(folder)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def mirror(mirror_server: MirrorServer) -> str:
    """The address of the mirror."""
    return mirror_server.url
