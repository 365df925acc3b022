"""The gate of a Ray cluster that runs already: what an address names, whether anything answers
there, and with which token.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

from text_recognizer.errors import InputError, Problem

CLIENT = "ray://"
ANSWER_S = 3  # for a connection; a machine that is gone does not even refuse


@dataclass(frozen=True)
class Address:
    """Where a cluster is joined.

    Args:
        given: the address in the user's own words.
        client: whether by Ray Client, from outside of the cluster.
    """

    given: str
    host: str
    port: int
    client: bool

    @classmethod
    def of(cls, given: str) -> Address:
        """The gate at `HOST:PORT` or `ray://HOST:PORT`; for `auto` at what `RAY_ADDRESS` says, else
        of this machine's Ray.

        Raises:
            InputError: it names none.
        """
        named = given
        if given == "auto":
            try:
                named = os.environ.get("RAY_ADDRESS") or canonicalize_bootstrap_address_or_die(
                    "auto"
                )
            except ConnectionError:
                raise refused(given, "no Ray that was started on this machine") from None
        host, _, port = named.removeprefix(CLIENT).rpartition(":")
        if not re.fullmatch(r"\d{1,5}", port) or not host or "/" in host:
            raise refused(
                given,
                f"RAY_ADDRESS={named}, which is no HOST:PORT"
                if given == "auto"
                else "no HOST:PORT",
            )
        return cls(given, host.strip("[]"), int(port), named.startswith(CLIENT))

    def __str__(self) -> str:
        """`HOST:PORT`, as Ray and gRPC take it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def for_ray(self) -> str:
        return f"{CLIENT if self.client else ''}{self}"

    def answers(self, patience: float = 0) -> bool:
        """Whether the cluster's head is there, now or within so many seconds."""
        return answers(self.host, self.port, patience)

    def asks_for_a_token(self) -> bool:
        """Whether only those with a token are let in. Raises `InputError` where it is another
        one than ours.
        """
        if not self._turns_away():
            return False
        ours = AuthenticationTokenLoader.instance().get_token_for_http_header()
        if self._turns_away(list(ours.items())):
            raise refused(
                self.given,
                (
                    "it has another token. Copy the head's ~/.ray/auth_token, or set "
                    "RAY_AUTH_TOKEN_PATH"
                ),
            )
        return True

    def _turns_away(self, token: Sequence[tuple[str, str]] = ()) -> bool:
        """Whether a question with this token, or none, is refused. Where nothing can be learned
        (TLS) Ray is left to find out.
        """
        method = (
            "/ray.rpc.RayletDriver/ClusterInfo"
            if self.client
            else "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"
        )
        refusals = [grpc.StatusCode.UNAUTHENTICATED]
        if not token:  # one that is slow to answer has not let us in
            refusals += [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED]
        with grpc.insecure_channel(str(self)) as channel:
            ask = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
            try:
                ask(b"", timeout=ANSWER_S, metadata=token)
            except grpc.RpcError as error:
                return error.code() in refusals
        return False


def answers(host: str, port: int, patience: float = 0) -> bool:
    """Whether something listens there, now or within so many seconds."""
    end = time.monotonic() + patience
    while True:
        try:
            socket.create_connection((host, port), ANSWER_S).close()
        except (OSError, UnicodeError):  # a name that cannot be one
            if time.monotonic() >= end:
                return False
            time.sleep(0.5)
        else:
            return True


def refused(given: str, why: str) -> InputError:
    """That no cluster is to be had at the address."""
    hint = (
        "`ray start --head` begins one (docs/cluster.md); without --address this machine is used."
    )
    return InputError(
        Problem("--address", "a Ray cluster that lets this process join", f"{given}: {why}", hint)
    )
