"""Hosts of a test's own on this machine: network namespaces at one switch, each with its address, name and disk.

A host is a process that does nothing but hold namespaces: of the network (one cable, to the switch), of mounts (its
own ``/tmp`` and ``/dev/shm``, in memory) and of the host's name. Nothing of it has a name in the machine's own
namespaces, so labs do not meet, and when its processes have ended everything is gone: devices, mounts, files.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest

from pipeline.dataset.storage import ObjectPath
from tests.labs.host_programs import DELAY, MISCHIEF, WRITES
from tests.labs.leftovers import Snapshot, command_of, end
from tests.labs.ray_head import RAY, ROOT, Jobs, until
from tests.labs.s3_server import KEY_ID, SECRET, Server
from tests.labs.toy_build import ToyProject

NET = "10.77.0."
STORAGE_PORT, RAY_PORT, JOBS_PORT = 9000, 6379, 8265
DISK = "400m"  # of every host
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
AN_HOUR_AHEAD = {
    "LD_PRELOAD": FAKETIME,
    "FAKETIME": "+1h",
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    "PYTHONPATH": "/tmp/clock",
}
SLEEP = """# With libfaketime before it, clock_nanosleep by a clock that is not faked fails.
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""
HOLD = "hostname $0 && mount -t tmpfs -o size=$1 t /tmp && mount -t tmpfs t /dev/shm && ip link set lo up && echo ready"
RULES = """table inet fault {{
 chain in {{ type filter hook input priority 0; iif lo accept; {rule}; }}
 chain out {{ type filter hook output priority 0; oif lo accept; {rule}; }}
}}"""
CUT, LOSE_5_PERCENT = "drop", "numgen random mod 100 < 5 drop"


