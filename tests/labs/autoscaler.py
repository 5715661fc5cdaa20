"""The node types of ray_cluster.yaml on this machine: Ray's fake provider starts them as processes when asked."""

from __future__ import annotations

import os
import re
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.labs.cluster import until
from tests.labs.job import FILE, agent_ports
from tests.labs.leftovers import processes_with
from tests.labs.ray_head import RAY, free_port, running

HEAD_TYPE = "ray.head.default"  # the fake provider knows its head by this name


@dataclass(frozen=True)
class AutoscalingHead:
    """A head that starts nodes when somebody wants them; ``environment`` holds the token of its cluster."""

    address: str
    folder: Path
    environment: dict[str, str]

    def processes(self, what: str = "") -> list[int]:
        """Processes of this cluster, and of no other, whose command line holds a text."""
        return [process for process, line in processes_with(str(self.folder)).items() if what in line]

    def num_nodes(self) -> int:
        """Every node has one raylet, the head's among them."""
        return len(self.processes("/raylet/raylet"))


@contextmanager
def autoscaling_head() -> Iterator[AutoscalingHead]:
    """A head started by the file's own command, with the provider exchanged; all its processes end with the block."""
    port, config = free_port(), yaml.safe_load(FILE.read_text())
    start = re.sub(r"--autoscaling-config=\S+", "", config["head_start_ray_commands"][-1].replace("6379", str(port)))
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(), "HOME": folder}
        environment = {"PATH": f"{RAY.parent}:/usr/bin:/bin", "OMP_NUM_THREADS": "1", "RAY_FAKE_CLUSTER": "1", **ours}
        environment |= {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "AUTOSCALER_METRIC_PORT": str(free_port())}
        # The provider starts nodes that look for the head at the address which Ray finds out for this machine.
        address = f"{_own_address()}:{port}"
        fake = Path(folder) / "fake.yaml"
        fake.write_text(yaml.safe_dump(fake_config(config, address)))
        head = AutoscalingHead(address, Path(folder), {**os.environ, **ours})
        options = f"--num-cpus=0 --dashboard-port={free_port()} --temp-dir={folder} --autoscaling-config={fake}"
        with running(f"{start} {options} {agent_ports()}", environment):
            until(lambda: _answers(address), "the head")
            yield head


def fake_config(config: dict[str, Any], address: str) -> dict[str, Any]:
    """ray_cluster.yaml with the provider exchanged: the same node types, of one core or GPU, and no commands."""
    types = {HEAD_TYPE if name == config["head_node_type"] else name: kind for name, kind in node_types(config)}
    return {
        **{key: config[key] for key in ("cluster_name", "max_workers", "upscaling_speed", "idle_timeout_minutes")},
        **{key: [] for key in config if key.endswith("_commands")},
        **{key: {} for key in ("auth", "docker", "file_mounts")},
        **{key: [] for key in ("cluster_synced_files", "rsync_filter", "rsync_exclude")},
        "file_mounts_sync_continuously": False,
        "provider": {"type": "fake_multinode", "gcs_address": address},
        "head_node_type": HEAD_TYPE,
        "available_node_types": types,
    }


def node_types(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, kind in config["available_node_types"].items():
        small = {resource: min(amount, 1) for resource, amount in kind["resources"].items()}
        yield name, {"max_workers": 0, **kind, "node_config": {}, "resources": small}


def _own_address() -> str:
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
