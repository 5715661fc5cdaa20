"""Make ``.venv`` and install every dependency. `make setup` runs it, and so does every node of ray_cluster.yaml.

It needs a bare Python and the package registry, no more: Debian splits ensurepip from its Python, and where that is
missing pip comes as one wheel of a known hash. What to install stands in pyproject.toml, the tested versions in
constraints.txt. The stamp is written last, so that an interrupted setup is never taken for a complete one. What pip
says goes to .venv/setup.log.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import tomllib
import venv
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urljoin
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
PIP = "26.3"  # reads dependency groups, which Debian 12's own pip cannot
PIP_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
DOWNLOAD_TIMEOUT_S = 120
LAST_LINES = 10  # of what failed; the rest stands in the log
PATIENCE = ("--timeout", str(DOWNLOAD_TIMEOUT_S), "--retries", "10", "--disable-pip-version-check")


def main(root: Path = ROOT) -> None:
    """Bring ``.venv`` up to date with pyproject.toml and constraints.txt; does nothing where it is."""
    folder = root / ".venv"
    stamp, wanted = folder / "complete", fingerprint(root)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not stamp.exists():
        create(folder)
    stamp.unlink(missing_ok=True)
    install(folder, root)
    stamp.write_text(wanted)
    print(f"{folder} is complete")


def fingerprint(root: Path) -> str:
    """Hash of what decides the content of the environment: the dependencies and the tested versions."""
    dependencies, groups = requirements(root)
    inputs = [PIP, *dependencies, repr(groups), (root / "constraints.txt").read_text()]
    return hashlib.sha256("\n".join(inputs).encode()).hexdigest()


def requirements(root: Path) -> tuple[list[str], dict[str, list[str]]]:
    """What pip may resolve together, and the dependency groups (PEP 735) by name."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    return project["project"]["dependencies"], project["dependency-groups"]


def create(folder: Path) -> None:
    """An empty environment with our pip in it; the rest of an interrupted setup goes."""
    print(f"creating {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    has_pip = find_spec("ensurepip") is not None
    venv.create(folder, with_pip=has_pip, symlinks=True)
    if has_pip:
        pip(folder, f"pip=={PIP}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        wheel = download(f"pip-{PIP}-py3-none-any.whl", PIP_SHA256, index_of("pip"), Path(scratch))
        run(folder, wheel / "pip", "install", "--no-index", wheel)  # a wheel is a zip, and Python runs zips


def install(folder: Path, root: Path) -> None:
    """Install everything into the environment, in two steps because some packages' metadata is wrong."""
    constraints = ("--constraint", root / "constraints.txt")
    dependencies, groups = requirements(root)
    wanted, alone, may_be_gone = [*dependencies, *groups["dev"]], groups["no-deps"], groups["may-be-gone"]
    print(f"installing {len(wanted)} packages and what they need, some minutes; progress: {log_of(folder)}", flush=True)
    pip(folder, *constraints, *wanted)
    print(f"installing {len(alone)} packages without what they ask for", flush=True)
    # openai-whisper comes as source; it is built with the setuptools just installed, not with whatever is newest
    pip(folder, *constraints, "--no-deps", "--no-build-isolation", *alone)
    for package in may_be_gone:
        try:
            pip(folder, *constraints, "--no-deps", "--only-binary", ":all:", package)
        except SystemExit:
            print(
                f"{package} cannot be had, see {log_of(folder)}; a build will say what to fetch in its place",
                flush=True,
            )


def pip(folder: Path, *arguments: str | Path) -> None:
    run(folder, "-m", "pip", "install", *PATIENCE, *arguments)


def run(folder: Path, *arguments: str | Path) -> None:
    """Run the environment's Python; where that fails, the end of what it said stands above our message."""
    command = [str(word) for word in (folder / "bin" / "python", *arguments)]
    path = log_of(folder)
    with path.open("a") as log:
        start = log.tell()
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode
    if code:
        said = path.read_text()[start:].splitlines()[-LAST_LINES:]
        sys.exit("\n".join([*said, f"setup stopped: exit code {code} of pip, see {path}; run `make setup` again"]))


def log_of(folder: Path) -> Path:
    """Where what pip says is kept."""
    return folder / "setup.log"


def index_of(package: str) -> str:
    """Address of a package's page in the registry, asked for where pip asks: its variable, then its files."""
    files = configparser.ConfigParser(interpolation=None)
    files.read(["/etc/pip.conf", Path.home() / ".config" / "pip" / "pip.conf"])
    index = os.environ.get("PIP_INDEX_URL") or files.get("global", "index-url", fallback="https://pypi.org/simple")
    return f"{index.rstrip('/')}/{package}/"


def download(name: str, sha256: str, index: str, folder: Path) -> Path:
    """Fetch one file that an index page links to; its content must have the hash that we know."""
    link = re.search(rf'href="([^"#]*{re.escape(name)})', read(index).decode())
    if link is None:
        sys.exit(f"setup stopped: {index} lists no {name}; install python3.11-venv, or set PIP_INDEX_URL to a registry")
    content = read(urljoin(index, link[1]))
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        sys.exit(f"setup stopped: {name} from {index} has sha256 {found}, expected {sha256}; use another registry")
    path = folder / name
    path.write_bytes(content)
    return path


def read(url: str) -> bytes:
    """The content behind an address. The sender goes unchecked, the hash counts: a bare machine has no certificates."""
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    try:
        with urlopen(url, timeout=DOWNLOAD_TIMEOUT_S, context=anyone) as response:
            return bytes(response.read())
    except OSError as error:
        sys.exit(f"setup stopped: cannot read {url} ({error}); check the network, or set PIP_INDEX_URL, and try again")


if __name__ == "__main__":
    main()
