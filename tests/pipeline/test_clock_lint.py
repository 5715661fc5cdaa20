"""No number of the clock outside clock.py: who needs frames or seconds asks it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("schemas", "pipeline", "stages", "jobs")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if path.name != "clock.py"]
RATES = (44_100, 1470, 29.97, 30_000 / 1001)  # numbers that can mean nothing else
FACTORS = (ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)


def numbers_of_the_clock(code: str) -> Iterator[int]:
    """Lines that calculate with the frame rate or write it, or the sampling rate, as a number of their own."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value in RATES:
            yield node.lineno
        elif isinstance(node, ast.BinOp):
            factors = (node.left, node.right) if isinstance(node.op, FACTORS) else ()
            if any(_is_fps(side) for side in (node.left, node.right)) or any(_is_30(side) for side in factors):
                yield node.lineno
        elif isinstance(node, ast.Call):
            fractions = node.args if isinstance(node.func, ast.Name) and node.func.id == "Fraction" else ()
            named = [keyword.value for keyword in node.keywords if "fps" in (keyword.arg or "")]
            if any(map(_is_fps, fractions)) or any(map(_is_30, [*fractions, *named])):
                yield node.lineno
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any("fps" in ast.unparse(target).lower() for target in targets) and _is_30(node.value):
                yield node.lineno


def _is_fps(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Name | ast.Attribute) and getattr(node, "id", getattr(node, "attr", "")) == "FPS"


def _is_30(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value == 30


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_but_the_clock_calculates_with_the_frame_rate(path: Path) -> None:
    lines = sorted(set(numbers_of_the_clock(path.read_text(encoding="utf-8"))))
    assert not lines, f"{path.relative_to(ROOT)}, lines {lines}: ask pipeline.clock (frames_in, seconds_of)"


@pytest.mark.parametrize(
    "code",
    ["n / FPS", "clock.FPS * s", "2 * FPS - 1", "n / 30", "30 * s", "s // 30", "Fraction(n, FPS)", "Fraction(1, 30)"]
    + ["rate = 44_100", "samples[:1470]", "FPS = 30", "fps: int = 30", "write(fps=30)", "fps = 29.97"],
)
def test_the_check_itself_finds(code: str) -> None:
    assert list(numbers_of_the_clock(code))


@pytest.mark.parametrize("code", ["write(fps=FPS)", "limit = 30", "{'fps': FPS}", "f'{FPS} fps'", "2**30", "n - 30"])
def test_the_check_itself_lets_pass(code: str) -> None:
    assert not list(numbers_of_the_clock(code))
