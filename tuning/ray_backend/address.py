"""The address of a Ray cluster that runs already."""

from __future__ import annotations

import os
import re
import socket
import time
from typing import NamedTuple

from ray._private.services import canonicalize_bootstrap_address_or_die as local_ray

from text_recognizer.errors import InputError

HOST_AND_PORT = re.compile(r"\[?([^\s/\[\]]+?)\]?:(\d{1,5})")
ANSWER_S = 3  # a machine that is gone does not even refuse


class Address(NamedTuple):
    """Host and port of a process of Ray."""

    host: str
    port: int

    @classmethod
    def parse(cls, given: str) -> Address:
        """Read `HOST:PORT`; `auto` is `RAY_ADDRESS`, else the Ray of this machine.

        Raises:
            InputError: it is no address, or no Ray runs on this machine.
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
        """Whether something listens there, now or within so many seconds."""
        end = time.monotonic() + patience
        while True:
            try:
                socket.create_connection(self, ANSWER_S).close()
                return True
            except (OSError, UnicodeError):  # UnicodeError: no machine can have this name
                if time.monotonic() >= end:
                    return False
                time.sleep(0.5)


def refused(given: str, why: str) -> InputError:
    """The error of an address at which no cluster can be joined."""
    return InputError(
        f"--address {given}: {why}. Start a cluster with `ray start --head` (docs/cluster.md), or "
        "leave --address out to use this machine."
    )
