"""A linear morphable model of the face, and the ``.npz`` file that holds one.

A face is ``mean + identity' a + expression' e`` in decimetres of an average head: x to the right of the picture, y
up, z towards the viewer, looking at the viewer. A coefficient of 1 moves the points by ``UNIT_DM`` in root mean
square if the component has that size, as in our own bases; in a basis of other make (BFM's, whose components are
scaled by their standard deviation) it means what it means there. Layout of the file, V points:

====================== ================== =========================================================================
``name``               string             what data sets call it
``mean``               float (V, 3)       dm
``identity``           float (80, V, 3)   dm for a coefficient of 1; any number of components
``identity_std``       float (80,)        standard deviation of the coefficients among people: the prior
``expression``         float (64, V, 3)   dm for a coefficient of 1; any number of components
``expression_std``     float (64,)        standard deviation of the coefficients within clips: the prior
``point``              int (V,)           the MediaPipe point (0 to 477) that each of the V points stands for
``noise``              float              dm, standard deviation of a landmark's coordinate around the model
====================== ================== =========================================================================

A model that is not ours needs the vertices under MediaPipe's points (any subset does) and is brought to the scale and
orientation of `FIVE_POINTS_DM` first, so that angles, translations and crops mean the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from schemas.errors import UserError

NUM_POINTS = 478  # MediaPipe's face mesh with both irises
UNIT_DM = 0.01  # 1 mm
SHIPPED = Path(__file__).with_name("basis_media_v1.npz")

# Deng et al.'s five standard points in the axes of BFM: image-left eye, image-right eye, nose tip, corners of the mouth
FIVE_POINTS_DM = np.array(
    [
        [-0.3114865720272064, 0.29036077857017517, 0.13377952575683594],
        [0.30979886651039124, 0.289720356464386, 0.1317952573299408],
        [0.003253498813137412, -0.04617932438850403, 0.5524424314498901],
        [-0.25216928124427795, -0.3813391625881195, 0.22405731678009033],
        [0.24846619367599487, -0.38128235936164856, 0.22235769033432007],
    ]
)
FIVE_POINTS = ((33, 133), (362, 263), (4,), (61,), (291,))  # the MediaPipe points whose means these are


class BasisError(UserError):
    """A basis file does not have the documented layout."""


@dataclass(frozen=True)
class Basis:
    """The arrays of the module's table; ``sha256`` is that of the file it came from."""

    name: str
    mean: np.ndarray
    identity: np.ndarray
    identity_std: np.ndarray
    expression: np.ndarray
    expression_std: np.ndarray
    point: np.ndarray
    noise: float
    sha256: str = ""

    def shape(self, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Faces (..., V, 3) in dm of coefficients (..., 80) and (..., 64)."""
        return self.mean + np.tensordot(identity, self.identity, 1) + np.tensordot(expression, self.expression, 1)

    def save(self, path: Path) -> None:
        """Write the file; components as float16, whose error is a thousandth of a component."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "sha256"}
        for name in ("identity", "expression"):
            arrays[name] = arrays[name].astype(np.float16)
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)


def load_basis(path: Path = SHIPPED) -> Basis:
    """The basis in a file, as float32.

    Raises
    ------
    BasisError : no such file, an array is missing, or shapes and values contradict the layout.
    """
    if not path.is_file():
        raise BasisError(f"basis {path}: no such file; learn one with python -m jobs.study.learn_basis, or unset it")
    names = [field.name for field in fields(Basis) if field.name != "sha256"]
    with np.load(path, allow_pickle=False) as stored:
        missing = sorted(set(names) - set(stored))
        if missing:
            raise BasisError(f"basis {path}: expected the arrays {', '.join(names)}, found no {', '.join(missing)}")
        arrays = {name: stored[name] for name in names}
    basis = Basis(
        **{name: value.astype(np.float32) for name, value in arrays.items() if name not in ("name", "point", "noise")},
        name=str(arrays["name"]),
        point=arrays["point"].astype(np.int64),
        noise=float(arrays["noise"]),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    problems = "; ".join(_problems(basis))
    if problems:
        raise BasisError(f"basis {path}: {problems}; see the table in stages/morphable/basis.py")
    return basis


def _problems(basis: Basis) -> list[str]:
    points = len(basis.mean)
    wanted = {
        "mean": (points, 3),
        "identity": (len(basis.identity_std), points, 3),
        "expression": (len(basis.expression_std), points, 3),
        "point": (points,),
    }
    found = {name: getattr(basis, name).shape for name in wanted}
    problems = [
        f"{name}: expected shape {wanted[name]}, found {found[name]}" for name in wanted if found[name] != wanted[name]
    ]
    floats = [getattr(basis, name) for name in ("mean", "identity", "identity_std", "expression", "expression_std")]
    if not all(np.isfinite(array).all() for array in floats):
        problems.append("expected finite numbers, found others")
    if not set(basis.point.tolist()) <= set(range(NUM_POINTS)):
        problems.append(f"point: expected 0 to {NUM_POINTS - 1}, found {basis.point.min()} to {basis.point.max()}")
    if min(basis.identity_std.min(initial=1), basis.expression_std.min(initial=1), basis.noise) <= 0:
        problems.append("standard deviations and noise must be positive")
    return problems
