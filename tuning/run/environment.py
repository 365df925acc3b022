"""What a run was made with: versions, commit, command, hardware."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tuning.run.files import Environment
from tuning.study.database import without_passwords

PACKAGES = (
    "recogniser-search",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "ray",
    "optuna",
    "numpy",
    "scikit-learn",
)
PROJECT = Path(__file__).resolve().parents[2]


def environment(gpus: Sequence[str] = ()) -> Environment:
    """What repeats or explains a run. No environment variables: secrets live there.

    Args:
        gpus: the names of the GPUs that torch sees.
    """
    return Environment(
        command=shlex.join(map(without_passwords, [Path(sys.executable).name, *sys.argv])),
        git_commit=git("rev-parse", "HEAD"),
        git_dirty=bool(git("status", "--porcelain")),
        python=platform.python_version(),
        versions={name: version_of(name) for name in PACKAGES},
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
    """What git says of the project, or None where there is no repository or no git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(PROJECT), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def processor() -> str:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
