"""What an address of a cluster names, and what is made of a head that does not answer."""

from __future__ import annotations

import socket

import pytest

from tests.processes import ROOT, run
from text_recognizer.errors import InputError
from tuning.ray_backend import address, local_cluster
from tuning.ray_backend.address import Address, answers


@pytest.mark.parametrize(
    ("given", "host", "port", "client", "written"),
    [
        ("10.0.0.1:6379", "10.0.0.1", 6379, False, "10.0.0.1:6379"),
        ("ray://head.example:10001", "head.example", 10001, True, "ray://head.example:10001"),
        ("[::1]:6379", "::1", 6379, False, "[::1]:6379"),
        ("ray://[fd00::1]:10001", "fd00::1", 10001, True, "ray://[fd00::1]:10001"),
    ],
)
def test_an_address_is_a_host_and_a_port(
    given: str, host: str, port: int, client: bool, written: str
) -> None:
    found = Address.of(given)
    assert (found.host, found.port, found.client, found.for_ray) == (host, port, client, written)


@pytest.mark.parametrize(
    ("named", "host"), [("10.0.0.1:6379", "10.0.0.1"), ("ray://head:10001", "head")]
)
def test_auto_is_what_the_environment_says(
    named: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", named)
    assert Address.of("auto").host == host


@pytest.mark.parametrize("named", ["head", "http://head:8265", "head:port", ":6379"])
def test_what_the_environment_says_wrongly_is_named(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", named)
    with pytest.raises(InputError, match=f"RAY_ADDRESS={named}, which is no HOST:PORT"):
        Address.of("auto")


def test_a_head_that_is_slow_to_answer_has_not_let_anybody_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To take it for a cluster without a token would be to say so, and to stop showing ours."""
    monkeypatch.setattr(address, "ANSWER_S", 0.3)
    local_cluster.keep_the_token_private()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert Address.of(f"127.0.0.1:{port}").answers()
        assert Address.of(f"127.0.0.1:{port}").asks_for_a_token()
    assert not answers("127.0.0.1", port), "where nothing listens"
    assert not answers("a" * 300, 1), "a name that cannot be one"


def test_rays_settings_are_made_before_ray_is_imported() -> None:
    code = """
import os, sys
import tuning.ray_backend
assert os.environ["RAY_AUTH_MODE"] == "token" and "ray" not in sys.modules
from tuning.ray_backend import local_cluster
from ray._private import ray_constants
assert not ray_constants.ENABLE_RAY_CLUSTER, "each node would take its own address in the network"
"""
    ended = run(["-c", code], ROOT)
    assert ended.process.returncode == 0, ended.errors
