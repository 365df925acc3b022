"""One folder in the place of another, so that a reader finds the old one or the new one and
never none.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from pathlib import Path

AT_FDCWD = -100  # paths are relative to the current folder
RENAME_EXCHANGE = 2
# a kernel or file system that cannot exchange
NOT_HERE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def replace_folder(new: Path, target: Path) -> None:
    """Put the folder `new` where `target` is, in one step, and delete what was there. Both are on
    one file system.

    Where the system cannot exchange two folders there is a moment without `target`; a process that
    dies in it leaves the old one as `target.old`.

    Raises:
        OSError: it cannot be done; `target` is as it was.
    """
    old = target.with_name(f"{target.name}.old")
    if not target.exists():
        new.rename(target)
    elif exchange(new, target):
        shutil.rmtree(new, ignore_errors=True)  # which is the old one now
    else:
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False where the system cannot do that. Raises
    `OSError`.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # another system's library
        return False
    if renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in NOT_HERE:
        return False
    raise OSError(number, os.strerror(number), str(other))
