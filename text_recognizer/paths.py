"""Paths as a user gives them."""

from __future__ import annotations

import errno
from pathlib import Path


def resolved(path: Path) -> Path:
    """The absolute path without links; it need not exist.

    Raises:
        OSError: a link in it leads to itself.
        ValueError: no path can have these characters.
    """
    # For a link to itself `resolve` raises RuntimeError up to Python 3.12, and nothing after it.
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise
    return path.resolve()
