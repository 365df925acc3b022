"""An autoscaling cluster, with the provider that Ray tests itself with.

Its nodes are real processes on the head's machine.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

from tests.cluster.test_nodes import close, start
from tests.hosts import Hosts
from tuning.run.folder import RunFolder

NODE = {
    "resources": {"CPU": 1, "object_store_memory": 200_000_000},
    "node_config": {},
    "min_workers": 0,
    "max_workers": 2,
}
EMPTY_LISTS = (
    *(
        "initialization_commands",
        "setup_commands",
        "head_setup_commands",
        "worker_setup_commands",
        "rsync_exclude",
    ),
    *(
        "head_start_ray_commands",
        "worker_start_ray_commands",
        "cluster_synced_files",
        "rsync_filter",
    ),
)
CONFIG = {
    **{name: [] for name in EMPTY_LISTS},
    "cluster_name": "grows",
    "max_workers": 2,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 5,
    "docker": {},
    "auth": {},
    "file_mounts": {},
    "file_mounts_sync_continuously": False,
    "provider": {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "worker": NODE,
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
    },
}


# as `ray up` and KubeRay start an autoscaler
SETTINGS = {
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_FAKE_CLUSTER": "1",
}


@pytest.mark.slow
def test_a_cluster_without_room_grows_for_max_concurrent_or_the_search_is_refused(
    network: Hosts, tmp_path: Path
) -> None:
    (tmp_path / "cluster.json").write_text(json.dumps(CONFIG))
    config = f"--autoscaling-config={tmp_path / 'cluster.json'}"
    network.start_head(tmp_path, config, cpus=0, **SETTINGS)
    refused = start(network.head, network.address, tmp_path)
    assert refused.end() == 2, refused.output + refused.errors
    assert "or wait for one with --max-concurrent N" in refused.errors
    assert not (tmp_path / "runs").exists()
    search = start(network.head, network.address, tmp_path, "--max-concurrent", "2", epochs=40)
    search.wait_to_say("no node has room for a trial (1 CPU, 0 GPU): waiting for a node to join")
    search.wait_to_say("trials that fit at once now: 2")
    assert search.end() == 0, search.output + search.errors
    assert "cluster   1 node, 0 CPUs, 0 GPUs" in search.output
    assert "up to 2 at once" in search.output
    run = RunFolder(tmp_path / "runs/run")
    close(run)
    slots = json.loads(run.summary.read_text())["resources"]["slots"]
    assert slots == 2, "as many as there was room for in the end"
