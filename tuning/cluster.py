"""A Ray cluster of our own on this machine, its settings, its processes, and signals while it runs."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Ray and Tune read these when they are imported or started; the workers inherit them.
os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_AUTH_MODE="token",  # the dashboard and the job API ask for the token in ~/.ray
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # keeps 127.0.0.1 as the node's address, so that its agents listen there only
    RAY_CHDIR_TO_TRIAL_DIR="0",
    RAY_AIR_NEW_OUTPUT="0",  # the other output prints a box even when told to be silent
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
    TUNE_DISABLE_SIGINT_HANDLER="1",
    TUNE_FUNCTION_THREAD_TIMEOUT_S="86400",  # a slow teardown must not fail the next trial; one that hangs ends its process
    TUNE_GLOBAL_CHECKPOINT_S="86400",  # Tune's own state is never read
    TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
)

import psutil
import ray
from ray._private.parameter import RayParams

DAEMONS = ("raylet", "gcs_server")
CHECK_EVERY_S = 0.5


class Daemons:
    """Ray's own processes under this one. When one of them is dead, what Ray says of a trial is not to be believed."""

    def __init__(self) -> None:
        self._processes = {child.name(): child for child in psutil.Process().children() if child.name() in DAEMONS}

    def dead(self) -> str | None:
        """The name of one that has ended, or None."""
        for name, process in self._processes.items():
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return name
        return None

    @contextmanager
    def watched(self, on_death: Callable[[str], None]) -> Iterator[None]:
        """Call `on_death` from a thread, once, if one ends within the block: Ray itself would take a minute, or hang."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(CHECK_EVERY_S):
                if name := self.dead():
                    on_death(name)
                    return

        thread = threading.Thread(target=watch, name="daemons", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def let_the_agent_choose_its_port() -> None:
    """Ray gives its dashboard's agent port 52365, and `ray.init` takes no other: beside another Ray, or for a minute after one
    was killed, the dashboard could then show no log. 0 lets the agent choose, as the agent itself knows how to.
    """
    parameters = inspect.signature(RayParams.__init__).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    RayParams.__init__.__defaults__ = tuple((defaults | {"dashboard_agent_listen_port": 0}).values())


@contextmanager
def own_cluster(*, dashboard: bool = True, **resources: Any) -> Iterator[str | None]:
    """A Ray cluster of our own, whatever else runs on the machine; yields the dashboard's address, if there is one."""
    let_the_agent_choose_its_port()
    context = ray.init(
        address="local",
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
        **resources,
    )
    try:
        yield f"http://{context.dashboard_url}" if context.dashboard_url else None
    finally:
        ray.shutdown()


@contextmanager
def sigterm_is_an_exit() -> Iterator[None]:
    """Within the block, and after it, SIGTERM ends the work in order; out of the block comes `SystemExit` with its number.

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
