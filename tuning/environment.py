"""What a run was made with: versions, commit, command, hardware."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tuning.database import without_passwords

PACKAGES = ("recogniser-search", "torch", "torchvision", "pytorch-lightning", "ray", "optuna", "numpy", "scikit-learn")
PROJECT = Path(__file__).resolve().parents[1]


def environment() -> dict[str, Any]:
    """Facts that repeat or explain a run. No environment variables: secrets live there."""
    return {
        "command": shlex.join(map(without_passwords, [Path(sys.executable).name, *sys.argv])),
        "git_commit": git("rev-parse", "HEAD"),
        "git_dirty": bool(git("status", "--porcelain")),
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": processor(),
        "cpus": os.cpu_count(),
        "gpus": gpus(),
    }


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git(*arguments: str) -> str | None:
    """What git says of the project, or None where there is no repository or no git."""
    try:
        done = subprocess.run(["git", "-C", str(PROJECT), *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def processor() -> str:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def gpus() -> list[str]:
    """The names of the GPUs that torch sees."""
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
