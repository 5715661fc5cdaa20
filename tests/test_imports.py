"""Who may import whom: schemas <- pipeline <- stages <- jobs, stages strangers to each other, heavy things late."""

from __future__ import annotations

import graphlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("schemas", "pipeline", "stages", "jobs")
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")
HEAVY = (
    "cv2",
    "dlib",
    "facenet_pytorch",
    "librosa",
    "mediapipe",
    "ray",
    "torch",
    "torchvision",
    "transformers",
    "whisper",
)
STAGE_IMPORT_S = 0.2  # of processor time; a stage takes about 0.01, the lightest of the heavy packages 0.3


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def test_imports_run_one_way() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("schemas/clip.py", "import pipeline.clock"),
        ("schemas/clip.py", "import torch"),
        ("pipeline/clock.py", "import stages"),
        ("pipeline/clock.py", "def late():\n    import mediapipe"),
        ("pipeline/clock.py", "import ray"),
        ("stages/acoustic.py", "import jobs"),
        ("stages/acoustic.py", "from ray import data"),
        ("stages/train/loop.py", "import stages.evaluate.scoring"),
        ("stages/evaluate/runs.py", "import stages.train_renderer.losses"),
    ],
)
def test_an_import_the_wrong_way_is_found(file: str, line: str, tmp_path: Path) -> None:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as module:
        module.write(f"\n{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1 and "1 broken" in result.stdout, result.stdout


def test_a_stage_imports_no_other_stage() -> None:
    graph = grimp.build_graph("stages", cache_dir=None)
    files = {f"stages.{name}" for name in STAGES}
    found = {(user, used) for used in files for user in graph.find_modules_that_directly_import(used)}
    assert not found


def test_no_modules_import_each_other_in_a_circle_not_even_late() -> None:
    graph = grimp.build_graph(*ROOMS, cache_dir=None, exclude_type_checking_imports=True)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    list(graphlib.TopologicalSorter(imports).static_order())  # raises `CycleError`, which names the circle


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_file_is_imported_in_milliseconds_and_without_heavy_packages(stage: str) -> None:
    program = f"""
import json, sys, time
import pipeline.stage  # numpy and pyarrow, which every stage shares
start = time.process_time()
import stages.{stage}
print(json.dumps([time.process_time() - start, [name for name in {HEAVY} if name in sys.modules]]))
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, heavy = json.loads(result.stdout)
    assert not heavy and seconds < STAGE_IMPORT_S


@pytest.mark.parametrize("program", [["-m", "jobs"], ["-c", "import jobs.setup"]], ids=["list", "setup"])
def test_the_list_of_commands_and_the_setup_run_on_a_bare_python(program: list[str]) -> None:
    subprocess.run([sys.executable, "-S", *program], cwd=ROOT, capture_output=True, check=True)  # no site-packages


def test_a_package_of_ours_from_elsewhere_is_refused_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").touch()
    program = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import jobs"
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert f"expected in {ROOT / 'pipeline'}, found in {tmp_path / 'pipeline'}" in result.stderr
    assert f"cd {ROOT} && python -m jobs.<name>" in result.stderr
