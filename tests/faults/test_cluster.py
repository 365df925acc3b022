"""C3: what else is on the machine. Our own Ray starts all the same, and the address it prints is right."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from tests.processes import run

START = """
import urllib.error
import urllib.request
from tuning import engine
with engine.own_cluster(num_cpus=1) as url:
    import ray
    print("dashboard", url, "cpus", ray.cluster_resources()["CPU"], flush=True)
    print("page", urllib.request.urlopen(url).read().decode()[:200].replace(chr(10), " "))
    try:
        urllib.request.urlopen(url + "/api/jobs/")
    except urllib.error.HTTPError as error:
        print("without a token", error.code)
"""


@pytest.mark.usefixtures("cluster")
def test_c3_a_taken_port_another_ray_and_an_address_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
