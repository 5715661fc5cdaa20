"""A real S3-compatible server of a test's own: moto's, in a process, on a free port, with credentials of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from unittest import mock

from pipeline.dataset.lock import Lease, locked
from pipeline.dataset.storage import ObjectPath, location
from tests.labs.ray_head import free_port, wait_for
from tests.labs.toy_build import ToyProject

KEY_ID, SECRET = "test-key-id", "a-secret-that-must-stand-nowhere"


@dataclass(frozen=True)
class Server:
    """Where it listens, and what a process needs in its environment to use it."""

    port: int
    environment: dict[str, str]

    def bucket(self, name: str) -> str:
        """Make a bucket; returns the address of a data set in it."""
        from pyarrow import fs

        storage = fs.S3FileSystem(endpoint_override=f"127.0.0.1:{self.port}", scheme="http", allow_bucket_creation=True)
        storage.create_dir(name)
        return f"s3://{name}/sets/toy?endpoint_override=127.0.0.1:{self.port}&scheme=http"

    def root(self, name: str) -> ObjectPath:
        """The same as the engine sees it."""
        found = location(self.bucket(name))
        assert isinstance(found, ObjectPath)
        return found


@contextmanager
def s3_server() -> Iterator[Server]:
    """A server that ends with the block; this process and its children may talk to it meanwhile."""
    port = free_port()
    ours = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with mock.patch.dict(os.environ, ours), server as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/moto-api/")
            yield Server(port, {**ours, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"})
        finally:
            process.kill()


# What a process does until it is killed. The environment holds credentials, which the server that forks may not have.


def build_there(environment: dict[str, str], says: Connection, folder: Path, address: str) -> None:
    """A build of a toy project."""
    os.environ.update(environment)
    root = location(address)
    with locked(root, Lease(0.3, 1.0)):
        says.send("begins")
        ToyProject(folder).build(root)


def upload_there(environment: dict[str, str], says: Connection, address: str) -> None:
    """An upload of 60 MB."""
    os.environ.update(environment)
    root, content = location(address), os.urandom(60_000_000)
    says.send("begins")
    (root / "big.bin").write_bytes(content)
