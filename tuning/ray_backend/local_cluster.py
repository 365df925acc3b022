"""Starts a Ray cluster on this machine, and defines the interface of all clusters."""

import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partialmethod
from pathlib import Path

import psutil
import ray
from ray._private.parameter import RayParams

from text_recognizer.errors import ClusterError
from tuning.run import Node, Slots

DAEMONS = ("raylet", "gcs_server")


class Cluster:
    """A running Ray.

    Set `on_capacity` to be told how many trials fit at once, whenever that changes.

    Args:
        dashboard: HOST:PORT of the dashboard, if there is one.
        has_token: whether the cluster asks for a token.
    """

    def __init__(self, dashboard: str | None = None, *, has_token: bool = True) -> None:
        self.dashboard = f"http://{dashboard}" if dashboard else None
        self.has_token = has_token
        self.on_capacity: Callable[[int], None] = lambda count: None

    def dead(self) -> str | None:
        """The part of Ray that has died, or None."""
        raise NotImplementedError

    def lost_node(self, since: float) -> str | None:
        """The address of a node that was lost after this time (of the monotonic clock), or None."""
        return None

    def room(self, slots: Slots) -> int:
        """How many trials may run or wait for a node now."""
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
        # A dead child is a zombie until this process reads its exit status.
        for name, process in self._processes.items():
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return f"Ray's {name}"
        return None


@contextmanager
def own_cluster(machine: Node, *, dashboard: bool = True) -> Iterator[OwnCluster]:
    """Start a Ray cluster on this machine, also beside another one.

    Args:
        machine: the CPUs and GPUs that Ray may use.

    Raises:
        ClusterError: Ray cannot start: its folder cannot be used, or one of its processes died.
    """
    # The dashboard's agent chooses a free port. Its usual one, 52365, is taken beside another Ray
    # and for 62 s after one was killed; then the dashboard shows no logs. `ray.init` has no
    # parameter for it (ray-project/ray#34886).
    RayParams.__init__ = partialmethod(  # type: ignore[method-assign,assignment]
        RayParams.__init__, dashboard_agent_listen_port=0
    )
    keep_the_token_private()
    try:
        context = ray.init(
            address="local",
            num_cpus=int(machine.cpus),
            num_gpus=int(machine.gpus),
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            _node_ip_address="127.0.0.1",
            _temp_dir=private_folder(),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # a folder, a port, a process: each has its own type
        raise ClusterError(
            f"Ray cannot start: {error}. Its own files are in RAY_TMPDIR, or else in /tmp."
        ) from error
    try:
        yield OwnCluster(context.dashboard_url)
    finally:
        ray.shutdown()


def keep_the_token_private() -> None:
    """Make Ray's token file readable for its owner only, and create it if it is missing."""
    # Who has the token can run code in the cluster. Ray creates the file readable for all users.
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    with suppress(OSError):  # Ray itself will say what is wrong
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The file appears when it is whole: a process that starts now must not read half a token.
        with (
            suppress(FileExistsError),
            tempfile.NamedTemporaryFile("w", dir=path.parent) as file,  # mode 0600
        ):
            file.write(secrets.token_hex(32))
            file.flush()
            os.link(file.name, path)
        path.chmod(0o600)


def private_folder() -> str:
    """A folder for Ray's sockets and logs that only this user can reach."""
    # Ray makes its folder 0777 (ray-project/ray#4593), so it lies inside a private one. The path is
    # short, because a socket's path has at most 107 characters.
    parent = os.environ.get("RAY_TMPDIR") or "/tmp"
    path = Path(parent) / f"ray-{os.getuid()}"
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    # Another user may have made a folder or a link of this name first.
    if path.lstat().st_uid != os.getuid():
        path = Path(tempfile.mkdtemp(prefix="ray-", dir=parent))
    path.chmod(0o700)
    return str(path / "ray")
