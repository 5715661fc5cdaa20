"""Fixtures for all tests: the example media, a Ray of our own, and the watch over what tests leave behind."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.labs import leftovers

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Inherited by every process that a test starts, and read when a library is first imported: hence not in a fixture.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers with all cores each would only wait for each other
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex())  # else Ray writes one into the home directory
leftovers.settle()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with example media and golden numbers, read only."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared")
    return SHARED


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Where what is written for a GPU runs: here always, on a GPU where there is one."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return str(request.param)


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A Ray of two CPUs in this process, apart from any other on the machine."""
    import ray

    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder, leftovers.kept(folder):
        ray.init(address="local", num_cpus=2, include_dashboard=False, _temp_dir=folder)
        yield
        ray.shutdown(wait_for_processes=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the longest tests first, by the time that they allow themselves: else two cores end with one idle."""
    allowed: dict[Path, float] = {}
    for item in items:
        mark = item.get_closest_marker("timeout")
        allowed[item.path] = max(allowed.get(item.path, 0), mark.args[0] if mark else 0)
    items.sort(key=lambda item: -allowed[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI, whose machine has all that tests need but a GPU, a test that is skipped has failed."""
    report = yield
    needed = os.environ.get("CI") and not item.get_closest_marker("gpu")
    if report.skipped and needed and isinstance(report.longrepr, tuple):
        report.outcome, report.longrepr = "failed", f"{report.longrepr[2]}; under CI no test is skipped"
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """How a process of the tests ended that should not have: 1 is what Ray's library leaves with, -9 a kill."""
    if error:
        process = node.gateway._io.popen  # execnet keeps it to itself
        print(f"\n{node.gateway.id} ended with status {process.wait(timeout=10)}")


def _nothing_left() -> Iterator[None]:
    before = leftovers.Snapshot.now()
    yield
    before.end_what_came()


# Set up before the other fixtures of their scope, they come after them in the end. None for a single test: fixtures of
# its module may have started what the next test uses.
_after_the_session = pytest.fixture(scope="session", autouse=True, name="_after_the_session")(_nothing_left)
_after_a_module = pytest.fixture(scope="module", autouse=True, name="_after_a_module")(_nothing_left)
