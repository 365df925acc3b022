"""Records how a run was made: command, versions, commit, hardware."""

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from text_recognizer.command import PROJECT
from tuning.run.files import Environment

# whose versions are recorded
LIBRARIES = (
    "recogniser-search",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "ray",
    "optuna",
    "numpy",
    "scikit-learn",
)


def environment(gpus: Sequence[str] = ()) -> Environment:
    """The content of `environment.json`.

    Args:
        gpus: the names of the GPUs that torch sees.
    """
    # Environment variables are not recorded, because they hold secrets.
    return Environment(
        command=shlex.join([Path(sys.executable).name, *sys.argv]),
        git_commit=git("rev-parse", "HEAD"),
        git_dirty=bool(git("status", "--porcelain")),
        python=platform.python_version(),
        versions={name: version_of(name) for name in LIBRARIES},
        platform=platform.platform(),
        processor=processor(),
        cpus=os.cpu_count(),
        gpus=list(gpus),
    )


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git(*arguments: str) -> str | None:
    """The output of git in the project's folder; None without git or a repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(PROJECT), *arguments],  # not in the current folder
            capture_output=True,
            text=True,
            timeout=10,  # a repository on a network drive may hang
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def processor() -> str:
    """The name of the CPU."""
    with suppress(OSError):
        # on Linux, where `platform.processor` knows no more than "x86_64"
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if model := re.search(r"^model name\s*: (.+)", cpuinfo, re.MULTILINE):
            return model[1]
    return platform.processor()
