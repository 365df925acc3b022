"""A cluster of three machines for the tests of this folder; each machine has one CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import Hosts, hosts, unavailable
from tests.postgres import Postgres, postgres, programs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("cluster")


@pytest.fixture
def network() -> Iterator[Hosts]:
    """A switch with nothing plugged in."""
    if why := unavailable():
        pytest.skip(why)
    with hosts() as found:
        yield found


@pytest.fixture
def three(network: Hosts, tmp_path: Path) -> Hosts:
    """A head and two workers."""
    network.start_head(tmp_path)
    for _ in range(2):
        network.start_worker(tmp_path)
    return network


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A real PostgreSQL."""
    found = programs()
    if not found:
        pytest.skip("PostgreSQL is not installed (tests/cluster/install.sh)")
    with postgres(found) as running:
        yield running
