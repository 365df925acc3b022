"""A Ray cluster of our own on this machine, and what a search asks of any cluster."""

from __future__ import annotations

import logging
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partialmethod
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private.parameter import RayParams

from tuning.run.resources import Slots

DAEMONS = ("raylet", "gcs_server")


class Cluster:
    """A Ray that runs.

    `on_capacity` is called with the number of trials that fit at once, whenever it has changed.

    Args:
        dashboard: HOST:PORT of the dashboard, if there is one.
        has_token: whether the cluster asks for a token.
    """

    def __init__(self, dashboard: str | None = None, *, has_token: bool = True) -> None:
        self.dashboard = f"http://{dashboard}" if dashboard else None
        self.has_token = has_token
        self.on_capacity: Callable[[int], None] = lambda count: None

    def dead(self) -> str | None:
        """The part of Ray that has died, or None. Then Ray's errors say nothing of a trial."""
        raise NotImplementedError

    def lost_node(self, since: float) -> str | None:
        """The address of a node that was lost after this time (seconds since 1970), or None."""
        return None

    def room(self, slots: Slots) -> int:
        """How many trials may be handed out now."""
        return slots.count

    def has_no_room(self, slots: Slots) -> bool:
        """Whether no node can run a trial now."""
        return False


class OwnCluster(Cluster):
    """A Ray whose processes are children of this one."""

    def __init__(self, dashboard: str | None = None) -> None:
        super().__init__(dashboard)
        children = psutil.Process().children()
        self._processes = {child.name(): child for child in children if child.name() in DAEMONS}

    def dead(self) -> str | None:
        for name, process in self._processes.items():
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return f"Ray's {name}"
        return None


@contextmanager
def own_cluster(*, dashboard: bool = True, **resources: Any) -> Iterator[OwnCluster]:
    """Start a Ray cluster on this machine, whatever else runs here.

    Args:
        resources: `num_cpus` and `num_gpus` of `ray.init`.
    """
    let_the_agent_choose_its_port()
    keep_the_token_private()
    context = ray.init(
        address="local",
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
        _node_ip_address="127.0.0.1",
        _temp_dir=private_folder(),
        log_to_driver=False,
        logging_level=logging.ERROR,
        **resources,
    )
    try:
        yield OwnCluster(context.dashboard_url)
    finally:
        ray.shutdown()


def let_the_agent_choose_its_port() -> None:
    """Set the port of the dashboard's agent to 0.

    Beside another Ray, and for a minute after one was killed, the fixed port 52365 is taken, and
    the dashboard can show no log. `ray.init` has no parameter for it (ray-project/ray#34886).
    """
    RayParams.__init__ = partialmethod(  # type: ignore[method-assign,assignment]
        RayParams.__init__, dashboard_agent_listen_port=0
    )


def keep_the_token_private() -> None:
    """Create Ray's token file for its owner only, or close it: with the token one can run code.

    Ray itself creates it readable by all users. A token in the environment is left alone.
    """
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    with suppress(OSError):  # Ray says what is wrong
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # a link to the whole file: another process that starts now must not read half a token
        with (
            suppress(FileExistsError),
            tempfile.NamedTemporaryFile("w", dir=path.parent) as file,  # 0600
        ):
            file.write(secrets.token_hex(32))
            file.flush()
            os.link(file.name, path)
        path.chmod(0o600)


def private_folder() -> str:
    """The folder for Ray's sockets and logs, inside of one that only this user can enter.

    Ray opens its folder to all users (ray-project/ray#4593). The path is short, because paths of
    sockets have to be.
    """
    parent = os.environ.get("RAY_TMPDIR") or "/tmp"
    path = Path(parent) / f"ray-{os.getuid()}"
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():  # somebody else was quicker
        path = Path(tempfile.mkdtemp(prefix="ray-", dir=parent))
    path.chmod(0o700)
    return str(path / "ray")
