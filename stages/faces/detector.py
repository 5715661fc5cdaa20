"""MTCNN: a cascade of three small networks that finds faces and five points on each.

Zhang, Zhang, Li, Qiao: "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", IEEE
Signal Processing Letters 2016. The cascade around the networks of `stages.faces.mtcnn` is written anew for batches of
video frames; on equal input it finds the boxes that facenet-pytorch's ``detect`` finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import floor, log
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.faces.boxes import Floats, best_first, containment, iou, non_maximum_suppression, sizes

if TYPE_CHECKING:
    from torch import Tensor

Ranking = Callable[[Floats], NDArray[np.intp]]

PYRAMID_FACTOR = 0.709  # about sqrt(1/2): every level halves the area
DEFAULT_MIN_FACE_PX = 20  # facenet-pytorch's, where its ladder of scales begins
PNET_CELL_PX, PNET_STRIDE_PX = 12, 2  # receptive field and stride of P-Net
RNET_INPUT_PX, ONET_INPUT_PX = 24, 48
THRESHOLDS = (0.6, 0.7, 0.7)  # probability that a candidate needs after P-, R- and O-Net: facenet-pytorch's
SEARCHES_ON_GPU = 8  # one frame leaves a GPU idle between its small layers; these are the looks of half a minute
LEVEL_OVERLAP, FRAME_OVERLAP = 0.5, 0.7  # above which the weaker candidate goes, in a level and in a frame


@dataclass(frozen=True)
class Faces:
    """The faces of one frame, largest first."""

    boxes: Floats  # (face, 4) x1, y1, x2, y2 in pixels of the frame; may reach outside of it
    probabilities: Floats  # (face,) in [0, 1]
    points: Floats  # (face, 5, 2) x, y of image-left eye, image-right eye, nose, image-left and -right mouth corner

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, row: int) -> Faces:
        """One of the faces alone."""
        return Faces(self.boxes[row : row + 1], self.probabilities[row : row + 1], self.points[row : row + 1])

    def scaled(self, factor: float) -> Faces:
        """The same faces in a frame that is ``factor`` times as large."""
        return Faces(self.boxes * np.float32(factor), self.probabilities, self.points * np.float32(factor))


def ladder_face_px(min_face_px: float) -> float:
    """The largest rung 20 / .709^k, not above ``min_face_px``, of the face sizes that facenet-pytorch looks for.

    A pyramid begun there has the very levels of a full pyramid that begins at 20 px, less its finest ones, so that
    larger faces get the same boxes at a fraction of the time.
    """
    rungs = floor(log(min_face_px / DEFAULT_MIN_FACE_PX) / log(1 / PYRAMID_FACTOR) + 1e-9)
    return DEFAULT_MIN_FACE_PX / PYRAMID_FACTOR**rungs


@dataclass(frozen=True)
class _Candidates:
    """Boxes on their way through the cascade."""

    boxes: Floats  # (candidate, 4)
    scores: Floats  # (candidate,)
    frames: NDArray[np.int64]  # (candidate,) index of the frame
    shifts: Floats  # (candidate, 4) correction by the last network, in box sizes

    def take(self, rows: NDArray[np.generic]) -> _Candidates:
        return _Candidates(self.boxes[rows], self.scores[rows], self.frames[rows], self.shifts[rows])


NO_CANDIDATES = _Candidates(
    boxes=np.empty((0, 4), np.float32),
    scores=np.empty(0, np.float32),
    frames=np.empty(0, np.int64),
    shifts=np.empty((0, 4), np.float32),
)


class FaceDetector:
    """MTCNN on a device, ``"cpu"`` or ``"cuda"``, which searches ``at_once`` frames together where there are so many.

    On a GPU frames go up once, as bytes; pyramid, crops and networks run there, and what comes down are candidates.
    """

    def __init__(self, device: str = "cpu", at_once: int | None = None) -> None:
        from stages.faces.mtcnn import networks

        self._pnet, self._rnet, self._onet = networks(device)
        self._device = device
        self.at_once = at_once or (1 if device == "cpu" else SEARCHES_ON_GPU)

    def detect(self, frames: NDArray[np.uint8], min_face_px: float = DEFAULT_MIN_FACE_PX) -> list[Faces]:
        """Faces of every frame of (frame, height, width, 3) uint8 RGB; no smaller than ``min_face_px``."""
        with _exact():
            areas = SummedAreas(frames, self._device)
            return self._decide(areas, self._propose(areas, min_face_px))

    def confirm(self, frames: NDArray[np.uint8], boxes: Sequence[Floats]) -> list[Faces]:
        """Faces of every frame of (frame, height, width, 3) uint8 RGB at or near the boxes (face, 4) proposed for it.

        The cascade without P-Net.
        """
        proposed = np.concatenate(boxes)
        rows = np.repeat(np.arange(len(boxes)), [len(of_frame) for of_frame in boxes])
        scores, shifts = np.ones(len(proposed), np.float32), np.zeros_like(proposed)
        with _exact():
            candidates = _Candidates(_squared(proposed), scores, rows, shifts)
            return self._decide(SummedAreas(frames, self._device), candidates)

    def _decide(self, areas: SummedAreas, candidates: _Candidates) -> list[Faces]:
        found, points = self._output(areas, self._refine(areas, candidates))
        faces = []
        for frame in range(areas.num_frames):
            rows = np.flatnonzero(found.frames == frame)
            rows = rows[np.argsort(-sizes(found.boxes[rows]).prod(axis=1), kind="stable")]  # largest first
            faces.append(Faces(found.boxes[rows], found.scores[rows], points[rows]))
        return faces

    def _propose(self, areas: SummedAreas, min_face_px: float) -> _Candidates:
        """P-Net on every level of the pyramid: one candidate a cell of 12 x 12 pixels that may hold a face."""
        scales = _pyramid(areas.height, areas.width, min_face_px)
        found = _merged([NO_CANDIDATES, *(self._propose_at(areas, scale) for scale in scales)])
        kept = found.take(_suppressed(found, FRAME_OVERLAP))
        return replace(kept, boxes=_squared(kept.boxes + kept.shifts * np.tile(sizes(kept.boxes), 2)))

    def _propose_at(self, areas: SummedAreas, scale: float) -> _Candidates:
        import torch

        level = _normalised(areas.resized(int(areas.height * scale + 1), int(areas.width * scale + 1)))
        # one frame at a time on a CPU: the layers of a batch do not fit its caches, which doubles the time
        outputs = [self._pnet(part) for part in level.split(1 if self._device == "cpu" else len(level))]
        probabilities, shifts = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        is_face = probabilities[:, 1] >= THRESHOLDS[0]
        cells = is_face.nonzero().cpu().numpy()  # frame, row, column
        corner = (PNET_STRIDE_PX * cells[:, :0:-1] + 1).astype(np.float32)  # x, y, counted from 1
        boxes = np.concatenate([corner, corner + PNET_CELL_PX - 1], axis=1) / np.float32(scale)
        scores = probabilities[:, 1][is_face].cpu().numpy()
        found = _Candidates(np.floor(boxes), scores, cells[:, 0], shifts.movedim(1, 3)[is_face].cpu().numpy())
        return found.take(_suppressed(found, LEVEL_OVERLAP))

    def _refine(self, areas: SummedAreas, candidates: _Candidates) -> _Candidates:
        """R-Net drops most candidates and corrects the rest."""
        candidates, crops = _crops(areas, candidates, RNET_INPUT_PX)
        if not len(crops):
            return candidates
        probabilities, shifts = self._rnet(crops)
        passed = _rescored(candidates, probabilities, shifts, THRESHOLDS[1])[0]
        kept = passed.take(_suppressed(passed, FRAME_OVERLAP))
        return replace(kept, boxes=_squared(_shifted(kept)))

    def _output(self, areas: SummedAreas, candidates: _Candidates) -> tuple[_Candidates, Floats]:
        """O-Net decides, corrects once more and places the five points, (candidate, 5, 2)."""
        candidates, crops = _crops(areas, candidates, ONET_INPUT_PX)
        if not len(crops):
            return candidates, np.empty((0, 5, 2), np.float32)
        probabilities, shifts, points = self._onet(crops)
        passed, rows = _rescored(candidates, probabilities, shifts, THRESHOLDS[2])
        x_then_y = points.cpu().numpy()[rows].reshape(-1, 2, 5)
        placed = x_then_y.swapaxes(1, 2) * (sizes(passed.boxes) + 1)[:, None] + passed.boxes[:, None, :2] - 1
        final = replace(passed, boxes=_shifted(passed))
        inclusive = final.boxes + np.array([0, 0, 1, 1], np.float32)  # facenet-pytorch counts the last pixel here
        kept = _suppressed(final, FRAME_OVERLAP, containment(inclusive[:, None], inclusive), _numpy_order)
        return final.take(kept), placed[kept]


@contextmanager
def _exact() -> Iterator[None]:
    """Nothing is learnt here, and floats are not shortened: a box would move by a tenth of a pixel on a GPU."""
    import torch

    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def _normalised(pixels: Tensor) -> Tensor:
    """Grey levels as the numbers of about -1 to 1 that the networks take."""
    return (pixels - 127.5) / 128


def _pyramid(height: int, width: int, min_face_px: float) -> list[float]:
    """Scales at which faces from ``min_face_px`` to the frame's shorter side fill one P-Net cell."""
    first = PNET_CELL_PX / min_face_px
    count = floor(log(PNET_CELL_PX / (min(height, width) * first)) / log(PYRAMID_FACTOR)) + 1
    return [first * PYRAMID_FACTOR**level for level in range(count)]


