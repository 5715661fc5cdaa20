"""The three fitters behind one interface: faces in, columns by their bare names out. Needs torch and numpy only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.morphable import deep3d, tddfa
from stages.morphable.basis import BasisError, load_basis
from stages.morphable.camera import Placement, crop_and_trans
from stages.morphable.landmark_gn import Fit, LandmarkFitter, Track

Columns = dict[str, np.ndarray]
SIZES = (80, 64)  # of identity and expression, as the columns have them
FRAMES_A_FIT = 20_000  # of `LandmarkFitter` at once on a GPU: about 2 GB


@dataclass(frozen=True)
class FilmedTrack(Track):
    """One face in one clip: points and valid of `Track`, and ``frames()``, the pictures, uint8 RGB (side, side, 3)."""

    side_px: int
    frames: Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True)
class Options:
    """How a fitter works, beside what it loads: see the stage's settings."""

    device: str = "cpu"
    smoothness: float = 0.0
    batch: int = 64
    half: bool = True


class LandmarkGn:
    """The Gauss-Newton fit to landmarks; ``error`` (see `Fit`) is a column beside those of the stage."""

    def __init__(self, files: dict[str, Path], options: Options) -> None:
        (path,) = files.values()
        basis = load_basis(path)
        if (len(basis.identity), len(basis.expression)) != SIZES:
            found = f"{len(basis.identity)} and {len(basis.expression)}"
            raise BasisError(
                f"basis {path}: expected {SIZES[0]} identity and {SIZES[1]} expression components, found {found}"
            )
        self._fitter = LandmarkFitter(basis, options.device, options.smoothness)

    def fit(self, faces: Sequence[FilmedTrack]) -> list[Columns]:
        """Columns of every face. Numbers of one face do not depend on the others beyond rounding."""
        columns: list[Columns] = []
        for group in _grouped(faces):
            fits = self._fitter.fit(group)
            columns += [_columns_of(fit, face) for fit, face in zip(fits, group, strict=True)]
        return columns


class Deep3d:
    """Deep3DFaceRecon on windows aligned by five of the landmarks."""

    def __init__(self, files: dict[str, Path], options: Options) -> None:
        self._network = deep3d.Deep3D(files["epoch_20.pth"], options.device, options.half)
        self._batch = options.batch

    def fit(self, faces: Sequence[FilmedTrack]) -> list[Columns]:
        """Columns of every face; windows of all faces share batches."""
        crops = [deep3d.crop_of(_y_up(deep3d.five_points(torch.from_numpy(f.points)), f.side_px)) for f in faces]
        parts = _coefficients(self._network, deep3d.window, faces, crops, self._batch)
        return [
            {**_spread(deep3d.columns_of(part), face.valid), "crop": _masked(crop, face.valid)}
            for face, part, crop in zip(faces, parts, crops, strict=True)
        ]


class TddfaV2:
    """3DDFA_V2 on crops around the landmarks."""

    def __init__(self, files: dict[str, Path], options: Options) -> None:
        self._network = tddfa.Tddfa(files["mb05_120x120.pth"], files["param_mean_std_62d_120x120.npz"], options.device)
        self._batch = options.batch

    def fit(self, faces: Sequence[FilmedTrack]) -> list[Columns]:
        """Columns of every face; crops of all faces share batches."""
        boxes = [tddfa.face_boxes(torch.from_numpy(face.points[..., :2])) for face in faces]
        parts = _coefficients(self._network, tddfa.cut, faces, boxes, self._batch)
        return [_of_tddfa(*each) for each in zip(parts, boxes, faces, strict=True)]


FITTERS = {"landmark_gn": LandmarkGn, "deep3d": Deep3d, "tddfa_v2": TddfaV2}


@contextmanager
def reproducible() -> Iterator[None]:
    """Numbers as one thread adds them up, the same on machines with few cores and many; and no shortened floats."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(threads)


def _columns_of(fit: Fit, face: FilmedTrack) -> Columns:
    origin = fit.placement.origin_px + torch.tensor([0.0, face.side_px - 1.0], device=fit.error.device)
    seen = torch.from_numpy(face.valid).to(origin.device)
    crop, trans = crop_and_trans(Placement(fit.placement.scale_px, origin), seen)
    of_frames = {"exp": fit.expression, "angle": fit.angle, "trans": trans, "crop": crop, "error": fit.error}
    return {"identity": fit.identity.float().cpu().numpy()} | {k: _masked(v, face.valid) for k, v in of_frames.items()}


def _coefficients(
    network: deep3d.Deep3D | tddfa.Tddfa,
    cut: Callable[[Tensor, Tensor], Tensor],
    faces: Sequence[FilmedTrack],
    places: Sequence[Tensor],
    size: int,
) -> Sequence[Tensor]:
    """Coefficients of the valid frames of every face, from cuts at its places (frame, 3) that pass in batches."""
    cuts = (
        cut(torch.from_numpy(rgb).permute(2, 0, 1).to(network.device), place)
        for face, places_of_face in zip(faces, places, strict=True)
        for rgb, valid, place in zip(face.frames(), face.valid, places_of_face, strict=True)
        if valid
    )
    batches = iter(lambda: list(islice(cuts, size)), [])  # itertools.batched, from Python 3.12 on
    found = torch.cat([network.coefficients(torch.stack(batch)).cpu() for batch in batches])
    return found.split([int(face.valid.sum()) for face in faces])


def _of_tddfa(coefficients: Tensor, boxes: Tensor, face: FilmedTrack) -> Columns:
    angle, trans = tddfa.pose_of(coefficients)
    middle = _y_up(boxes[:, :2] + (boxes[:, 2:] - 1) / 2, face.side_px)
    crop = torch.cat([tddfa.SIDE_PX / boxes[:, 2:], middle], 1)
    found = {"identity": coefficients[:, 12:52], "exp": coefficients[:, 52:], "angle": angle, "trans": trans}
    return {**_spread(found, face.valid), "crop": _masked(crop, face.valid)}


def _y_up(points: Tensor, side_px: int) -> Tensor:
    """Points (..., 2) of a picture of that height with y counted from its lower border."""
    return torch.stack([points[..., 0], side_px - 1 - points[..., 1]], -1)


def _masked(values: Tensor, valid: np.ndarray) -> np.ndarray:
    """Values (frame, ...) as float32, NaN where a frame is not valid."""
    array = values.float().cpu().numpy().copy()
    array[~valid] = np.nan
    return array


def _spread(found: dict[str, Tensor], valid: np.ndarray) -> Columns:
    """Columns (frame, ...) from values of the valid frames, NaN in the others."""
    columns = {}
    for name, values in found.items():
        columns[name] = np.full((len(valid), *values.shape[1:]), np.nan, np.float32)
        columns[name][valid] = values.numpy()
    return columns


def _grouped(faces: Sequence[FilmedTrack]) -> Iterator[list[FilmedTrack]]:
    """Neighbouring faces, as many as `FRAMES_A_FIT` allows, one at least."""
    group: list[FilmedTrack] = []
    for face in faces:
        if group and sum(len(other.valid) for other in [*group, face]) > FRAMES_A_FIT:
            yield group
            group = []
        group.append(face)
    if group:
        yield group
