"""FaceMesh with irises in batches, by torch: many videos side by side, frame by frame, on any device.

The networks are MediaPipe's own (Kartynnik et al. 2019; Grishchenko et al., "Attention Mesh", 2020; Bazarevsky et al.,
"BlazeFace", 2019; Apache-2.0), read from the files that its wheel carries; that package is not imported. What its graph
does around them is written anew after the graph's own settings: squares from eyes and outline, 1.5 times as large; the
picture in them, by bilinear interpolation in steps of 1/32 px, as bytes; points of lips, eyes and irises in place of
the mesh's. A look from the same square gives the points of `stages.faces.mesh` within .05 px of 384. A square follows
the points of the frame before, which enlarges what is left: along a film points part by .03 px in the median and now
and then by pixels, less than MediaPipe's own do where its frames are a grey level brighter or darker here and there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.faces.mesh import MESH_POINTS, NUM_POINTS, SETTLING_LOOKS
from stages.faces.tflite import Operator, TfLite

MESH_PX, DETECTOR_PX = 192, 128  # sides of what the networks see
SQUARE = 1.5  # side of a square around a face, in sides of the box of its points
RIGHT_CORNER, LEFT_CORNER = 33, 263  # of the eyes: level in the square
SUBPIXEL = 32  # steps of a pixel in which OpenCV places what it interpolates
SAME_FACE_IOU = 0.3
EYE_OUTLINE = 16  # points of an eye's region that come first; their mean is the depth of its iris
PARTS = ("output_lips", "output_left_eye", "output_right_eye")
IRISES = ("output_left_iris", "output_right_iris")
VIDEOS_AT_ONCE = 64  # videos side by side: each has a decoder of its own and a frame in memory


class MeshTracker:
    """Follows the face of each of many videos; the files are those of the weights ``mediapipe_face_mesh``."""

    def __init__(self, detector: Path, mesh: Path, device: str, min_detection: float, min_presence: float) -> None:
        self._device = device
        self._regions: list[Tensor] = []
        custom: dict[str, Callable[[dict[str, Any]], Operator]] = {
            "Landmarks2TransformMatrix": self._square_of_region,
            "TransformTensorBilinear": lambda options: _sampled,
            "TransformLandmarks": lambda options: _placed,
        }
        self._mesh = TfLite(mesh, device, custom)
        self._detector = TfLite(detector, device)
        cells = [((x + 0.5) / side, (y + 0.5) / side) for side, count in ((16, 2), (8, 6)) for y in range(side)
                 for x in range(side) for _ in range(count)]  # fmt: skip
        self._anchors = torch.tensor(cells, device=device)  # (896, 2)
        self._min_detection, self._min_presence = min_detection, min_presence

    def follow(self, videos: Sequence[Iterable[NDArray[np.uint8]]]) -> list[NDArray[np.float32]]:
        """Points of all frames of every video, float32 (frame, 478, 3) in px, NaN where there is no face.

        Frames are uint8 RGB, (height, width, 3), all of one size.
        """
        found: list[NDArray[np.float32]] = []
        for start in range(0, len(videos), VIDEOS_AT_ONCE):
            found += self._follow(videos[start : start + VIDEOS_AT_ONCE])
        return found

    @torch.inference_mode()
    def _follow(self, videos: Sequence[Iterable[NDArray[np.uint8]]]) -> list[NDArray[np.float32]]:
        films = [iter(video) for video in videos]
        found: list[list[Tensor]] = [[] for _ in films]
        squares = torch.full((len(films), 4), torch.nan, device=self._device)  # centre, side, angle; NaN: no face
        running = list(range(len(films)))
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            while shown := [(row, frame) for row in running for frame in islice(films[row], 1)]:
                running = [row for row, _ in shown]
                frames = torch.from_numpy(np.stack([frame for _, frame in shown])).to(self._device)
                points = self._seen(frames, squares, torch.tensor(running, device=self._device))
                for row, of_video in zip(running, points, strict=True):
                    found[row].append(of_video)
        return [torch.stack(rows).cpu().numpy() for rows in found]

    def _seen(self, frames: Tensor, squares: Tensor, rows: Tensor) -> Tensor:
        """Points (video, 478, 3) in the next frame of each; moves the squares of these rows on."""
        points, moved = self.look(frames, squares[rows])
        lost = moved.isnan().any(1).nonzero()[:, 0]
        if len(lost):  # begins, or the track breaks: the detector has a look at the same frame
            again = self.detect(frames[lost])
            for _ in range(SETTLING_LOOKS):
                points[lost], again = self.look(frames[lost], again)
            moved[lost] = again
        squares[rows] = moved
        return points

    def look(self, frames: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
        """Points (picture, 478, 3) in squares of uint8 (picture, height, width, 3), and the squares around these.

        Squares (picture, 4) are centre x, y and side in px and the angle in rad; NaN stands for no face in both.
        """
        is_known = ~squares.isnan().any(1)
        given = torch.where(is_known[:, None], squares, squares.new_tensor([0, 0, 1, 0]))
        found = self._mesh(_cut(frames, given, MESH_PX, nothing_outside=False) / 255)
        presence = found["conv_faceflag"].flatten().sigmoid()
        points = self._points(found) / MESH_PX
        centred, turn = points[..., :2] - 0.5, _turn(given[:, 3])
        across = centred @ turn.mT * given[:, None, 2:3] + given[:, None, :2]
        placed = torch.cat([across, points[..., 2:] * given[:, None, 2:3]], 2)
        is_face = is_known & (presence > self._min_presence)
        placed = torch.where(is_face[:, None, None], placed, torch.nan)
        return placed, square_around(placed)

    def _points(self, found: dict[str, Tensor]) -> Tensor:
        """All points (picture, 478, 3) in px of the network's picture."""
        mesh = found["output_mesh_identity"].flatten(1).unflatten(1, (MESH_POINTS, 3))
        points = torch.cat([mesh, mesh.new_empty(len(mesh), NUM_POINTS - MESH_POINTS, 3)], 1)
        for region, name in zip(self._regions, PARTS, strict=True):
            points[:, region, :2] = found[name].flatten(1).unflatten(1, (-1, 2))
        for number, name in enumerate(IRISES):
            iris = slice(MESH_POINTS + 5 * number, MESH_POINTS + 5 * number + 5)
            points[:, iris, :2] = found[name].flatten(1).unflatten(1, (5, 2))
            outline = self._regions[1 + number][:EYE_OUTLINE]
            points[:, iris, 2] = mesh[:, outline, 2].mean(1, keepdim=True)
        return points

    def detect(self, frames: Tensor) -> Tensor:
        """The square of the surest face of each of uint8 (picture, height, width, 3), NaN where there is none."""
        height, width = frames.shape[1:3]
        whole = torch.tensor([width / 2, height / 2, max(width, height), 0], device=self._device)
        seen = _cut(frames, whole.expand(len(frames), 4), DETECTOR_PX, nothing_outside=True) / 127.5 - 1
        found = self._detector(seen)
        scores = found["classificators"][..., 0].clamp(-100, 100).sigmoid()  # (picture, 896)
        raw = found["regressors"] / DETECTOR_PX
        centre, size = raw[..., :2] + self._anchors, raw[..., 2:4]
        eyes = raw[..., 4:8].unflatten(2, (2, 2)) + self._anchors[:, None]  # the right one, the left one
        boxes = torch.cat([centre - size / 2, centre + size / 2], 2)
        best, surest = scores.max(1)
        same = _iou(boxes, boxes[torch.arange(len(boxes)), surest][:, None]) > SAME_FACE_IOU
        weight = (scores * (same & (scores >= self._min_detection)))[..., None]
        mean = (torch.cat([boxes, eyes.flatten(2)], 2) * weight).sum(1) / weight.sum(1)  # of what overlaps: weighted
        box, (right, left) = mean[:, :4], mean[:, 4:].unflatten(1, (2, 2)).unbind(1)
        side = (box[:, 2:] - box[:, :2]).amax(1) * SQUARE
        angle = torch.atan2(left[:, 1] - right[:, 1], left[:, 0] - right[:, 0])
        scale, origin = whole[2], whole[:2] - whole[2] / 2
        square = torch.cat([(box[:, :2] + box[:, 2:]) / 2 * scale + origin, (side * scale)[:, None], angle[:, None]], 1)
        return torch.where((best >= self._min_detection)[:, None], square, torch.nan)

    def _square_of_region(self, options: dict[str, Any]) -> Operator:
        """The operator that turns points into the matrix from a region's own picture to the network's features."""
        region = torch.from_numpy(options["subset_idxs"].astype(np.int64)).to(self._device)
        self._regions.append(region)
        ends = [options["left_rotation_idx"], options["right_rotation_idx"]]
        scale, side = options["scale_x"], options["output_width"]

        def square(points: Tensor) -> Tensor:
            first, last = points[:, ends, :2].unbind(1)
            angle = torch.atan2(last[:, 1] - first[:, 1], last[:, 0] - first[:, 0])
            turn = _turn(angle)
            level = points[:, region, :2] @ turn  # turned back
            low, high = level.amin(1), level.amax(1)
            centre = (turn @ ((low + high) / 2)[..., None])[..., 0]
            axes = turn * (scale * (high - low) / side)[:, None]  # columns: a step right and one down
            origin = centre - axes.sum(2) * (side / 2)
            matrix = points.new_zeros(len(points), 4, 4)
            matrix[:, :2, :2], matrix[:, :2, 3] = axes, origin
            matrix[:, 2, 2] = matrix[:, 3, 3] = 1
            return matrix

        return square