def _merged(parts: list[_Candidates]) -> _Candidates:
    fields = zip(*((part.boxes, part.scores, part.frames, part.shifts) for part in parts), strict=True)
    return _Candidates(*(np.concatenate(field) for field in fields))


def _crops(areas: SummedAreas, candidates: _Candidates, size_px: int) -> tuple[_Candidates, Tensor]:
    """The candidates that lie in their frame, and their pictures (candidate, 3, size_px, size_px)."""
    corners = np.trunc(candidates.boxes).astype(np.int64)
    low = np.maximum(corners[:, :2], 1) - 1  # boxes count pixels from 1
    high = np.minimum(corners[:, 2:], [areas.width, areas.height])
    inside = (high > low).all(axis=1)
    kept = candidates.take(inside)
    return kept, _normalised(areas.crops(kept.frames, np.concatenate([low, high], axis=1)[inside], size_px))


def _rescored(
    candidates: _Candidates, probabilities: Tensor, shifts: Tensor, threshold: float
) -> tuple[_Candidates, NDArray[np.intp]]:
    """Candidates whose new probability passes, with the new score and shift, and the rows that they had."""
    scores = probabilities[:, 1].cpu().numpy()
    rows = np.flatnonzero(scores > threshold)
    passed = candidates.take(rows)
    return replace(passed, scores=scores[rows], shifts=shifts.cpu().numpy()[rows]), rows


