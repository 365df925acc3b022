"""Real processes for tests: start them, wait for their output, kill them, and check that none is
left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 300


def heed_signals() -> None:
    """Handle SIGINT and SIGHUP again: children of a shell's background job ignore the one, and
    those of `nohup` the other.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def heavy_imports(script: str, *arguments: str) -> tuple[int, list[str], str]:
    """A command's exit code, the heavy packages that it imported, and its stderr."""
    code = f"""
import os, runpy, sys
def end(code):
    print(code, *sorted({{'torch', 'ray', 'optuna', 'pytorch_lightning'}} & set(sys.modules)))
    raise SystemExit
os._exit = end
sys.argv = ['{script}', *sys.argv[1:]]
try:
    runpy.run_path('{script}', run_name='__main__')
except SystemExit as done:
    if done.code is not None:
        end(done.code)  # the parser of flags ended it
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    number, *found = ran.stdout.splitlines()[-1].split()
    return int(number), found, ran.stderr


class Command:
    """A command of the project in its own process. Its output is kept.

    Args:
        within: a command in front of it that replaces itself by it, such as one that enters a
            namespace.
        python: the Python that runs it.
        variables: of its environment.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        cwd: Path,
        within: Sequence[str] = (),
        *,
        python: str = sys.executable,
        **variables: str,
    ) -> None:
        # A GPU's machine has packages in a folder of the path.
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | variables
        self.process = subprocess.Popen(
            [*within, python, *arguments],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_signals,
        )
        self.said: list[str] = []
        self.complained: list[str] = []
        self._news = threading.Condition()
        pairs = ((self.process.stdout, self.said), (self.process.stderr, self.complained))
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True) for pair in pairs
        ]
        for reader in self._readers:
            reader.start()

    def close_output(self) -> None:
        """Close the pipe of its stdout, as `| head` does: its next line finds no reader."""
        # Duplicated over, because a thread of this process waits in a read of it.
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, self.process.stdout.fileno())  # type: ignore[union-attr]
        os.close(null)

    def _read(self, pipe: object, lines: list[str]) -> None:
        for line in pipe:  # type: ignore[attr-defined]
            with self._news:
                lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_to_say(self, *words: str) -> str:
        """Wait for a line with one of the words. Fails if the command ends without one."""

        def found() -> str | None:
            return next((line for line in self.said if any(word in line for word in words)), None)

        with self._news:
            self._news.wait_for(lambda: found() or self.process.poll() is not None, timeout=LIMIT_S)
        line = found()
        if line is None:
            self.process.kill()
        assert line, f"never said {words}: {self.output} {self.errors}"
        return line

    def family(self) -> list[psutil.Process]:
        """This process and all its descendants."""
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def end(self) -> int:
        """Wait for its end and return the exit code."""
        code = self.process.wait(timeout=LIMIT_S)
        for reader in self._readers:
            reader.join(timeout=LIMIT_S)
        return code

    @property
    def output(self) -> str:
        return "".join(self.said)

    @property
    def errors(self) -> str:
        return "".join(self.complained)


def run(
    arguments: Sequence[str], cwd: Path, *, python: str = sys.executable, **variables: str
) -> Command:
    """Run a command to its end."""
    command = Command(arguments, cwd, python=python, **variables)
    command.end()
    return command


# They hold no resources, and wait a minute for their dead cluster before they end.
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


def left(processes: Sequence[psutil.Process], *, agents: bool = False) -> list[str]:
    """The processes that do not end within two minutes; Ray's agents count only with `agents`."""
    names = {process.pid: process.name() for process in processes if process.is_running()}
    awaited = [process for process in processes if agents or names.get(process.pid) not in AGENTS]
    alive = psutil.wait_procs(awaited, timeout=120)[1]
    return [names[process.pid] for process in alive]
