"""Why a trial's process died, as Ray and the system tell it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import ray

from tuning.worker import last_lines

THRESHOLD = "RAY_memory_usage_threshold"
DIED = "the trial's process died"
PID = re.compile(r"\bpid[:=] ?(\d+)")
EXIT_CODE = re.compile(r"exit code (\d+)")
SIGNAL = re.compile(r"\*\*\* (SIG[A-Z]+) received")  # Ray's handler writes it to the worker's log
# Ray's monitor ends processes before Linux does.
MEMORY = re.compile(r"was (\S+) used / ([\d.]+)GB limit")
# Of one process: where several were ended, the error does not say which of them was the trial's.
HELD = re.compile(r"\b1 worker\(s\) were killed.*actual memory used=([\d.]+)GB", re.DOTALL)


@dataclass(frozen=True)
class Death:
    """The death of a trial's process.

    Args:
        cause: for the user, one line.
        said: the last lines of the process' log.
        memory: how full the machine's memory was, if the process was ended for it.
        is_greedy: whether the process itself held more than half of that memory.
    """

    cause: str
    said: tuple[str, ...] = ()
    memory: str = ""
    is_greedy: bool = False


def read_death(text: str, oom_kills_before: int) -> Death:
    """Read Ray's error of a dead process.

    Args:
        text: of the error.
        oom_kills_before: `oom_kills()` when the process got its trial.
    """
    pid = PID.search(text)
    said = tuple(last_lines(worker_log(f"*-{pid[1]}.err"))) if pid else ()
    if found := MEMORY.search(text):
        memory, held = f"{found[1]} of {found[2]}GB are used", HELD.search(text)
        if held and float(held[1]) > float(found[2]) / 2:
            return Death(f"its process held {held[1]} GB ({memory})", said, memory, is_greedy=True)
        return Death(f"{DIED}: Ray ended it", said, memory)
    if found := EXIT_CODE.search(text):
        return Death(f"{DIED} with exit code {found[1]}", said)
    signals = SIGNAL.findall("\n".join(said))
    if not signals and oom_kills() > oom_kills_before:
        return Death(f"{DIED}: Linux ended it", said, "nothing was left")
    how = f"of {signals[-1]}" if signals else "without a word: it was killed, or crashed"
    return Death(f"{DIED} {how}", said)


def describe_full_memory(memory: str) -> str:
    """That the machine's memory is full, whoever filled it, and what to do.

    Args:
        memory: as in `Death`.
    """
    return (
        f"the memory of the machine is full ({memory}, by all programs together). Close other "
        f"programs, use fewer workers at once (--max-concurrent), or raise {THRESHOLD}, the share "
        f"of it that may be used ({os.environ.get(THRESHOLD, 0.95)})"
    )


def oom_kills() -> int:
    """How many processes Linux has ended on this machine because its memory was full."""
    try:
        found = re.search(r"^oom_kill (\d+)", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:  # another system
        return 0
    return int(found[1]) if found else 0


def worker_log(pattern: str = "*.err") -> Path:
    """The newest log of a worker on this machine that is not empty."""
    node = ray._private.worker.global_worker.node
    if node is None:
        return Path(os.devnull)
    folder = Path(node.get_logs_dir_path())
    logs = (path for path in folder.glob(f"worker-{pattern}") if path.stat().st_size)
    return max(logs, key=lambda path: path.stat().st_mtime, default=folder / "raylet.err")