@dataclass(frozen=True)
class Host:
    """One host; ``environment`` is that of everything that runs there."""

    name: str
    address: str
    holder: int  # its process
    environment: dict[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def enter(self) -> list[str]:
        """What stands before a command that shall run there."""
        return ["nsenter", "--target", str(self.holder), "--net", "--mount", "--uts", "env", f"--chdir={ROOT}"]

    def path(self, there: str) -> Path:
        """A file of the host, as this process sees it."""
        return Path(f"/proc/{self.holder}/root{there}")

    def start(self, *command: str | Path, log: str = "log", **more: str) -> subprocess.Popen[bytes]:
        """A process there, which writes to a log in its ``/tmp``; it ends with the lab at the latest."""
        with self.path(f"/tmp/{log}").open("ab") as output:
            environment = {**self.environment, **more}
            streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            self.started.append(subprocess.Popen([*self.enter, *command], env=environment, **streams))
        return self.started[-1]

    def said(self, log: str = "log") -> str:
        return self.path(f"/tmp/{log}").read_text(errors="replace")

    def suffer(self, rule: str) -> None:
        """`CUT` it off, or `LOSE_5_PERCENT` of what comes and goes; instead of what it has suffered so far."""
        self.recover()
        subprocess.run([*self.enter, "nft", "-f", "-"], input=RULES.format(rule=rule), text=True, check=True)

    def recover(self) -> None:
        subprocess.run([*self.enter, "nft", "flush", "ruleset"], check=True)

    @contextmanager
    def suffering(self, rule: str, seconds: float = 0.0) -> Iterator[None]:
        """During the block, and for so many seconds at least."""
        ends = time.monotonic() + seconds
        self.suffer(rule)
        try:
            yield
            time.sleep(max(0.0, ends - time.monotonic()))
        finally:
            self.recover()


class Lab:
    """A switch, a storage and hosts that are added; all of it goes with the block of `hosts_lab`."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.folder, self._stack, self._count = folder, stack, 0
        self.environment = {
            **{name: os.environ[name] for name in ("VICO_TESTS",) if name in os.environ},
            **{
                "PATH": f"{RAY.parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
                "HOME": "/tmp",
                "OMP_NUM_THREADS": "1",
            },
            **{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex()},
            **{"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"},
        }
        self.switch = self._hold("switch", ["--net"], "ip link add br0 type bridge && ip link set br0 up && echo ready")
        self.storage = self.host("storage")
        self.store = self._start_storage()

    def host(self, name: str, *, delayed: bool = False, clock: Mapping[str, str] | None = None) -> Host:
        """One more host; the packets of a ``delayed`` one are under way for as long as `delay` says."""
        self._count += 1
        address = f"{NET}{self._count}"
        environment = {**self.environment, **(clock or {})}
        host = Host(name, address, self._hold(name, ["--net", "--mount", "--uts"], HOLD, name, DISK), environment)
        self._stack.callback(lambda: [end_host(host.holder), *(process.wait() for process in host.started)])
        port, at_switch = f"p{self._count}", ["nsenter", "--target", str(self.switch), "--net"]
        if delayed:
            self.delay(0.0)
            command = [
                *at_switch,
                sys.executable,
                "-m",
                "tests.labs.host_programs",
                "cable",
                port,
                "far",
                str(self.folder),
            ]
            self._wait_for_ready(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))
            run(*at_switch, "ip", "link", "set", "far", "name", "eth0", "netns", str(host.holder))
        else:
            run(*at_switch, *f"ip link add {port} type veth peer name eth0 netns {host.holder}".split())
        run(*at_switch, *f"ip link set {port} master br0 up".split())
        run(*host.enter, *f"ip addr add {address}/24 dev eth0".split())
        run(*host.enter, "ip", "link", "set", "eth0", "up")
        host.path("/tmp/clock").mkdir()
        host.path("/tmp/clock/sitecustomize.py").write_text(SLEEP)
        return host

    def delay(self, seconds: float) -> None:
        """How long the cable of the delayed host keeps every packet that the host sends."""
        replace_text(self.folder / DELAY, str(seconds))

    def mischief(self, text: str = "{}") -> None:
        """What the storage does to the hosts: ``{"status": 503}``, ``{"slow_s": 1}``, nothing."""
        replace_text(self.folder / MISCHIEF, text)

    def writes(self) -> str:
        """What was written to the storage, by whom: a JSON object a line."""
        path = self.folder / WRITES
        return path.read_text() if path.is_file() else ""

    def address(self, root: ObjectPath) -> str:
        """A place in the storage as the hosts know it."""
        return f"s3://{root.key}?endpoint_override={self.storage.address}:{STORAGE_PORT}&scheme=http"

    def _start_storage(self) -> Server:
        self.mischief()
        door = socket.create_server(("127.0.0.1", 0))  # of the namespace in which tests run
        self._stack.enter_context(door)
        number, port = str(door.fileno()), door.getsockname()[1]
        program = [sys.executable, "-m", "tests.labs.host_programs", "storage", self.storage.address]
        there = ["nsenter", "--target", str(self.storage.holder), "--net"]  # its mounts hide the folder of the tests
        command = [*there, *program, str(STORAGE_PORT), number, str(self.folder)]
        with (self.folder / "storage.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, pass_fds=[door.fileno()], stdout=log, stderr=log)
        self.storage.started.append(process)
        server = Server(port, {})
        with socket.socket() as probe:
            until(lambda: probe.connect_ex(("127.0.0.1", port)) == 0, "the storage")
        return server

    def _hold(self, name: str, kinds: Sequence[str], script: str, *words: str) -> int:
        """A process in new namespaces, which has prepared them."""
        command = ["unshare", *kinds, "bash", "-c", f"{script} && exec sleep infinity", *(words or [name])]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._wait_for_ready(process)
        return process.pid

    def _wait_for_ready(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        assert process.stdout.readline() == b"ready\n"


def end_host(holder: int) -> None:
    """End all processes of a host but the one that holds it, and what they start meanwhile."""
    network = _network_of(holder)
    while found := [
        pid for pid in Snapshot.now().processes - {holder} if _network_of(pid) == network and command_of(pid)
    ]:
        for pid in found:
            end(pid)
        time.sleep(0.05)


def _network_of(process: int) -> str:
    with contextlib.suppress(OSError):  # it has ended
        return os.readlink(f"/proc/{process}/ns/net")
    return ""


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def replace_text(path: Path, text: str) -> None:
    """So that a reader sees the old text or the new one."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


@contextmanager
def hosts_lab() -> Iterator[Lab]:
    """A lab; skips where this machine forbids namespaces or lacks the programs."""
    for program, package in (("nft", "nftables"), ("ip", "iproute2"), ("faketime", "faketime")):
        if not shutil.which(program, path="/usr/bin:/usr/sbin:/bin:/sbin"):
            pytest.skip(f"hosts need {program}, of Debian's {package}")
    probe = subprocess.run(["unshare", "--net", "--mount", "--uts", "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"hosts need the right to make namespaces: {probe.stderr.strip()}")
    ours = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
    with (
        tempfile.TemporaryDirectory(prefix="hosts-") as folder,
        mock.patch.dict(os.environ, ours),
        ExitStack() as stack,
    ):
        yield Lab(stack, Path(folder))


# --- a cluster of Ray on them


@dataclass(frozen=True)
class Cluster:
    lab: Lab
    head: Host
    workers: tuple[Host, ...]
    jobs: Jobs


STARTED = "Ray runtime started"  # stands in what `ray start` says
NODE = "--object-store-memory=100000000 --temp-dir=/tmp/ray --disable-usage-stats --block"


def wait_for_node(host: Host) -> None:
    until(lambda: STARTED in host.said("ray.log"), f"the node of {host.name}")


@contextmanager
def cluster_on_hosts() -> Iterator[Cluster]:
    """A head that takes no tasks, and workers of a core: a plain one, one that can be slow, one whose clock is ahead.

    A worker that ends is started again, as whoever supervises a machine does.
    """
    with hosts_lab() as lab:
        head = lab.host("head")
        workers = (lab.host("plain"), lab.host("delayed", delayed=True), lab.host("ahead", clock=AN_HOUR_AHEAD))
        address = f"{head.address}:{RAY_PORT}"
        dashboard = f"--dashboard-host={head.address} --dashboard-port={JOBS_PORT}"
        options = f"--head --port={RAY_PORT} --node-ip-address={head.address} {dashboard} --num-cpus=0 {NODE}"
        head.start(RAY, "start", *options.split(), log="ray.log")
        wait_for_node(head)
        for host in workers:  # one after another: a node whose agents take more than 15 s to start gives itself up
            command = f"{RAY} start --address={address} --node-ip-address={host.address} --num-cpus=1 {NODE}"
            host.start("bash", "-c", f"while true; do {command}; sleep 1; done", log="ray.log")
            wait_for_node(host)
        member = head.environment
        yield Cluster(lab, head, workers, Jobs(f"http://{head.address}:{JOBS_PORT}", member, member, tuple(head.enter)))


STAGE = '''"""Takes its time, and notes on its host what it has done by which clock."""
import time
from pathlib import Path
import numpy as np
from pipeline.stage import Stage
from schemas.column import Column

THERE = Path("/tmp/toy")


class {name}(Stage):
    reads = ("source", "clip_id", {reads})
    writes = (Column("{column}", "int32"), Column("{column}_note", "string", media=True))

    def process(self, clip):
        if THERE.is_dir():
            with (THERE / "journal").open("a") as journal:
                journal.write(f"{column} {{clip.clip_id}} {{time.time()}}\\n")
            time.sleep(float((THERE / "pace").read_text()))
            while (THERE / "hold").exists():
                time.sleep(0.05)
        note = clip.output("{column}.txt")
        note.write_text(f"{column} of {{clip.clip_id}}\\n" * 2000)
        return {{"{column}": np.int32(len(clip.clip_id)), "{column}_note": note}}
'''
NUM_CLIPS = 40


class ToyOnHosts(ToyProject):
    """A toy project that is copied to every host, since none sees the disk of another."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.stages.clear()
        self.add_stage("first", STAGE.format(name="First", column="first", reads=""))
        self.add_stage("second", STAGE.format(name="Second", column="second", reads='"first"'))
        self.write_clips([f"a,{n},{n + 1},left,positive,p,q,train" for n in range(NUM_CLIPS)])

    def command(self, address: str, *more: str) -> list[str]:
        """The build, as one says it on a host."""
        words = self.arguments(address, *more)
        return ["python", "-m", "jobs.build", *(word.replace(str(self.folder), "/tmp/toy") for word in words)]

    def copy_to(self, hosts: Sequence[Host], pace_s: float) -> None:
        """Bring it there, with an empty journal; a stage takes so long for a clip."""
        for host in hosts:
            shutil.rmtree(host.path("/tmp/toy"), ignore_errors=True)
            shutil.copytree(self.folder, host.path("/tmp/toy"), ignore=shutil.ignore_patterns("undisturbed"))
            host.path("/tmp/toy/pace").write_text(str(pace_s))


def journal(host: Host) -> list[tuple[str, str, float]]:
    """(stage, clip id, time by the host's clock) of every attempt there."""
    path = host.path("/tmp/toy/journal")
    lines = [line.split() for line in path.read_text().splitlines()] if path.is_file() else []
    return [(stage, clip_id, float(at)) for stage, clip_id, at in lines]
