"""How much Hypothesis makes up: the same few examples in every ordinary run, others and many
more of them in `make faults`.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, configuration, given, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import providers

EXAMPLE_LIMIT_S = 20  # on a busy machine; most take a hundredth of a second
MANY = 20

# What Hypothesis keeps for itself is no part of the repository.
configuration.set_hypothesis_home_dir(f"{tempfile.gettempdir()}/hypothesis-{os.getuid()}")
# A busy machine makes examples slow, and a space file takes many choices: neither says anything
# about what is tested.
UNHEALTHY = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
settings.register_profile(
    "some", derandomize=True, database=None, deadline=None, suppress_health_check=UNHEALTHY
)
settings.register_profile(
    "many", derandomize=False, database=None, deadline=None, suppress_health_check=UNHEALTHY
)
EFFORTS = pytest.mark.parametrize(
    "times", [pytest.param(1, id="some"), pytest.param(MANY, id="many", marks=pytest.mark.slow)]
)


def for_all(
    test: Callable[..., None], *strategies: st.SearchStrategy[Any], number: int, times: int
) -> None:
    """Run a test with so many examples, always the same; `times` as many and random ones where
    it is more than one.
    """
    profile = settings(
        settings.get_profile("some" if times == 1 else "many"), max_examples=number * times
    )
    if times > 1:
        profile(given(*strategies)(test))()
        return
    # It also draws constants out of the modules imported so far, and so other ones after other
    # tests: here it draws none.
    with patch.object(providers, "_get_local_constants", providers.Constants):
        providers.CONSTANTS_CACHE.cache.clear()
        profile(given(*strategies)(test))()
        providers.CONSTANTS_CACHE.cache.clear()


@contextmanager
def in_time(seconds: int = EXAMPLE_LIMIT_S) -> Iterator[None]:
    """Fails what takes longer, also what never ends."""

    def ring(*_: object) -> None:
        raise AssertionError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
