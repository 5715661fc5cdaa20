"""A real S3-compatible server of a test's own: moto's, in a process, on a free port, with credentials of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

from pipeline.dataset.storage import ObjectPath, location
from tests.labs.ray_head import free_port, wait_for

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
