"""The address of a running Ray cluster."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from ray._private.services import canonicalize_bootstrap_address_or_die as local_ray

from text_recognizer.errors import InputError

HOST_AND_PORT = re.compile(r"\[?([^\s/\[\]]+?)\]?:(\d{1,5})")
ANSWER_S = 3  # a machine that is gone does not even refuse a connection


class Address(NamedTuple):
    """Host and port of a process of Ray."""

    host: str
    port: int

    @classmethod
    def parse(cls, given: str) -> Address:
        """Read `HOST:PORT` or `auto`: `RAY_ADDRESS`, or else the Ray on this machine.

        Raises:
            InputError: this is no address, or no Ray runs on this machine.
        """
        named = given
        if given == "auto":
            try:
                named = os.environ.get("RAY_ADDRESS") or local_ray("auto")
            except ConnectionError:
                raise refused(given, "no Ray was started on this machine") from None
        found = HOST_AND_PORT.fullmatch(named)
        if not found:
            raise refused(given, f"{named} is not HOST:PORT")
        return cls(found[1], int(found[2]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def answers(self, patience: float = 0) -> bool:
        """Whether something listens there, now or within `patience` seconds."""
        for _ in attempts(patience):
            with suppress(OSError, UnicodeError):  # UnicodeError: no machine can have this name
                socket.create_connection(self, ANSWER_S).close()
                return True
        return False


def attempts(seconds: float) -> Iterator[None]:
    """Yield at once, and again every half second until the time is over."""
    end = time.monotonic() + seconds
    yield
    while time.monotonic() < end:
        time.sleep(0.5)
        yield


def refused(given: str, why: str) -> InputError:
    """The error of an address at which no cluster can be joined."""
    return InputError(
        f"--address {given}: {why}. Start a cluster with `ray start --head` (docs/cluster.md), or "
        "leave --address out to use this machine."
    )
