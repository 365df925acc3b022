"""C3: what else is on the machine. Our own Ray starts all the same, and the address it prints is
right.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import RAYS_PORTS, ROOT, FirstStart
from tests.processes import run
from text_recognizer.errors import ClusterError, InputError
from tuning.ray_backend.local_cluster import own_cluster
from tuning.run.resources import Node


def test_c3_a_taken_port_another_ray_and_an_address_in_the_environment(
    first_start: FirstStart,
) -> None:
    said = first_start.ran.output
    found = re.search(r"dashboard http://127\.0\.0\.1:(\d+) cpus 1\.0", said)
    assert found, said
    assert int(found[1]) not in RAYS_PORTS
    assert "page <!doctype html" in said.lower()
    assert "a job without the token 401" in said
    assert "said" in said.split("log ")[1], "its agent took another port, and can show logs"
    assert f"workers look first in {ROOT}\n" in said, "never in the current folder"


def test_without_the_packages_of_rays_dashboard_the_flag_is_named(tmp_path: Path) -> None:
    (tmp_path / "aiohttp.py").write_text("raise ImportError('no module named aiohttp')")
    (tmp_path / "space.yaml").write_text("space: {lr: {type: float, low: 1e-4, high: 1e-2}}")
    script = [str(ROOT / "tuning/search.py"), "--space", "space.yaml", "--data-class", "Digits"]
    ran = run(script, tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert ran.process.returncode == 6, ran.errors
    assert "--no-dashboard starts it without." in ran.errors
    assert "Traceback" not in ran.errors
    assert not [*tmp_path.glob("runs/*")]


def test_a_folder_in_which_ray_cannot_start_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, kind, said in (
        (
            "/proc/no",
            ClusterError,
            "Ray cannot start: /proc/no/ray-0: No such file.* Set RAY_TMPDIR",
        ),
        (f"/tmp/{chr(120) * 90}", InputError, "RAY_TMPDIR: `a folder whose path has at most"),
    ):
        monkeypatch.setenv("RAY_TMPDIR", folder)
        with pytest.raises(kind, match=said), own_cluster(Node(1, 0)):
            pytest.fail("it has started")
