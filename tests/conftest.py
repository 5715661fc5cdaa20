"""Fixtures for all tests: the example media, and a Ray of our own."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Inherited by every process that a test starts, and read when a library is first imported: hence not in a fixture.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers with all cores each would only wait for each other
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex())  # else Ray writes one into the home directory


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with example media and golden numbers, read only."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared")
    return SHARED


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A Ray of two CPUs in this process, apart from any other on the machine."""
    import ray

    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: paths of sockets must stay under 108 characters
    ray.init(address="local", num_cpus=2, include_dashboard=False, _temp_dir=folder)
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
