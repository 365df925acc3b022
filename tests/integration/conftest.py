"""One real local Ray for all tests of this folder that drive it from inside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tuning import engine


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Two CPUs, no dashboard."""
    with engine.own_cluster(dashboard=False, num_cpus=2):
        yield