def _suppressed(
    candidates: _Candidates, threshold: float, overlap: Floats | None = None, rank: Ranking = best_first
) -> NDArray[np.intp]:
    """Rows that survive suppression inside their own frame; overlap is the IoU unless given."""
    kept = []
    for frame in np.unique(candidates.frames):
        rows = np.flatnonzero(candidates.frames == frame)
        boxes = candidates.boxes[rows]
        shared = iou(boxes[:, None], boxes) if overlap is None else overlap[np.ix_(rows, rows)]
        kept.append(rows[non_maximum_suppression(rank(candidates.scores[rows]), shared, threshold)])
    return np.concatenate(kept) if kept else np.empty(0, np.intp)


def _numpy_order(scores: Floats) -> NDArray[np.intp]:
    """Best first; of equals, and many reach a probability of 1, the one that facenet-pytorch happens to take."""
    return np.argsort(scores)[::-1]


def _shifted(candidates: _Candidates) -> Floats:
    """Boxes moved by the network's correction, in box sizes that count the last pixel."""
    return candidates.boxes + candidates.shifts * np.tile(sizes(candidates.boxes) + 1, 2)


def _squared(boxes: Floats) -> Floats:
    """Boxes grown to squares about their centres."""
    width_height = sizes(boxes)
    side = width_height.max(axis=1, keepdims=True, initial=0)
    low = boxes[:, :2] + width_height / 2 - side / 2
    return np.concatenate([low, low + side], axis=1)


