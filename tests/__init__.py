"""Tests. Ray reads its environment when it is imported, so it is set before any test imports Ray."""

import tuning.ray_backend  # noqa: F401
