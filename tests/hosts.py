"""Machines for the tests of a cluster: each has a network address, processes and a temporary folder
of its own, by Linux' namespaces, and is plugged into one switch. All other folders are shared, but
for one that a host may have for itself.

Needs root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.processes import Command
from tuning.ray_backend.private import keep_the_token_private

NETWORK = "10.77.0"
GCS_PORT = 6379
UP = "This command will now block"


def unavailable() -> str | None:
    """Why there can be no hosts here, or None."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
        return "hosts in network namespaces take root, iproute2 and util-linux"
    tried = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True)
    return None if tried.returncode == 0 else "no namespaces can be made here"


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


class Host:
    """One machine.

    Args:
        private: folders in whose place it has empty ones of its own.
    """

    def __init__(self, name: str, address: str, private: Sequence[Path] = ()) -> None:
        self.name = name
        self.address = address
        self.private = private
        self.ray: Command | None = None

    def command(self, arguments: Sequence[str], cwd: Path, **environment: str) -> Command:
        """Run a command of `.venv` on this host, in the namespaces of its Ray if it has one."""
        environment = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", **environment}
        # of this process's own Ray
        ours = [f"--unset={name}" for name in os.environ if name.startswith(("RAY_", "TUNE_"))]
        words = [
            *ours,
            f"PATH={Path(sys.executable).parent}:{os.environ['PATH']}",
            *map("=".join, environment.items()),
        ]
        within = ["ip", "netns", "exec", self.name]
        if self.ray:
            within = ["nsenter", f"--target={self.first().pid}", "--net", "--mount", "--pid"]
        elif self.private:
            mounts = "".join(f'mount -t tmpfs none "{folder}" && ' for folder in self.private)
            within += [
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                f'{mounts}exec "$@"',
                "sh",
            ]
        # a namespace is entered at its root
        return Command(arguments, cwd, within=[*within, "env", f"--chdir={cwd}", *words])

    def start_ray(self, arguments: Sequence[str], cwd: Path, **environment: str) -> None:
        """`ray start` with these arguments, up when this returns."""
        ray = Path(sys.executable).with_name("ray")
        self.ray = self.command(
            [str(ray), "start", "--block", "--disable-usage-stats", *arguments], cwd, **environment
        )
        self.ray.wait_to_say(UP)

    def first(self) -> psutil.Process:
        """The process whose end is that of all others of the host."""
        assert self.ray
        return psutil.Process(self.ray.process.pid).children()[0]

    def kill(self) -> None:
        """Kill all of its processes at once."""
        if self.ray:
            if self.ray.process.poll() is None:  # Ray ends by itself where a part of it died
                self.first().kill()
            self.ray.end()
            self.ray = None

    def cut_off(self) -> None:
        """Pull its cable: its connections stay open and silent."""
        ip("-n", self.name, "link", "set", "eth0", "down")


class Hosts:
    """A switch and the hosts on it. The first one is the head of a Ray cluster."""

    def __init__(self) -> None:
        self.id = f"rs{os.getpid()}"
        self.temp = Path(tempfile.mkdtemp(prefix="ray-"))  # short: sockets are in it
        self.all: list[Host] = []
        ip("netns", "add", f"{self.id}-switch")
        ip("-n", f"{self.id}-switch", "link", "add", "br0", "type", "bridge")
        ip("-n", f"{self.id}-switch", "link", "set", "br0", "up")

    def add(self, *private: Path) -> Host:
        n = len(self.all) + 1
        host = Host(f"{self.id}-{n}", f"{NETWORK}.{n}", [self.temp, *private])
        ip("netns", "add", host.name)
        ip(
            "link",
            "add",
            "eth0",
            "netns",
            host.name,
            "type",
            "veth",
            "peer",
            "name",
            f"p{n}",
            "netns",
            f"{self.id}-switch",
        )
        ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            ip("-n", host.name, "link", "set", link, "up")
        ip("-n", f"{self.id}-switch", "link", "set", f"p{n}", "master", "br0", "up")
        self.all.append(host)
        return host

    @property
    def head(self) -> Host:
        return self.all[0]

    @property
    def address(self) -> str:
        return f"{self.head.address}:{GCS_PORT}"

    def start_head(self, cwd: Path, *arguments: str, cpus: int = 1, **environment: str) -> Host:
        keep_the_token_private()
        head = self.add() if not self.all else self.head
        flags = [
            f"--node-ip-address={head.address}",
            f"--num-cpus={cpus}",
            f"--temp-dir={self.temp}",
            "--num-gpus=0",
        ]
        head.start_ray(["--head", *flags, *arguments], cwd, **environment)
        return head

    def start_worker(self, cwd: Path, *private: Path, **environment: str) -> Host:
        host = self.add(*private)
        flags = [f"--node-ip-address={host.address}", "--num-cpus=1", "--num-gpus=0"]
        host.start_ray([f"--address={self.address}", *flags], cwd, **environment)
        return host

    def close(self) -> None:
        for host in self.all:
            host.kill()
            ip("netns", "del", host.name)
        ip("netns", "del", f"{self.id}-switch")
        shutil.rmtree(self.temp, ignore_errors=True)


@contextmanager
def hosts() -> Iterator[Hosts]:
    """A network of hosts, removed at the end."""
    network = Hosts()
    try:
        yield network
    finally:
        network.close()
