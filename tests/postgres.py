"""A PostgreSQL server of the test's own, from Debian's package: started, stopped, and started
again.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PASSWORD = "quite-secret-8f1c"
USER = "searcher"


def programs() -> Path | None:
    """Where the server's programs are, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return found[-1].parent if found else None


class Postgres:
    """A server on loopback that asks for a password. It refuses to run as root, so that it runs
    as `postgres` then.
    """

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self.as_user:
            shutil.chown(self.folder, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        secret = self.folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        flags = [
            "--username",
            USER,
            "--auth",
            "scram-sha-256",
            "--pwfile",
            str(secret),
            "--no-sync",
        ]
        self.call("initdb", "--pgdata", str(self.folder / "data"), *flags)
        self.start()

    def call(self, program: str, *arguments: str) -> None:
        command = [*self.as_user, str(self.programs / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories={self.folder}"
        log = str(self.folder / "log")
        self.call(
            "pg_ctl",
            "start",
            "--wait",
            "--pgdata",
            str(self.folder / "data"),
            "--log",
            log,
            "--options",
            options,
        )

    def stop(self) -> None:
        """Stop it and end open connections, as an administrator's restart does."""
        self.call(
            "pg_ctl", "stop", "--wait", "--mode", "fast", "--pgdata", str(self.folder / "data")
        )

    @property
    def url(self) -> str:
        """Its password is given in `PGPASSWORD`."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"


@contextmanager
def postgres(programs: Path) -> Iterator[Postgres]:
    """A server, removed at the end."""
    server = Postgres(programs)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
