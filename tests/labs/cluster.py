"""Ray clusters of several nodes on this machine, and builds on them whose stages leave word of where they ran."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from tests.labs.kill import settled
from tests.labs.leftovers import end_all
from tests.labs.ray_head import ROOT, WAIT_S
from tests.labs.toy_build import ToyProject

NUM_CLIPS = 24

STAGE = '''"""Takes its time, and leaves a file that says on which node and device it ran."""
import time, uuid
from pathlib import Path
import numpy as np
from pipeline.stage import Stage
from schemas.column import Column


class {name}(Stage):
    reads = ("source", {reads})
    writes = (Column("{column}", "int32"), Column("{column}_note", "string", media=True))
    gpus = {gpus}

    def setup(self, device):
        self.device = device

    def process(self, clip):
        import ray

        time.sleep({seconds})
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "none"
        (Path("{journal}") / uuid.uuid4().hex).write_text(f"{column} {{clip.clip_id}} {{node}} {{self.device}}")
        while Path("{hold}").exists():
            time.sleep(0.05)
        note = clip.output("{column}.txt")
        note.write_text(f"{column} of {{clip.clip_id}}")
        return {{"{column}": np.int32(clip.num_frames), "{column}_note": note}}
'''


class Journal(ToyProject):
    """A toy project of two stages, the second perhaps on GPUs, that keep a journal outside the data set.

    While the file ``hold`` is there, no clip is finished.
    """

    def __init__(self, folder: Path, seconds: float, gpus: float = 0.0) -> None:
        super().__init__(folder)
        self.journal = folder / "journal"
        self.journal.mkdir()
        self.stages.clear()
        self.hold = folder / "hold"
        fields = {"journal": self.journal, "seconds": seconds, "hold": self.hold}
        self.add_stage("first", STAGE.format(name="First", column="first", reads="", gpus=0, **fields))
        self.add_stage("second", STAGE.format(name="Second", column="second", reads='"first"', gpus=gpus, **fields))
        self.write_clips([f"a,{n},{n + 1},left,positive,p,q,train" for n in range(NUM_CLIPS)])

    def command(self, out: str, *more: str) -> list[str]:
        return ["-m", "jobs.build", *self.arguments(out, *more)]

    @contextmanager
    def building(
        self, address: str, *more: str, fails: bool = False, environment: dict[str, str] | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """The build on a cluster, in a process of its own, which ends well or fails with the end of the block."""
        command = [sys.executable, *self.command("out", "--address", address, *more)]
        with (self.folder / "build.log").open("w") as output:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output, text=True)
            try:
                yield process
                assert bool(process.wait(timeout=WAIT_S)) == fails, self.said()
            finally:
                process.kill()
                process.wait()

    def said(self) -> str:
        return (self.folder / "build.log").read_text()

    def worked_on(self, node: Any) -> bool:
        return any(where == node.node_id for *_, where, _ in self.entries())

    def entries(self) -> list[tuple[str, str, str, str]]:
        """What the stages wrote: (stage, clip id, node id, device)."""
        return [tuple(path.read_text().split()) for path in self.journal.iterdir() if path.stat().st_size]

    def runs(self) -> Counter[tuple[str, str]]:
        """(stage, clip id) -> how often it was computed."""
        return Counter((stage, clip_id) for stage, clip_id, _, _ in self.entries())

    def whole(self) -> dict[tuple[str, str], str]:
        """(stage, clip id) whose file stands now, and the outcome."""
        return settled(self.folder / "out")


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """A cluster with a head that takes no tasks; ended with all its processes."""
    from ray._common.utils import get_default_ray_temp_dir
    from ray.cluster_utils import Cluster

    Path(get_default_ray_temp_dir()).mkdir(exist_ok=True)  # Ray notes its address there, and fails where it is not
    folder = tempfile.mkdtemp(prefix="ray-")
    soon = {"health_check_period_ms": 500, "health_check_timeout_ms": 5000, "gcs_rpc_server_reconnect_timeout_s": 5}
    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder, "object_store_memory": 2**27}
    with mock.patch.dict(os.environ):  # Ray writes there
        cluster = Cluster(shutdown_at_exit=False)
        try:
            cluster.add_node(**head, _system_config=soon)  # a loss is noticed
            yield cluster
        finally:
            end_all(folder)  # agents of a node that is killed alone live on
            for node in [*cluster.worker_nodes, cluster.head_node]:
                if node is not None:
                    node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
            shutil.rmtree(folder, ignore_errors=True)


def worker(cluster: Any, **resources: int) -> Any:
    return cluster.add_node(**resources, object_store_memory=2**27)
