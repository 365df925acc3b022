"""C3: what else is on the machine. Our own Ray starts all the same, and the address it prints is
right.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Command, run

START = """
import os
import urllib.error
import urllib.request
from tuning.ray_backend import local_cluster
with local_cluster.own_cluster(num_cpus=1) as ours:
    import ray
    url = ours.dashboard
    print("dashboard", url, "cpus", ray.cluster_resources()["CPU"], flush=True)
    print("page", urllib.request.urlopen(url).read().decode()[:200].replace(chr(10), " "))
    try:
        urllib.request.urlopen(url + "/api/jobs/")
    except urllib.error.HTTPError as error:
        print("without a token", error.code)
    log = ray.remote(num_cpus=0)(type("Talks", (), {"say": lambda self: print("said", flush=True)})).remote()
    ray.get(log.say.remote())
    from ray.util.state import get_log
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address  # this function follows it
    print("log", *get_log(actor_id=log._actor_id.hex(), suffix="out"))
"""


ANOTHER = """
import threading
from tuning.ray_backend import local_cluster
with local_cluster.own_cluster(num_cpus=1):
    print("up", flush=True)
    threading.Event().wait()
"""


@pytest.fixture
def another_ray(tmp_path: Path) -> Iterator[None]:
    """With Ray's own choice of ports, which are those that ours would take first."""
    other = Command(
        [
            "-c",
            ANOTHER.replace(
                "with", "local_cluster.let_the_agent_choose_its_port = lambda: None\nwith", 1
            ),
        ],
        tmp_path,
    )
    other.wait_to_say("up")
    yield
    other.process.kill()
    other.end()


@pytest.mark.usefixtures("another_ray")
def test_c3_a_taken_port_another_ray_and_an_address_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8265))
            taken.listen()
        except OSError:
            pass  # taken by somebody else, which is as good
        monkeypatch.setitem(os.environ, "RAY_ADDRESS", "127.0.0.1:1")
        started = run(["-c", START], tmp_path)
    assert started.process.returncode == 0, started.errors
    found = re.search(r"dashboard http://127\.0\.0\.1:(\d+) cpus 1\.0", started.output)
    assert found, started.output
    assert found[1] != "8265"
    assert "<html" in started.output.lower() or "<!doctype html" in started.output.lower()
    assert "without a token 401" in started.output
    assert "said" in started.output.split("log ")[1], (
        "its agent took another port, and can show logs"
    )
