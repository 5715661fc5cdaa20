"""The node types of ray_cluster.yaml on this machine: Ray's fake provider starts them as processes when asked."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from ray.util import get_node_ip_address

from tests.job_lab import FILE
from tests.ray_head import RAY, free_port

HEAD_TYPE = "ray.head.default"  # the fake provider knows its head by this name


def fake_config(port: int) -> dict[str, Any]:
    """ray_cluster.yaml with the provider exchanged: the same node types, smaller, and nothing else of value."""
    config = yaml.safe_load(FILE.read_text())
    types = config.pop("available_node_types")
    types[HEAD_TYPE] = {**types.pop(config["head_node_type"]), "max_workers": 0}
    for kind in types.values():
        kind["node_config"] = {}
        kind["resources"] = {name: min(amount, 1) for name, amount in kind["resources"].items()}
    kept = {key: config[key] for key in ("cluster_name", "max_workers", "upscaling_speed")}
    unused = {"auth": {}, "docker": {}, "file_mounts": {}, "cluster_synced_files": [], "rsync_filter": []}
    commands = {key: [] for key in config if key.endswith("_commands")}
    provider = {"type": "fake_multinode", "gcs_address": f"{get_node_ip_address()}:{port}"}
    return {
        **kept,
        **unused,
        **commands,
        "rsync_exclude": [],
        "file_mounts_sync_continuously": False,
        "idle_timeout_minutes": 0.1,
        "provider": provider,
        "head_node_type": HEAD_TYPE,
        "available_node_types": types,
    }


@contextmanager
def autoscaling_head() -> Iterator[str]:
    """A head that starts nodes on demand; gives its address. All its processes end with the block."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        config = Path(folder) / "fake.yaml"
        config.write_text(yaml.safe_dump(fake_config(port)))
        environment = {**os.environ, "RAY_FAKE_CLUSTER": "1", "RAY_AUTH_MODE": "token"}
        environment |= {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "AUTOSCALER_METRIC_PORT": str(free_port())}
        command = [RAY, "start", "--head", "--block", f"--port={port}", "--num-cpus=0", "--include-dashboard=false"]
        command += [f"--temp-dir={folder}", f"--autoscaling-config={config}"]
        command += [f"--metrics-export-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}"]
        log = (Path(folder) / "head.log").open("w")
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            time.sleep(8)
            yield f"{get_node_ip_address()}:{port}"
        finally:
            _kill_all_of(folder, process)
            log.close()


def _kill_all_of(folder: str, head: subprocess.Popen[bytes]) -> None:
    """End the head and every process that was started for its session, and no other Ray's."""
    os.killpg(head.pid, signal.SIGKILL)
    head.wait()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and folder.encode() in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:  # ended in the meantime
            continue
