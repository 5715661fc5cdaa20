"""The watch over the tests: what one leaves behind fails it, and under CI so does a skip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SKIPS = "import pytest\ndef test_it(): pytest.skip('no browser')\n"
LEAVES = """
import subprocess, tempfile
from pathlib import Path
from tests.labs import leftovers

leftovers.PATIENCE_S = 1

def test_it():
    assert not list(Path(tempfile.gettempdir()).iterdir())
    subprocess.run("sleep 600 > /dev/null 2>&1 &", shell=True, check=True)
"""


def outcome(program: str, folder: Path, environment: dict[str, str]) -> str:
    """The closing line of pytest about one test file."""
    (folder / "test_it.py").write_text(program)
    options = ["-m", "pytest", "-ra", "-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir"]
    given = {name: value for name, value in os.environ.items() if name != "CI"} | environment
    command = [sys.executable, *options, folder, folder / "test_it.py"]
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("environment", "expected"), [({}, "1 skipped"), ({"CI": "true"}, "1 failed")])
def test_under_ci_nothing_is_skipped(environment: dict[str, str], expected: str, tmp_path: Path) -> None:
    said = outcome(SKIPS, tmp_path, environment)
    assert expected in said.splitlines()[-1] and "no browser" in said


def test_a_process_that_a_test_leaves_behind_is_ended_and_fails_it(tmp_path: Path) -> None:
    said = outcome(LEAVES, tmp_path, {})
    assert "1 passed, 1 error" in said.splitlines()[-1]
    assert "left behind:" in said and "sleep 600" in said
