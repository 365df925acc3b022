"""A Ray cluster of our own on this machine, its settings, its processes, and signals while it runs.

What a search needs to know of any cluster is `Cluster`; tuning/ray_backend/remote_cluster.py has
the one that runs already.
"""

from __future__ import annotations

import inspect
import logging
import os
import secrets
import signal
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import ray
from ray._private.parameter import RayParams

from tuning.run.resources import Slots

# What of it is read in a worker; a cluster that runs already is told it with the job.
WORKER_SETTINGS = {
    name: os.environ[name] for name in ("RAY_CHDIR_TO_TRIAL_DIR", "TUNE_FUNCTION_THREAD_TIMEOUT_S")
}
DAEMONS = ("raylet", "gcs_server")
CHECK_EVERY_S = 0.5


class Cluster:
    """A Ray that runs, as a search needs to know it.

    Args:
        dashboard: its address, if there is one.
        has_token: whether it lets in only those with a token.

    `on_capacity` is told how many trials fit at once, whenever that has changed.
    """

    def __init__(self, dashboard: str | None = None, *, has_token: bool = True) -> None:
        self.dashboard = dashboard
        self.has_token = has_token
        self.on_capacity: Callable[[int], None] = lambda count: None

    def dead(self) -> str | None:
        """What of Ray itself has died, or None. When it has, what Ray says of a trial is not to
        be believed.
        """
        raise NotImplementedError

    def lost_node(self, since: float) -> str | None:
        """A machine that has left the cluster after that moment, in seconds since 1970, or None."""
        return None

    def room(self, slots: Slots) -> int:
        """How many trials may be handed out now."""
        return slots.count

    def has_no_room(self, slots: Slots) -> bool:
        """Whether not a single trial can run now, though one may be waiting for a node."""
        return False

    @contextmanager
    def watched(self, on_death: Callable[[str], None]) -> Iterator[None]:
        """Call `on_death` from a thread, once, if Ray dies within the block: Ray itself would
        take a minute, or hang.
        """
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(CHECK_EVERY_S):
                if name := self.dead():
                    on_death(name)
                    return

        thread = threading.Thread(target=watch, name="cluster", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class OwnCluster(Cluster):
    """The Ray whose processes are children of this one."""

    def __init__(self, dashboard: str | None = None) -> None:
        super().__init__(dashboard)
        self._processes = {
            child.name(): child for child in psutil.Process().children() if child.name() in DAEMONS
        }

    def dead(self) -> str | None:
        for name, process in self._processes.items():
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return f"Ray's {name}"
        return None


def keep_the_token_private() -> None:
    """Ray makes the file of its token for all to read; whoever has the token runs code as this
    user.

    Ours is made first, or closed to others. A token that is given in the environment is the user's
    own business.
    """
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # 0600; and nobody sees half of it
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.link(file.name, path)
    except FileExistsError:
        with suppress(OSError):  # another's file, on purpose
            path.chmod(0o600)
    except OSError:  # no hard links here; where nothing can be written, Ray says so
        with (
            suppress(OSError),
            os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as plain,
        ):
            plain.write(secrets.token_hex(32))


def private_folder() -> str:
    """For Ray's sockets and logs. Ray opens their folder to everybody, so that it lies in one that
    nobody else can enter.

    The path is short, because those of sockets have to be.
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


def let_the_agent_choose_its_port() -> None:
    """Ray gives its dashboard's agent port 52365, and `ray.init` takes no other: beside another
    Ray, or for a minute after one was killed, the dashboard could then show no log. 0 lets the
    agent choose, as the agent itself knows how to.
    """
    parameters = inspect.signature(RayParams.__init__).parameters
    defaults = {
        name: p.default
        for name, p in parameters.items()
        if p.default is not inspect.Parameter.empty
    }
    RayParams.__init__.__defaults__ = tuple(
        (defaults | {"dashboard_agent_listen_port": 0}).values()
    )


@contextmanager
def own_cluster(*, dashboard: bool = True, **resources: Any) -> Iterator[OwnCluster]:
    """A Ray cluster of our own, whatever else runs on the machine."""
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
        yield OwnCluster(http_address(context.dashboard_url))
    finally:
        ray.shutdown()


def http_address(dashboard: str | None) -> str | None:
    """What a browser takes, of what Ray says of its dashboard."""
    return f"http://{dashboard}" if dashboard else None


@contextmanager
def sigterm_is_an_exit() -> Iterator[None]:
    """Within the block, and after it, SIGTERM ends the work in order; out of the block comes
    `SystemExit` with its number.

    To be entered when Ray runs: it takes the signal for itself when it starts, and would abort.
    """
    came = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt  # of all exceptions this one gets through where Ray waits

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(int(signal.SIGTERM)) if came else KeyboardInterrupt from None
