"""Makes the system calls that lock files fail, as they do on some network and FUSE disks."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

Result = TypeVar("Result")

FLOCK, FCNTL = {"x86_64": (73, 72), "aarch64": (32, 25)}.get(os.uname().machine, (0, 0))
F_SETLK = 6  # of `fcntl`: SQLite locks with it
NUMBER, COMMAND = 0, 24  # offsets in the kernel's `seccomp_data`: the call, its second argument
PR_SET_SECCOMP, FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # instructions of BPF
ALLOW, ERROR = 0x7FFF0000, 0x00050000


class Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def unlockable(error: int, action: Callable[[], Result], *, posix: bool = False) -> Result:
    """The result of `action`, in a thread for which the kernel answers each lock with `error`.

    Args:
        error: such as `errno.ENOLCK`.
        posix: fail `fcntl`'s locks, not `flock`.
    """
    steps = [(LOAD, 0, 0, NUMBER), (JUMP_IF_EQUAL, 0, 3 if posix else 1, FCNTL if posix else FLOCK)]
    if posix:
        steps += [(LOAD, 0, 0, COMMAND), (JUMP_IF_EQUAL, 0, 1, F_SETLK)]
    steps += [(RETURN, 0, 0, ERROR | error), (RETURN, 0, 0, ALLOW)]
    program = Program(len(steps), b"".join(struct.pack("HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None)
    refused: list[bool] = []
    results: list[Result] = []
    failures: list[BaseException] = []

    def work() -> None:
        # The filter is the thread's own, and ends with it.
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if libc.prctl(PR_SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0):
            refused.append(True)
            return
        try:
            results.append(action())
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if refused or not FLOCK:
        pytest.skip("no seccomp filter can be set here")
    if failures:
        raise failures[0]
    return results[0]
