"""A real terminal: tmux runs a command, its screen is read and keys are pressed as a person
would.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 240


class Terminal:
    """One window of its own tmux server.

    Args:
        command: the arguments of this Python.
        cwd: where it runs.
    """

    def __init__(
        self, command: Sequence[str], cwd: Path, *, columns: int = 140, rows: int = 45
    ) -> None:
        self.name = f"test-{os.getpid()}-{cwd.name}-{time.monotonic_ns()}"
        line = (
            # Ctrl-C is not for the shell
            f"trap : INT; {shlex.join([sys.executable, *command])}; echo ended with $?; exec cat"
        )
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        size = f"-x {columns} -y {rows}".split()
        # pytest's own size is not this terminal's
        environment = f"env -u COLUMNS -u LINES PATH={shlex.quote(path)}"
        self.tmux(
            "new-session",
            "-d",
            "-s",
            "t",
            *size,
            "-c",
            str(cwd),
            f"{environment} sh -c {shlex.quote(line)}",
        )

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self.name, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    def screen(self, *, colours: bool = False, above: int = 0) -> str:
        """What is to be seen, and so many lines that have gone off at the top."""
        return self.tmux(
            "capture-pane", "-p", "-J", "-t", "t", "-S", str(-above), *(["-e"] if colours else [])
        )

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match of what is on the screen, or was; fails where the command ends
        without.
        """
        end = time.monotonic() + LIMIT_S
        while not (found := re.search(pattern, self.screen(above=2000))):
            assert time.monotonic() < end, f"never saw {pattern}:\n{self.screen(above=200)}"
            assert "ended with" not in self.screen() or re.search(
                pattern, self.screen(above=2000)
            ), self.screen(above=200)
        return found

    def press(self, key: str) -> None:
        self.tmux("send-keys", "-t", "t", key)

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self.name, "kill-server"], capture_output=True, check=False)
