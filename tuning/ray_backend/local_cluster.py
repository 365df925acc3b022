"""Starts a Ray cluster on this machine, and defines the interface of all clusters."""

import logging
import resource
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from functools import partial, partialmethod

import psutil
import ray
from ray._private import services
from ray._private.parameter import RayParams

from text_recognizer.command import PROJECT
from text_recognizer.errors import ClusterError
from tuning.ray_backend.ending import LastWords, complain, start_watched
from tuning.ray_backend.private import (
    keep_the_token_private,
    private_folder,
    shorten_tmpdir,
    swept_folder,
)
from tuning.run import Node, Slots

POPEN = services.ConsolePopen
DAEMONS = ("raylet", "gcs_server")
FEW_PROCESSES = 1000  # Ray starts about ten processes of some thirty threads each


class Cluster:
    """A running Ray.

    Set `on_capacity` to be told how many trials fit at once, whenever that changes, and `say` to
    print what the user should know.

    Args:
        dashboard: HOST:PORT of the dashboard, if there is one.
        has_token: whether the cluster asks for a token.
    """

    is_own = False  # whether this process started it, and nobody else uses it

    def __init__(self, dashboard: str | None = None, *, has_token: bool = True) -> None:
        self.dashboard = f"http://{dashboard}" if dashboard else None
        self.has_token = has_token
        self.on_capacity: Callable[[int], None] = lambda count: None
        self.say: Callable[[str], None] = lambda text: None

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

    is_own = True

    def __init__(self, dashboard: str | None = None) -> None:
        super().__init__(dashboard)
        self._processes = daemons()

    def dead(self) -> str | None:
        dead = (name for name, process in self._processes.items() if is_dead(process))
        return next((f"Ray's {name}" for name in dead), None)


@contextmanager
def own_cluster(
    machine: Node, *, dashboard: bool = True, last_words: LastWords = complain
) -> Iterator[OwnCluster]:
    """Start a Ray cluster on this machine, also beside another one.

    Args:
        machine: the CPUs and GPUs that Ray may use.
        last_words: called with the reason before the process ends because Ray hangs.

    Raises:
        ClusterError: Ray cannot start: its folder cannot be used, or one of its processes died.
        InputError: the path of its folder is too long.
    """
    adjust_ray()
    keep_the_token_private()
    shorten_tmpdir()
    folder = str(swept_folder())
    # Ray starts its workers by a line of bash in which this path is not quoted.
    python = shlex.quote(sys.executable)
    try:
        # Ray puts the current folder first in its workers' path. So that is the project's.
        with start_watched(dead_daemon, last_words), chdir(PROJECT):
            context = ray.init(
                address="local",
                num_cpus=int(machine.cpus),
                num_gpus=int(machine.gpus),
                include_dashboard=dashboard,
                dashboard_host="127.0.0.1",
                runtime_env=None if python == sys.executable else {"py_executable": python},
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:  # a folder, a port, a process: each has its own type
        raise ClusterError(not_started(str(error))) from error
    try:
        yield OwnCluster(context.dashboard_url)
    finally:
        ray.shutdown()


def adjust_ray() -> None:
    """Set what `ray.init` has no parameters for."""
    # The dashboard's agent chooses a free port. Its usual one, 52365, is taken beside another Ray
    # and for 62 s after one was killed; then the dashboard shows no logs (ray-project/ray#34886).
    RayParams.__init__ = partialmethod(  # type: ignore[method-assign,assignment]
        RayParams.__init__, dashboard_agent_listen_port=0
    )
    # A terminal that closes signals the command's whole group. Ray would end before the search, and
    # end this process if it just talks to it.
    services.ConsolePopen = partial(POPEN, start_new_session=True)  # type: ignore[misc,assignment]


def daemons() -> dict[str, psutil.Process]:
    """The processes of Ray that are children of this one, by name."""
    children = psutil.Process().children()
    return {child.name(): child for child in children if child.name() in DAEMONS}


def dead_daemon() -> str | None:
    """Why Ray cannot start if one of its processes died while it starts, or None."""
    with suppress(psutil.Error):  # a child that ended just now
        dead = (name for name, process in daemons().items() if is_dead(process))
        return next((not_started(f"its {name} died") for name in dead), None)
    return None


def is_dead(process: psutil.Process) -> bool:
    """Whether a child has ended. It is a zombie until this process reads its exit status."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def not_started(reason: str) -> str:
    """Why Ray cannot start, and what may help.

    Args:
        reason: Ray's error. It may end with a traceback, whose last line says what is wrong.
    """
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    few = 0 <= processes < FEW_PROCESSES
    last = [line for line in reason.splitlines() if line.strip()][-1:] or ["no reason given"]
    advice = f" `ulimit -u` allows {processes} processes and threads; allow more." if few else ""
    if "dashboard" in last[0]:
        advice += " --no-dashboard starts it without."
    return (
        f"Ray cannot start: {last[0].strip().rstrip('.')}.{advice} Its files and logs are in "
        f"{private_folder()}; RAY_TMPDIR names another place."
    )
