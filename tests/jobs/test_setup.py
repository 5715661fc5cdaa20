"""`make setup`: an interrupted setup is never taken for a complete one, and what is fetched is what was meant."""

from __future__ import annotations

import functools
import hashlib
import http.server
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import setup

WHEEL = "pip-1.0-py3-none-any.whl"
CONTENT = b"a wheel"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """A package registry on this machine with one page and one file."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / WHEEL).write_bytes(CONTENT)
    (tmp_path / "simple" / "pip").mkdir(parents=True)
    page = f'<a href="../../files/pip-0.9.tar.gz">old</a> <a href="../../files/{WHEEL}#sha256={SHA256}">{WHEEL}</a>'
    (tmp_path / "simple" / "pip" / "index.html").write_text(page)
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple/pip/"
        server.shutdown()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose environment is complete, as far as its stamp says, and whose next installation cannot work."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / "constraints.txt").write_text("")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["no-such-package"]\n[dependency-groups]\ndev = []\nno-deps = []\nmay-be-gone = []\n'
    )
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / ".venv" / "complete").write_text(setup.fingerprint(tmp_path))
    return tmp_path


def test_a_file_is_found_through_its_index_page(index: str, tmp_path: Path) -> None:
    assert setup.download(WHEEL, SHA256, index, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("wheel", "sha256", "registry", "told"),
    [
        (WHEEL, "0000", "", f"has sha256 {SHA256}, expected 0000"),
        ("pip-2.0-py3-none-any.whl", SHA256, "", "lists no pip-2.0-py3-none-any.whl"),
        (WHEEL, SHA256, "http://127.0.0.1:9/", r"cannot read http://127.0.0.1:9/ .*refused.*PIP_INDEX_URL"),
    ],
)
def test_what_cannot_be_fetched_is_named_and_not_kept(
    wheel: str, sha256: str, registry: str, told: str, index: str, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=told):
        setup.download(wheel, sha256, registry or index, tmp_path)
    assert not (tmp_path / wheel).exists()


def test_setup_goes_on_without_a_package_that_its_one_maintainer_took_back(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / ".venv" / "lib").symlink_to(Path(sys.prefix) / "lib")
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", project / ".venv")
    text = (project / "pyproject.toml").read_text().replace("no-such-package", "pip")
    text = text.replace("no-deps = []", 'no-deps = ["pip"]').replace("may-be-gone = []", 'may-be-gone = ["gone==1"]')
    (project / "pyproject.toml").write_text(text)
    setup.main(project)
    assert (project / ".venv" / "complete").read_text() == setup.fingerprint(project)
    assert "gone==1 cannot be had" in capsys.readouterr().out


def test_the_registry_is_the_one_that_pip_uses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    (tmp_path / ".config" / "pip").mkdir(parents=True)
    (tmp_path / ".config" / "pip" / "pip.conf").write_text("[global]\nindex-url = https://mirror.example/simple/\n")
    assert setup.index_of("pip") == "https://mirror.example/simple/pip/"
    monkeypatch.setenv("PIP_INDEX_URL", "https://nearer.example/simple")
    assert setup.index_of("pip") == "https://nearer.example/simple/pip/"


def test_a_failed_installation_leaves_no_stamp(project: Path) -> None:
    (project / "constraints.txt").write_text("no-such-package==1.0")
    with pytest.raises(SystemExit, match="run `make setup` again") as stop:
        setup.main(project)
    log = project / ".venv" / "setup.log"
    assert str(log) in str(stop.value) and "no-such-package" in str(stop.value) and "no-such-package" in log.read_text()
    assert not (project / ".venv" / "complete").exists()


def test_a_setup_says_a_line_a_step(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (project / "constraints.txt").write_text("# another content")
    python = project / ".venv" / "bin" / "python"
    python.unlink()
    python.write_text("#!/bin/sh\nseq 200\nseq 200 >&2\n")
    python.chmod(0o755)
    setup.main(project)
    printed = capfd.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["installing", "installing", f"{project}/.venv"]
    assert not printed.err and (project / ".venv" / "setup.log").read_text().count("200\n") == 4


def test_a_complete_environment_is_left_alone_and_only_what_is_installed_counts_as_a_change(project: Path) -> None:
    setup.main(project)
    with (project / "pyproject.toml").open("a") as file:
        file.write("[tool.ruff]\nline-length = 120\n")
    setup.main(project)
