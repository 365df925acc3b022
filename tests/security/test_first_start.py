"""Ray started for the first time in a home: its token. `test_running.py` has a home in which
there was one, readable by all.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

import pytest

from tests.processes import run
from tests.security.conftest import contents

START = """
import os
from pathlib import Path
import grpc
from tuning.ray_backend.local_cluster import own_cluster
with own_cluster(dashboard=False, num_cpus=1):
    import ray
    address = ray.get_runtime_context().gcs_address
    try:
        grpc.insecure_channel(address).unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")(b"", timeout=10)
    except grpc.RpcError as error:
        print("without the token", error.code())
    print("mode", oct((Path.home() / ".ray/auth_token").stat().st_mode & 0o777))
    print("session", ray._private.worker._global_node.get_session_dir_path())
"""


def test_a_new_token_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever umask and environment say: to Ray a word that it does not know means no
    authentication.
    """
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "tokne")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    old = os.umask(0)
    try:
        started = run(["-c", START], tmp_path)
    finally:
        os.umask(old)
    assert started.process.returncode == 0, started.errors
    assert "without the token StatusCode.UNAUTHENTICATED" in started.output
    assert "mode 0o600" in started.output
    assert stat.S_IMODE((tmp_path / ".ray").stat().st_mode) & 0o022 == 0, (
        "nobody else puts another in its place"
    )
    token = (tmp_path / ".ray/auth_token").read_text()
    assert len(token) == len(secrets.token_hex(32))
    assert token not in started.output + started.errors
    session = Path(started.output.split("session ")[1].strip())
    assert [path for path, content in contents(session).items() if token.encode() in content] == []