class SummedAreas:
    """Frames of one size on a device, with the mean of any rectangle in four look-ups: many crops are made at once.

    Crow: "Summed-Area Tables for Texture Mapping", SIGGRAPH 1984. Rectangles are cut into the bins of adaptive average
    pooling (torch's ``interpolate(mode="area")``), which is how facenet-pytorch resizes. Frames are uint8 (frame,
    height, width, 3).
    """

    def __init__(self, frames: NDArray[np.uint8], device: str) -> None:
        import torch

        self.num_frames, self.height, self.width = frames.shape[:3]
        self._tables = summed_by_opencv(frames) if device == "cpu" else summed(torch.from_numpy(frames).to(device))
        self._device = device

    def resized(self, height: int, width: int) -> Tensor:
        """All frames, area-averaged, as float32 (frame, 3, height, width)."""
        top, bottom = self._bins(np.array([0]), np.array([self.height]), height)
        left, right = self._bins(np.array([0]), np.array([self.width]), width)
        rows = self._tables.index_select(1, bottom[0]) - self._tables.index_select(1, top[0])
        sums = rows.index_select(2, right[0]) - rows.index_select(2, left[0])  # (frame, height, width, 3)
        return _means(sums, (bottom - top)[0, :, None] * (right - left)[0])

    def crops(self, frames: NDArray[np.int64], boxes: NDArray[np.int64], size_px: int) -> Tensor:
        """Area-averaged crops, float32 (box, 3, size_px, size_px).

        Boxes (box, 4) are first and last-plus-one pixel x1, y1, x2, y2, inside the frame whose index (box,) is given.
        """
        import torch

        left, right = (bins[:, None, :] for bins in self._bins(boxes[:, 0], boxes[:, 2], size_px))
        top, bottom = (bins[:, :, None] for bins in self._bins(boxes[:, 1], boxes[:, 3], size_px))
        table = self._tables.reshape(-1, 3)
        first_row = torch.from_numpy(frames).to(self._device)[:, None, None] * (self.height + 1)

        def at(row: Tensor, column: Tensor) -> Tensor:  # in half the time of indexing by frame, row and column
            return table.index_select(0, ((first_row + row) * (self.width + 1) + column).flatten())

        sums = at(bottom, right) - at(top, right)
        sums += at(top, left) - at(bottom, left)
        return _means(sums.reshape(-1, size_px, size_px, 3), (bottom - top) * (right - left))

    def _bins(self, low: NDArray[np.int64], high: NDArray[np.int64], count: int) -> tuple[Tensor, Tensor]:
        """First and last-plus-one pixel (box, count) of each bin between two edges (box,)."""
        import torch

        length, steps = (high - low)[:, None], np.arange(count)
        first = low[:, None] + steps * length // count
        last = low[:, None] - -(steps + 1) * length // count
        return torch.from_numpy(first).to(self._device), torch.from_numpy(last).to(self._device)


def _means(sums: Tensor, counts: Tensor) -> Tensor:
    return (sums / counts[..., None]).permute(0, 3, 1, 2)  # channels_last in memory


def summed_by_opencv(frames: NDArray[np.uint8]) -> Tensor:
    """What `summed` gives, in 1.8 ms a frame of 640 x 360 for its 4.6 on a CPU."""
    import cv2
    import torch

    num_frames, height, width, channels = frames.shape
    tables = np.empty((num_frames, height + 1, width + 1, channels), np.int32)
    for frame, table in zip(frames, tables, strict=True):
        cv2.integral(frame, table)
    return torch.from_numpy(tables)


def summed(frames: Tensor) -> Tensor:
    """Sums of all pixels above and to the left, int32 (frame, height + 1, width + 1, 3), on the frames' own device.

    What exceeds 32 bits wraps around, and differences do so back again.
    """
    import torch
    from torch.nn.functional import pad

    return pad(frames.cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32), (0, 0, 1, 0, 1, 0))
