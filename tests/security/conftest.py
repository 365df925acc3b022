"""One real search that the tests share. It runs in an environment full of traps and is watched from
outside until it has ended.
"""

from __future__ import annotations

import os
import secrets
import signal
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import grpc
import psutil
import pytest

from tests.processes import ROOT, Command, left
from tests.security.commands import Commands
from text_recognizer.errors import ClusterError
from tuning.run.folder import RunFolder

SPACE = """
experiment: {data_class: Digits}
space:
  fc1: {type: int, low: 16, high: 64}
  optimizer: {type: categorical, choices: [Adam, SGD]}
search: {trials: 30, max_epochs: 2}
"""
SECRETS = {
    name: f"{name.lower()}-{secrets.token_hex(12)}"
    for name in ("AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "PGPASSWORD")
}
SECRETS["DATABASE_URL"] = f"postgresql://me:database_url-{secrets.token_hex(12)}@127.0.0.1/db"
# Calls that submit or list jobs, run a task in a worker, or ask for a worker. All need the token.
JOB_APIS = ("/api/jobs/", "/api/job_agent/jobs/")
CALLS = (
    "JobInfoGcsService/AddJob",
    "NodeManagerService/RequestWorkerLease",
    "CoreWorkerService/PushTask",
)
LIMIT_S = 10


@dataclass(frozen=True)
class Socket:
    """An open socket of a process of the search: TCP or UDP, over IPv4 or IPv6."""

    process: str
    kind: str
    state: str
    local: str
    port: int
    remote: str


@dataclass(frozen=True)
class Watched:
    """Everything that was seen of the search. Modes are permissions of files and folders, by path."""

    folder: RunFolder
    home: Path
    token: str
    code: int
    said: str
    sockets: list[Socket]
    environments: dict[str, list[dict[str, str]]]  # by the name of the process
    running: dict[Path, bytes]  # the files of the run while trials ran
    modes_running: dict[Path, int]
    modes: dict[Path, int]
    session: Path  # Ray's folder for logs and sockets
    session_modes: dict[Path, int]
    dashboard: dict[str, int]  # what it answers to a job, by what was sent along
    # what each port answers over HTTP to a job without a token; 0 where it does not speak it
    ports: dict[int, list[int]]
    # what each port answers to Ray's own calls without a token
    calls: dict[int, set[grpc.StatusCode]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need the finished search come last: it runs beside the others."""
    items.sort(key=lambda item: "watched" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session", autouse=True)
def looking(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Future[Watched] | None]:
    """Start the search before the first test of this folder, if any needs it. A thread watches it
    beside the tests that do not.

    The token file exists already and everybody can read it. The environment tries to switch
    authentication off.
    """
    if not any("watched" in getattr(item, "fixturenames", ()) for item in request.session.items):
        yield None
        return
    place = tmp_path_factory.mktemp("watched")
    (place / "space.yaml").write_text(SPACE)
    token, home = secrets.token_hex(32), place / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray/auth_token").write_text(token)
    (home / ".ray/auth_token").chmod(0o644)
    flags = ["--space", "space.yaml", "--name", "seen", "--max-concurrent", "1", "--keep-alive"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            **SECRETS,
            "HOME": str(home),
            "RAY_AUTH_MODE": "",
            "RAY_USAGE_STATS_ENABLED": "1",
        }.items():
            patch.setenv(name, value)
        old = os.umask(0)
        try:
            search = Command([str(ROOT / "tuning/search.py"), *flags], place)
        finally:
            os.umask(old)
    pool = ThreadPoolExecutor(1)
    try:
        yield pool.submit(look_at, search, RunFolder(place / "runs/seen"), home, token)
    finally:
        search.process.kill()  # has ended, but where something failed
        pool.shutdown()


@pytest.fixture(scope="session")
def watched(looking: Future[Watched]) -> Watched:
    """Everything that was seen of the search, when it has ended."""
    return looking.result()


def look_at(search: Command, folder: RunFolder, home: Path, token: str) -> Watched:
    """Look three times: while a trial runs, while Ray waits for Enter, after the end."""
    address = search.wait_to_say("dashboard ").split()[1]
    search.wait_to_say("complete", "stopped early")
    search.process.send_signal(signal.SIGSTOP)  # or it may have ended before all was seen
    family = search.family()
    sockets, environments, session = sockets_of(family), environments_of(family), session_of(family)
    running, modes_running = contents(folder.path), modes(folder.path)
    search.process.send_signal(signal.SIGCONT)
    search.wait_to_say("stay up")
    ports = sorted({one.port for one in sockets if one.state == psutil.CONN_LISTEN})
    with ThreadPoolExecutor(len(ports)) as pool:
        answers = dict(zip(ports, pool.map(answers_of, ports), strict=True))
        calls = dict(zip(ports, pool.map(calls_of, ports), strict=True))
    sent = {"the token": token, "another": secrets.token_hex(32), "nothing": ""}
    dashboard = {
        what: answer(address + JOB_APIS[0], token, method="GET") for what, token in sent.items()
    }
    session_modes = modes(session)
    search.process.send_signal(signal.SIGINT)
    code = search.end()
    assert left(family) == []
    return Watched(
        folder=folder,
        home=home,
        token=token,
        code=code,
        said=search.output + search.errors,
        sockets=sockets,
        environments=environments,
        running=running,
        modes_running=modes_running,
        modes=modes(folder.path),
        session=session,
        session_modes=session_modes,
        dashboard=dashboard,
        ports=answers,
        calls=calls,
    )


def sockets_of(family: list[psutil.Process]) -> list[Socket]:
    """The open sockets of all processes, from /proc."""
    return [
        Socket(
            process.name(),
            one.type.name,
            one.status,
            one.laddr.ip,
            one.laddr.port,
            one.raddr.ip if one.raddr else "",
        )
        for process in alive(family)
        for one in process.net_connections("inet")
        if one.laddr
    ]


def environments_of(family: list[psutil.Process]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for process in alive(family):
        found.setdefault(process.name(), []).append(process.environ())
    return found


def session_of(family: list[psutil.Process]) -> Path:
    """Ray's session folder, from the arguments of its processes."""
    arguments = [argument for process in alive(family) for argument in process.cmdline()]
    return Path(
        next(
            argument.split("=", 1)[1]
            for argument in arguments
            if argument.startswith("--session-dir=")
        )
    )


def alive(family: list[psutil.Process]) -> Iterator[psutil.Process]:
    """The processes that still live."""
    for process in family:
        try:
            process.environ()
            yield process
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue


def modes(folder: Path) -> dict[Path, int]:
    """Permissions of a folder and of everything in it, by path. Links are not followed."""
    paths = [folder, *folder.rglob("*")]
    return {
        path: stat.S_IMODE(path.lstat().st_mode)
        for path in paths
        if os.path.lexists(path) and not path.is_symlink()
    }


def contents(folder: Path) -> dict[Path, bytes]:
    """The content of all files of a folder, by path. A file that vanishes meanwhile is skipped."""
    found = {}
    for path in folder.rglob("*"):
        try:
            if stat.S_ISREG(path.lstat().st_mode):
                found[path] = path.read_bytes()
        except FileNotFoundError:
            continue
    return found


def answer(url: str, token: str = "", *, method: str = "POST") -> int:
    """The HTTP status of the answer; 0 if the server does not speak HTTP."""
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {token}"} if token else {}
    )
    body = b'{"entrypoint": "true"}' if method == "POST" else None
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, body, headers, method=method), timeout=LIMIT_S
        ) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, HTTPException):
        return 0


def answers_of(port: int) -> list[int]:
    """The statuses of a port's answers to a job without a token."""
    return [answer(f"http://127.0.0.1:{port}{path}") for path in JOB_APIS]


def calls_of(port: int) -> set[grpc.StatusCode]:
    """The statuses of a port's answers to Ray's own calls without a token."""
    found = set()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for call in CALLS:
            try:
                channel.unary_unary(f"/ray.rpc.{call}")(b"", timeout=LIMIT_S)
                found.add(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                found.add(error.code())
    return found


def on_loopback(address: str) -> bool:
    return address.removeprefix("::ffff:").startswith("127.") or address == "::1"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[RunFolder], Commands]:
    """Run commands on a run's folder, in a folder of the test. A command that would start Ray has
    read everything that it reads, and ends with 6.
    """

    def no_ray(*_: object, **__: object) -> None:
        raise ClusterError("here Ray would start")

    monkeypatch.setattr("tuning.ray_backend.local_cluster.ray.init", no_ray)
    monkeypatch.setattr("sys.argv", ["command"])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return lambda folder: Commands(folder, tmp_path)
