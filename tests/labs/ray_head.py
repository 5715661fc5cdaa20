"""Ray heads of a test's own, on free ports, with a token, and ended with all their children.

A plain one is `running`; `job_server` and `autoscaling_head` are started by the commands of ray_cluster.yaml.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.labs.leftovers import end_all, processes_with

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "ray_cluster.yaml"
RAY = Path(sys.executable).parent / "ray"
WAIT_S = 240  # for anything, on a machine that has much else to do
HEAD_TYPE = "ray.head.default"  # the fake provider knows its head by this name


def until(condition: Callable[[], Any], what: str, within_s: float = WAIT_S) -> Any:
    """What the condition says once it holds."""
    end = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end, f"after {within_s} s still not: {what}"
        time.sleep(0.1)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def agent_ports() -> str:
    """Other Rays on this machine have the usual ones, and an agent without a port takes no jobs."""
    options = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")
    return " ".join(f"--{option}={free_port()}" for option in options)


@contextmanager
def membership() -> Iterator[dict[str, str]]:
    """The environment of those who have the token of a cluster; its HOME is the cluster's folder, and goes with it."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as home:
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex()}
        yield {"PATH": f"{RAY.parent}:/usr/bin:/bin", "HOME": home, "OMP_NUM_THREADS": "1", **token}


@contextmanager
def running(command: str, environment: dict[str, str]) -> Iterator[None]:
    """A `ray start` in the foreground, ended with all that knows its home: no need to drain it first."""
    environment = {**environment, "TMPDIR": tempfile.gettempdir()}
    with subprocess.Popen(["bash", "-c", f"{command} --block"], env=environment):
        try:
            yield
        finally:
            end_all(environment["HOME"])


def wait_for(url: str) -> None:
    """Return once something answers, if only with a refusal."""

    def answers() -> bool:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError as refusal:
            refusal.close()
        except OSError:
            return False
        return True

    until(answers, f"an answer at {url}")


@dataclass(frozen=True)
class Jobs:
    """`ray job` against one head, by somebody who has the token and by somebody who has not."""

    address: str
    member: dict[str, str]
    stranger: dict[str, str]
    enter: tuple[str, ...] = ()  # stands before the commands where they shall run on another host

    def __call__(self, verb: str, *words: str | Path, token: bool = True) -> subprocess.CompletedProcess[str]:
        command = [*self.enter, RAY, "job", verb, "--address", self.address, *words]
        environment = self.member if token else self.stranger
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WAIT_S)

    def submit(self, entrypoint: Sequence[str], *options: str, token: bool = True) -> subprocess.CompletedProcess[str]:
        """Submit the checkout with a command."""
        return self("submit", *options, "--working-dir", ROOT, "--", *entrypoint, token=token)

    def status(self, submission: str) -> str:
        """pending, running, succeeded, stopped or failed."""
        said = self("status", submission)
        found = re.search(r"\b(pending|running|succeeded|stopped|failed)\b", said.stdout + said.stderr, re.IGNORECASE)
        return found[1].lower() if found else ""

    def until(self, submission: str, *wanted: str) -> str:
        """Wait for one of some states; returns it."""
        return until(lambda: {self.status(submission)}.intersection(wanted), f"{submission} {wanted}").pop()


@contextmanager
def job_server(num_cpus: int = 1) -> Iterator[Jobs]:
    """A head and a worker started by the file's own commands, on ports that are free here."""
    config, port, dashboard_port = yaml.safe_load(FILE.read_text()), str(free_port()), free_port()
    head = config["head_start_ray_commands"][-1].replace("6379", port)
    head = re.sub(r"--autoscaling-config=\S+", f"--dashboard-port={dashboard_port} --num-cpus=0", head)
    worker = config["worker_start_ray_commands"][-1].replace("6379", port)
    address = f"http://127.0.0.1:{dashboard_port}"
    with membership() as member:
        stranger = {name: member[name] for name in ("PATH", "HOME", "OMP_NUM_THREADS")} | {"RAY_AUTH_MODE": "disabled"}
        member["RAY_HEAD_IP"] = "127.0.0.1"
        with running(f"{head} --temp-dir={member['HOME']} {agent_ports()}", member):
            wait_for(f"{address}/api/version")
            with running(f"{worker} --num-cpus={num_cpus} {agent_ports()}", member):
                yield Jobs(address, member, stranger)


@dataclass(frozen=True)
class AutoscalingHead:
    """A head that starts nodes when somebody wants them; ``environment`` holds the token of its cluster."""

    address: str
    environment: dict[str, str]

    def num_nodes(self) -> int:
        """Every node of this cluster, and of no other, has one raylet, the head's among them."""
        return sum("/raylet/raylet" in line for line in processes_with(self.environment["HOME"]).values())


@contextmanager
def autoscaling_head() -> Iterator[AutoscalingHead]:
    """A head started by the file's own command, with the provider exchanged for Ray's fake one.

    That starts the file's node types as processes of this machine when asked; all of them end with the block.
    """
    from ray.util import get_node_ip_address

    # The provider starts nodes that look for the head at the address which Ray finds out for this machine.
    port, host, config = free_port(), str(get_node_ip_address()), yaml.safe_load(FILE.read_text())
    start = re.sub(r"--autoscaling-config=\S+", "", config["head_start_ray_commands"][-1].replace("6379", str(port)))
    with membership() as member:
        fake = Path(member["HOME"]) / "fake.yaml"
        fake.write_text(yaml.safe_dump(fake_config(config, f"{host}:{port}")))
        options = f"--num-cpus=0 --dashboard-port={free_port()} --temp-dir={fake.parent} --autoscaling-config={fake}"
        scaling = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "AUTOSCALER_METRIC_PORT": str(free_port())}
        with running(f"{start} {options} {agent_ports()}", {**member, **scaling, "RAY_FAKE_CLUSTER": "1"}):
            with socket.socket() as probe:
                until(lambda: probe.connect_ex((host, port)) == 0, "the head")
            ours = {name: member[name] for name in ("HOME", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
            yield AutoscalingHead(f"{host}:{port}", {**os.environ, **ours})


def fake_config(config: dict[str, Any], address: str) -> dict[str, Any]:
    """ray_cluster.yaml with the provider exchanged: the same node types, of one core or GPU, and no commands."""
    types = {}
    for name, kind in config["available_node_types"].items():
        small = {resource: min(amount, 1) for resource, amount in kind["resources"].items()}
        small_type = {"max_workers": 0, **kind, "node_config": {}, "resources": small}
        types[HEAD_TYPE if name == config["head_node_type"] else name] = small_type
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
