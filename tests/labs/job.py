"""A head and workers as ray_cluster.yaml starts them, with a token, and the `ray job` commands that users type."""

from __future__ import annotations

import re
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.labs.cluster import WAIT_S
from tests.labs.ray_head import RAY, free_port, running, wait_for

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "ray_cluster.yaml"


@dataclass(frozen=True)
class Jobs:
    """`ray job` against one head, by somebody who has the token and by somebody who has not."""

    address: str
    member: dict[str, str]
    stranger: dict[str, str]

    def __call__(
        self, verb: str, *words: str | Path, token: bool = True, timeout_s: float = WAIT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run ``ray job VERB``."""
        command = [RAY, "job", verb, "--address", self.address, *words]
        environment = self.member if token else self.stranger
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s)

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
        end = time.monotonic() + WAIT_S
        while (state := self.status(submission)) not in wanted:
            assert time.monotonic() < end, f"{submission} is {state}, not {wanted}: {self('logs', submission).stdout}"
            time.sleep(0.5)
        return state


@contextmanager
def job_server(num_cpus: int = 1) -> Iterator[Jobs]:
    """A head and a worker started by the file's own commands, on ports that are free here."""
    config, port, dashboard_port = yaml.safe_load(FILE.read_text()), str(free_port()), free_port()
    head = config["head_start_ray_commands"][-1].replace("6379", port)
    head = re.sub(r"--autoscaling-config=\S+", f"--dashboard-port={dashboard_port} --num-cpus=0", head)
    worker = config["worker_start_ray_commands"][-1].replace("6379", port)
    address = f"http://127.0.0.1:{dashboard_port}"
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as home:
        stranger = {"PATH": f"{RAY.parent}:/usr/bin:/bin", "HOME": home, "OMP_NUM_THREADS": "1"}
        member = {**stranger, "RAY_HEAD_IP": "127.0.0.1", "RAY_AUTH_TOKEN": secrets.token_hex()}
        jobs = Jobs(address, {**member, "RAY_AUTH_MODE": "token"}, {**stranger, "RAY_AUTH_MODE": "disabled"})
        with running(f"{head} --temp-dir={home} {agent_ports()}", member):
            wait_for(f"{address}/api/version")
            with running(f"{worker} --num-cpus={num_cpus} {agent_ports()}", member):
                yield jobs


def agent_ports() -> str:
    """Other Rays on this machine have the usual ones, and an agent without a port takes no jobs."""
    options = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")
    return " ".join(f"--{option}={free_port()}" for option in options)
