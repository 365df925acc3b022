"""The address of a cluster."""

from __future__ import annotations

import socket

import pytest

from text_recognizer.errors import InputError
from tuning.ray_backend.address import Address


@pytest.mark.parametrize(
    ("given", "found"),
    [("10.0.0.1:6379", ("10.0.0.1", 6379)), ("[fd00::1]:6379", ("fd00::1", 6379))],
)
def test_an_address_is_a_host_and_a_port(given: str, found: tuple[str, int]) -> None:
    assert Address.parse(given) == found
    assert str(Address.parse(given)) == given


def test_auto_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert Address.parse("auto").host == "10.0.0.1"


@pytest.mark.parametrize("named", ["head", "http://h:8265", "ray://h:10001", "h:port", ":6379"])
def test_what_the_environment_says_wrongly_is_named(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", named)
    with pytest.raises(InputError, match=f"--address auto: {named} is not HOST:PORT"):
        Address.parse("auto")


def test_an_address_answers_where_something_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = Address("127.0.0.1", listening.getsockname()[1])
        assert address.answers()
    assert not address.answers()
    assert not Address("a" * 300, 1).answers(), "no machine has such a name"