def _turn(angle: Tensor) -> Tensor:
    """Rotations (..., 2, 2) by angles (...)."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def square_around(points: Tensor) -> Tensor:
    """Squares (picture, 4) around faces whose points (picture, 478, 3) are given."""
    low, high = points[..., :2].amin(1), points[..., :2].amax(1)
    across = points[:, LEFT_CORNER, :2] - points[:, RIGHT_CORNER, :2]
    angle = torch.atan2(across[:, 1], across[:, 0])
    side = SQUARE * (high - low).amax(1)
    return torch.cat([(low + high) / 2, side[:, None], angle[:, None]], 1)


def _cut(frames: Tensor, squares: Tensor, side_px: int, *, nothing_outside: bool) -> Tensor:
    """Whole grey levels in squares of uint8 (picture, height, width, 3): float32 (picture, 3, side_px, side_px).

    Outside there is black, or else the picture's border.
    """
    height, width = frames.shape[1:3]
    steps = torch.arange(side_px, device=frames.device) / side_px - 0.5
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), 2).flatten(0, 1)  # (pixel, 2) x, y
    places = grid @ (_turn(squares[:, 3]) * squares[:, 2, None, None]).mT + squares[:, None, :2]  # (picture, pixel, 2)
    places = (places * SUBPIXEL).round()
    whole = (places / SUBPIXEL).floor()
    share = places / SUBPIXEL - whole
    picture = torch.arange(len(frames), device=frames.device)[:, None]
    grey = places.new_zeros(*places.shape[:2], 3)
    for right in (0, 1):
        for down in (0, 1):
            x, y = whole[..., 0].long() + right, whole[..., 1].long() + down
            weight = (share[..., 0] if right else 1 - share[..., 0]) * (share[..., 1] if down else 1 - share[..., 1])
            if nothing_outside:
                weight = weight * ((x >= 0) & (x < width) & (y >= 0) & (y < height))
            grey += frames[picture, y.clamp(0, height - 1), x.clamp(0, width - 1)] * weight[..., None]
    return (grey + 0.5).floor().mT.unflatten(2, (side_px, side_px))


def _sampled(features: Tensor, matrices: Tensor) -> Tensor:
    """TransformTensorBilinear: features where a region's own picture of 16 x 16 looks."""
    side = 16
    steps = torch.arange(side, device=features.device, dtype=features.dtype) + 0.5
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), 2).flatten(0, 1)
    places = grid @ matrices[:, :2, :2].mT + matrices[:, None, :2, 3] - 0.5
    whole = places.floor()
    share = places - whole
    height, width = features.shape[2:]
    picture = torch.arange(len(features), device=features.device)[:, None]
    last = features.movedim(1, -1)
    found = places.new_zeros(*places.shape[:2], features.shape[1])
    for right in (0, 1):
        for down in (0, 1):
            x, y = whole[..., 0].long() + right, whole[..., 1].long() + down
            weight = (share[..., 0] if right else 1 - share[..., 0]) * (share[..., 1] if down else 1 - share[..., 1])
            weight = weight * ((x >= 0) & (x < width) & (y >= 0) & (y < height))
            found += last[picture, y.clamp(0, height - 1), x.clamp(0, width - 1)] * weight[..., None]
    return found.mT.unflatten(2, (side, side))


def _placed(points: Tensor, matrices: Tensor) -> Tensor:
    """TransformLandmarks: points (picture, point, 2) of a region's own picture in the network's."""
    return points @ matrices[:, :2, :2].mT + matrices[:, None, :2, 3]


def _iou(boxes: Tensor, other: Tensor) -> Tensor:
    low, high = torch.maximum(boxes[..., :2], other[..., :2]), torch.minimum(boxes[..., 2:], other[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    return shared / ((boxes[..., 2:] - boxes[..., :2]).prod(-1) + (other[..., 2:] - other[..., :2]).prod(-1) - shared)
