"""What makes the unit tests fast."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest


@pytest.fixture(scope="package", autouse=True)
def read_once() -> Iterator[None]:
    """The digits take 45 ms each time. So do the migration scripts, which Optuna executes whenever a
    database is opened.
    """
    from alembic.util import pyfiles

    from text_recognizer.data import digits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "_read", cache(digits._read))
        patch.setattr(pyfiles, "load_module_py", cache(pyfiles.load_module_py))
        yield
