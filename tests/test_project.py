"""The project as a whole: dependencies with reasons, one way in, the licence, the house's rules."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("schemas", "pipeline", "stages", "jobs")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NO_DEPS = PROJECT["dependency-groups"]["no-deps"]
REQUIRED = [Requirement(text) for text in (*PROJECT["project"]["dependencies"], *NO_DEPS)]
FOR_TESTS = [Requirement(text) for text in PROJECT["dependency-groups"]["dev"]]

ASKED_FOR = {"ray", "torch", "facenet-pytorch", "mediapipe", "librosa", "pyloudnorm", "yt-dlp", "ffmpeg-python"}
ASKED_FOR |= {"pyarrow", "pandas", "tqdm", "openai-whisper"}  # by the user, by name


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Every module of ours, parsed, under its path in the repository."""
    for path in MODULES:
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


# --- dependencies


def test_every_package_that_the_user_asked_for_is_a_dependency_and_each_says_why_it_is_there() -> None:
    assert not ASKED_FOR - names(REQUIRED)
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    for requirement in (*REQUIRED, *FOR_TESTS):
        (line,) = [line for line in lines if re.match(rf' +"{requirement.name}[\[<=>]', line)]
        assert re.search(r'",  # \S+ \S+', line), line


def test_a_tested_version_lies_in_the_range_of_its_dependency_and_what_a_cuda_torch_brings_is_not_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    split = (line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in split}
    for requirement in (*REQUIRED, *FOR_TESTS):
        if requirement.name != "yt-dlp":  # always the newest: extractors rot
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
    assert not [name for name in pins if name == "triton" or name.startswith(("nvidia-", "cuda-"))]


def test_every_import_is_a_declared_dependency() -> None:
    distributions = {**importlib.metadata.packages_distributions(), "dlib": ["dlib-bin"]}  # its wheel does not say so
    ours = {*ROOMS, *sys.stdlib_module_names}
    missing = {
        f"{path}: {module}"
        for path, tree in trees()
        for module in imported(tree) - ours
        if not {canonicalize_name(name) for name in distributions.get(module, [])} & names(REQUIRED)
    }
    assert not missing


def imported(tree: ast.Module) -> set[str]:
    """Top-level names of everything that a module imports, at once or later."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).split(".")[0])
    return found


def test_the_distribution_holds_all_rooms_and_no_second_way_in(tmp_path: Path) -> None:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    program = "from setuptools import build_meta; build_meta.prepare_metadata_for_build_wheel('built')"
    (tmp_path / "built").mkdir()
    subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, check=True)
    (folder,) = (tmp_path / "built").glob("*.dist-info")
    built = importlib.metadata.PathDistribution(folder)
    assert built.name == "vico-pipeline" and not built.entry_points
    assert set(str(built.read_text("top_level.txt")).split()) == set(ROOMS)


# --- one way in


def make(*words: str) -> str:
    return subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "target", ["setup", "demo", "test", "test-slow", "test-capped", "soak", "lint", "bench", "clean"]
)
def test_make_lists_its_targets(target: str) -> None:
    assert f"make {target} " in make()


def test_the_demo_makes_its_input_builds_and_checks_it_trains_on_it_predicts_and_answers() -> None:
    jobs = re.findall(r"-m jobs\.(\w+)", make("--dry-run", "demo", "PYTHON=true"))
    assert jobs == [
        "setup",
        "make_demo",
        "build",
        "check",
        "train",
        "predict",
        "respond",
    ]


def test_ci_runs_the_tests_as_a_newcomer_does_where_nothing_was_left_behind() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script and 'mount --bind "$CI_ROOM" /tmp' in script and "HOME=/tmp/home" in script
    targets = ["setup", "lint", "demo", "test-capped", "test", "test-slow"]
    assert re.findall(r"^make (\S+)$", script, re.MULTILINE) == targets
    assert script.rstrip().splitlines()[-1].startswith("make soak || echo")  # what it finds is told and refuses nothing


def test_every_folder_of_numeric_tests_exists() -> None:
    paths = re.findall(r"tests/\S+", make("--dry-run", "test-capped", "PYTHON=true"))
    assert len(paths) > 5 and all((ROOT / path).exists() for path in paths)


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["project"]["license"] == "Apache-2.0"


# --- the house's rules


def test_schemas_and_pipeline_are_strictly_typed() -> None:
    result = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_nothing_is_passed_over_in_silence_and_no_method_is_another_than_its_base_says() -> None:
    silent = re.compile(
        r"suppress\((\w+, )*(Base)?Exception\b|except( BaseException| Exception)?:\s+pass\b|ignore\[override"
    )
    assert not [f"{path}: {found[0]}" for path in MODULES for found in silent.finditer(path.read_text())]


def test_every_module_says_what_it_is_and_none_is_named_after_nothing() -> None:
    assert not [path for path, tree in trees() if not ast.get_docstring(tree)]
    assert not [str(path) for path in MODULES if path.stem in {"utils", "util", "helpers", "common", "core", "misc"}]


def test_no_setting_comes_from_an_environment_variable_of_ours() -> None:
    """Ray's and pip's own variables are theirs; ours stand in the manifest, but for the one cache root."""
    reads = re.compile(r"""(?:environ(?:\.\w+)?[\[(]|getenv\()\s*(?!["'](?:RAY|PIP)_|CACHE_VARIABLE)""")
    assert not [str(path) for path in MODULES if reads.search(path.read_text())]
