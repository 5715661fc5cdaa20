"""FaceMesh with irises: MediaPipe's networks by OpenVINO on a CPU or by torch on a GPU, many videos side by side.

The networks are MediaPipe's own (Kartynnik et al. 2019; Grishchenko et al., "Attention Mesh", 2020; Bazarevsky et al.,
"BlazeFace", 2019; Apache-2.0), read from the files that its wheel carries; that package is not imported. What its graph
does around them is written anew after the graph's own settings: squares from eyes and outline, 1.5 times as large; the
picture in them, by bilinear interpolation in steps of 1/32 px, as bytes; points of lips, eyes and irises in place of
the mesh's. A look from the same square gives the points of MediaPipe's own graph within .05 px of 384. A square follows
the points of the frame before, which enlarges what is left: along a film points part by .03 px in the median and now
and then by pixels, less than MediaPipe's own do where its frames are a grey level brighter or darker here and there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.faces.mesh import MESH_POINTS, NUM_POINTS, SETTLING_LOOKS
from stages.faces.tflite import Graph
from stages.faces.tflite_torch import Operator, TorchNetwork

MESH_PX, DETECTOR_PX = 192, 128  # sides of what the networks see
SQUARE = 1.5  # side of a square around a face, in sides of the box of its points
RIGHT_CORNER, LEFT_CORNER = 33, 263  # of the eyes: level in the square
SUBPIXEL = 32  # steps of a pixel in which OpenCV places what it interpolates
SAME_FACE_IOU = 0.3
EYE_OUTLINE = 16  # points of an eye's region that come first; their mean is the depth of its iris
PARTS = ("output_lips", "output_left_eye", "output_right_eye")
IRISES = ("output_left_iris", "output_right_iris")
VIDEOS_AT_ONCE = 64  # videos side by side: each has a decoder of its own and a frame in memory

Frames = Sequence[NDArray[np.uint8]]
Floats = NDArray[np.float32]


class Engine(Protocol):
    """Runs both networks on pictures within squares (picture, 4) of frames, uint8 RGB (height, width, 3)."""

    device: str
    mesh: Graph  # of its second network

    def detect(self, frames: Frames, squares: Tensor) -> Mapping[str, Tensor]: ...

    def see(self, frames: Frames, squares: Tensor) -> Mapping[str, Tensor]: ...


class OnTorch:
    """On any device, with torch alone; all frames have one size."""

    def __init__(self, detector: Path, mesh: Path, device: str) -> None:
        self.device = device
        self.mesh = Graph(mesh)
        self._detector = TorchNetwork(Graph(detector), device)
        custom: dict[str, Callable[[dict[str, Any]], Operator]] = {
            "Landmarks2TransformMatrix": partial(_square_of_region, device),
            "TransformTensorBilinear": lambda options: _sampled,
            "TransformLandmarks": lambda options: _placed,
        }
        self._network = TorchNetwork(self.mesh, device, custom)

    def detect(self, frames: Frames, squares: Tensor) -> Mapping[str, Tensor]:
        with self._exact():
            return self._detector(self._cut(frames, squares, DETECTOR_PX, nothing_outside=True) / 127.5 - 1)

    def see(self, frames: Frames, squares: Tensor) -> Mapping[str, Tensor]:
        with self._exact():
            return self._network(self._cut(frames, squares, MESH_PX, nothing_outside=False) / 255)

    def _cut(self, frames: Frames, squares: Tensor, side_px: int, *, nothing_outside: bool) -> Tensor:
        pictures = torch.from_numpy(np.stack(frames)).to(self.device)
        return _cut(pictures, squares, side_px, nothing_outside=nothing_outside)

    def _exact(self) -> AbstractContextManager[None]:
        """Floats are not shortened, as they would be on a GPU."""
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


class OnCpu:
    """On one core: OpenVINO takes a third to a sixth of torch's time for the mesh, in calls of ``at_once`` pictures.

    The numbers of a picture do not depend on the others of a call.
    """

    def __init__(self, detector: Path, mesh: Path, at_once: int) -> None:
        from stages.faces.tflite_openvino import OpenVinoNetwork

        self.device, self.mesh = "cpu", Graph(mesh)
        self._detector = TorchNetwork(Graph(detector), "cpu")
        self._network = OpenVinoNetwork(mesh, at_once)

    def detect(self, frames: Frames, squares: Tensor) -> Mapping[str, Tensor]:
        cut = np.stack(_warped(frames, squares, DETECTOR_PX, nothing_outside=True))
        return self._detector(torch.from_numpy(cut).movedim(3, 1) / 127.5 - 1)

    def see(self, frames: Frames, squares: Tensor) -> Mapping[str, Tensor]:
        found = self._network(_warped(frames, squares, MESH_PX, nothing_outside=False))
        return {name: torch.from_numpy(values) for name, values in found.items()}


class MeshTracker:
    """Follows the faces of many videos side by side, on an engine made from the weights ``mediapipe_face_mesh``."""

    def __init__(self, engine: Engine, min_detection: float, min_presence: float) -> None:
        self._engine = engine
        device = self._device = engine.device
        regions = [o.options for o in engine.mesh.operations if o.kind == "Landmarks2TransformMatrix"]
        self._regions = [_region(options, device) for options in regions]
        cells = [((x + 0.5) / side, (y + 0.5) / side) for side, count in ((16, 2), (8, 6)) for y in range(side)
                 for x in range(side) for _ in range(count)]  # fmt: skip
        self._anchors = torch.tensor(cells, device=device)  # (896, 2)
        self._min_detection, self._min_presence = min_detection, min_presence

    def follow(self, videos: Sequence[Iterable[NDArray[np.uint8]]], squares: Tensor | None = None) -> list[Floats]:
        """Points of all frames of every video, float32 (frame, 478, 3) in px, NaN where there is no face.

        Frames are uint8 RGB, (height, width, 3), on a GPU all of one size. Squares (video, 4) tell where to look first.
        """
        found: list[Floats] = []
        known = self._no_faces(len(videos)) if squares is None else squares.to(self._device).clone()
        for start in range(0, len(videos), VIDEOS_AT_ONCE):
            some = slice(start, start + VIDEOS_AT_ONCE)
            found += self._follow(videos[some], known[some])
        return found

    def along(self, pictures: Iterable[Frames]) -> Iterator[Floats]:
        """The same points (head, 478, 3) one picture after the other, of heads that each of them shows."""
        squares = None
        for heads in pictures:
            squares = self._no_faces(len(heads)) if squares is None else squares
            yield self._seen(heads, squares, torch.arange(len(heads), device=self._device)).cpu().numpy()

    def _follow(self, videos: Sequence[Iterable[NDArray[np.uint8]]], squares: Tensor) -> list[Floats]:
        films, running = [iter(video) for video in videos], list(range(len(videos)))
        found: list[list[Tensor]] = [[] for _ in films]
        while shown := [(row, frame) for row in running for frame in islice(films[row], 1)]:
            running = [row for row, _ in shown]
            points = self._seen([frame for _, frame in shown], squares, torch.tensor(running, device=self._device))
            for row, of_video in zip(running, points, strict=True):
                found[row].append(of_video)
        return [torch.stack(rows).cpu().numpy() for rows in found]

    def _no_faces(self, count: int) -> Tensor:
        return torch.full((count, 4), torch.nan, device=self._device)  # centre, side, angle

    @torch.inference_mode()
    def _seen(self, frames: Frames, squares: Tensor, rows: Tensor) -> Tensor:
        """Points (video, 478, 3) in the next frame of each; moves the squares of these rows on."""
        points, moved = self.look(frames, squares[rows])
        lost = moved.isnan().any(1).nonzero()[:, 0]
        if len(lost):  # begins, or the track breaks: the detector has a look at the same frame
            of_lost = [frames[row] for row in lost.tolist()]
            again = self.detect(of_lost)
            for _ in range(SETTLING_LOOKS):
                points[lost], again = self.look(of_lost, again)
            moved[lost] = again
        squares[rows] = moved
        return points

    def look(self, frames: Frames, squares: Tensor) -> tuple[Tensor, Tensor]:
        """Points (picture, 478, 3) in squares of uint8 RGB (height, width, 3), and the squares around these.

        Squares (picture, 4) are centre x, y and side in px and the angle in rad; NaN stands for no face in both.
        """
        squares = squares.to(self._device)
        is_known = ~squares.isnan().any(1)
        given = torch.where(is_known[:, None], squares, squares.new_tensor([0, 0, 1, 0]))
        found = self._engine.see(frames, given)
        presence = found["conv_faceflag"].flatten().sigmoid()
        points = self._points(found) / MESH_PX
        x, y, depth = (points - points.new_tensor([0.5, 0.5, 0])).unbind(2)
        left, top, side, angle = given[:, :, None].unbind(1)
        cos, sin = angle.cos(), angle.sin()  # no matrix product: its last bits may depend on how many there are
        placed = torch.stack([(x * cos - y * sin) * side + left, (x * sin + y * cos) * side + top, depth * side], 2)
        is_face = is_known & (presence > self._min_presence)
        placed = torch.where(is_face[:, None, None], placed, torch.nan)
        return placed, square_around(placed)

    def _points(self, found: Mapping[str, Tensor]) -> Tensor:
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

    def detect(self, frames: Frames) -> Tensor:
        """The square of the surest face of each of uint8 RGB (height, width, 3), NaN where there is none."""
        if self._device == "cpu" and len(frames) > 1:  # torch's sums depend on company there
            return torch.cat([self.detect([frame]) for frame in frames])
        height, width = frames[0].shape[:2]
        whole = torch.tensor([width / 2, height / 2, max(width, height), 0], device=self._device)
        found = self._engine.detect(frames, whole.expand(len(frames), 4))
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


def _region(options: dict[str, Any], device: str) -> Tensor:
    """Numbers of the points of lips or an eye."""
    return torch.from_numpy(options["subset_idxs"].astype(np.int64)).to(device)


def _square_of_region(device: str, options: dict[str, Any]) -> Operator:
    """The operator that turns points into the matrix from a region's own picture to the network's features."""
    region, ends = _region(options, device), [options["left_rotation_idx"], options["right_rotation_idx"]]
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


def _warped(frames: Frames, squares: Tensor, side_px: int, *, nothing_outside: bool) -> list[NDArray[np.uint8]]:
    """What `_cut` gives, uint8 (side_px, side_px, 3) each, as MediaPipe's graph lets OpenCV cut it."""
    import cv2

    border = cv2.BORDER_CONSTANT if nothing_outside else cv2.BORDER_REPLICATE
    options = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": border}
    cut = []
    for frame, (x, y, side, angle) in zip(frames, squares.tolist(), strict=True):
        step, half = side / side_px, side_px / 2
        right, down = step * math.cos(angle), step * math.sin(angle)
        matrix = np.array([[right, -down, x - half * (right - down)], [down, right, y - half * (right + down)]])
        cut.append(np.asarray(cv2.warpAffine(frame, matrix, (side_px, side_px), **options)))
    return cut


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
