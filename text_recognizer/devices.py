"""Tries GPUs for real: torch counts them by NVML, which also sees cards that CUDA cannot use."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from multiprocessing.pool import ThreadPool

import torch

VARIABLE = "HIP_VISIBLE_DEVICES" if torch.version.hip else "CUDA_VISIBLE_DEVICES"
ANSWERS_WITHIN_S = 120  # torch's import, and a context on a busy card


@dataclass(frozen=True)
class Gpus:
    """The GPUs of this machine.

    Args:
        names: of those that work.
        problem: which ones cannot be used, and why; empty if all work.
    """

    names: tuple[str, ...] = ()
    problem: str = ""


def gpu_failure() -> str:
    """Why this process cannot use its first GPU, as one line; empty if it can."""
    try:  # allocates, starts a kernel, and waits for it
        torch.ones(8, device="cuda").sum().item()
    except Exception as error:  # of torch, of the driver, or of a build without CUDA
        # CUDA's texts go on with advice for who debugs kernels.
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def hide_gpus() -> None:
    """Hide all GPUs from this process and its children."""
    os.environ[VARIABLE] = ""


@cache  # once a process, because it changes the environment
def try_gpus() -> Gpus:
    """Try each GPU that torch counts. Those that fail are hidden from now on, from Ray and its
    workers, too.

    Each is tried in a process of its own that sees no other. So this process takes no memory of a
    GPU, and a card that hangs or kills its process does not decide about the others.
    """
    count, visible = torch.cuda.device_count(), os.environ.get(VARIABLE)
    if not count:
        return Gpus()
    devices = [*map(str, range(count))] if visible is None else visible.split(",")[:count]
    with ThreadPool(count) as pool:
        tried = pool.map(lambda device: try_gpu(os.environ | {VARIABLE: device}), devices)
    failed: dict[str, list[str]] = {}
    for device, (_, problem) in zip(devices, tried, strict=True):
        if problem:
            failed.setdefault(problem, []).append(device)
    if failed:
        working = (device for device, (name, _) in zip(devices, tried, strict=True) if name)
        os.environ[VARIABLE] = ",".join(working)
    problems = (f"GPU {', '.join(which)}: {why}" for why, which in failed.items())
    return Gpus(tuple(name for name, _ in tried if name), "; ".join(problems))


def try_gpu(environment: dict[str, str]) -> tuple[str, str]:
    """(name, "") of the GPU that a new process in this environment uses, or ("", problem)."""
    process = subprocess.Popen(
        [sys.executable, "-P", __file__],  # -P: this folder's modules must not hide installed ones
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        said, complained = process.communicate(timeout=ANSWERS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()  # not waited for: no signal reaches a process that hangs in the driver
        return "", f"no answer in {ANSWERS_WITHIN_S} s"
    if process.returncode:
        lines = complained.split("\n")[:-1]
        return "", lines[-1] if lines else f"its process ended with {process.returncode}"
    return said.strip(), ""


if __name__ == "__main__":
    failure = gpu_failure()
    if failure:
        sys.exit(failure)
    sys.stdout.write(torch.cuda.get_device_name())
