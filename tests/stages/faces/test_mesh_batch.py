"""FaceMesh, many videos side by side: against MediaPipe's own program, on faces that move, go and come."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from pipeline.weights import find_weights
from schemas.errors import UserError
from stages.faces.mesh import NUM_POINTS
from stages.faces.mesh_batch import MeshTracker, OnTorch, square_around
from stages.faces.tflite import Graph, flex_map
from stages.faces.tracker import tracker_on
from tests.labs.mediapipe_mesh import MediaPipeTracker

ROOT = Path(__file__).parents[3]
SIDE_PX = 384
MISSING = np.full((NUM_POINTS, 3), np.nan, np.float32)


def head(turn_deg: float = 0, zoom: float = 1.6, shift_px: float = 0) -> np.ndarray:
    """A real face, Eileen Collins of NASA (public domain), uint8 (384, 384, 3), turned in the picture plane."""
    matrix = cv2.getRotationMatrix2D((225, 115), turn_deg, zoom)
    matrix[:, 2] += SIDE_PX / 2 - np.array([225 - shift_px, 115])
    return cv2.warpAffine(skimage.data.astronaut(), matrix, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REPLICATE)


def wall() -> np.ndarray:
    return np.repeat(cv2.resize(skimage.data.brick(), (SIDE_PX, SIDE_PX))[:, :, None], 3, axis=2)


VIDEOS = {
    "turns its head": [head(3 * k, shift_px=2 * k) for k in range(6)],
    "goes and comes back": [head(), head(), wall(), wall(), head(-10), head(-12)],
    "is never there": [wall()] * 3,
    "looks out of the picture": [head(zoom=2.6, shift_px=100 + 4 * k) for k in range(4)],
    "is a picture": [head(5)],
}


@pytest.fixture(scope="module", params=["the device's engine", "torch"])
def tracker(device: str, request: pytest.FixtureRequest) -> MeshTracker:
    if request.param != "torch":
        return tracker_on(device, min_detection=0.5, min_presence=0.9, heads=3)
    files = find_weights("mediapipe_face_mesh").paths()
    return MeshTracker(OnTorch(*files, device), min_detection=0.5, min_presence=0.9)


@pytest.fixture(scope="module")
def theirs() -> dict[str, np.ndarray]:
    mediapipe = MediaPipeTracker(min_detection=0.5, min_presence=0.9)
    return {
        name: np.stack([MISSING if points is None else points for points in mediapipe.follow(video)])
        for name, video in VIDEOS.items()
    }


@pytest.fixture(scope="module")
def ours(tracker: MeshTracker) -> dict[str, np.ndarray]:
    return dict(zip(VIDEOS, tracker.follow(list(VIDEOS.values())), strict=True))


@pytest.mark.parametrize("name", VIDEOS)
def test_points_are_mediapipes_within_half_a_pixel(
    name: str, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]
) -> None:
    assert ours[name].dtype == np.float32 and ours[name].shape == (len(VIDEOS[name]), NUM_POINTS, 3)
    np.testing.assert_array_equal(np.isnan(ours[name]), np.isnan(theirs[name]))  # the same frames show a face
    np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=0.5)
    if np.isfinite(theirs[name]).any():
        assert np.nanmedian(np.abs(ours[name] - theirs[name])) < 0.05


def test_a_look_from_mediapipes_own_square_gives_its_points(
    tracker: MeshTracker, theirs: dict[str, np.ndarray], device: str
) -> None:
    name = "turns its head"
    before = torch.from_numpy(theirs[name][:-1]).to(device)
    with torch.inference_mode():
        points, _ = tracker.look(VIDEOS[name][1:], square_around(before))
    np.testing.assert_allclose(points.cpu(), theirs[name][1:], rtol=0, atol=0.05)


def test_the_videos_do_what_their_names_say(theirs: dict[str, np.ndarray]) -> None:
    seen = {name: np.isfinite(points[:, 0, 0]).tolist() for name, points in theirs.items()}
    assert seen["turns its head"] == [True] * 6 and seen["is never there"] == [False] * 3
    assert seen["goes and comes back"] == [True, True, False, False, True, True]
    assert theirs["looks out of the picture"][..., 0].max() > SIDE_PX


def test_a_video_gets_the_same_points_alone_and_beside_others(
    tracker: MeshTracker, ours: dict[str, np.ndarray]
) -> None:
    name = "goes and comes back"
    (alone,) = tracker.follow([VIDEOS[name]])
    np.testing.assert_allclose(alone, ours[name], rtol=0, atol=0.25)  # the last bits move the next square by 1/32 px


def test_on_a_cpu_the_company_of_a_video_changes_no_bit() -> None:
    tracker, name = tracker_on("cpu", min_detection=0.5, min_presence=0.9, heads=3), "turns its head"
    (alone,) = tracker.follow([VIDEOS[name]])
    for beside in range(1, 4):
        np.testing.assert_array_equal(tracker.follow([VIDEOS["is a picture"]] * beside + [VIDEOS[name]])[-1], alone)
    heads = zip(VIDEOS[name], VIDEOS[name][::-1], strict=True)
    np.testing.assert_array_equal(np.stack([points[0] for points in tracker.along(heads)]), alone)


def test_a_file_that_is_no_network_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "no.tflite").write_bytes(b"x" * 40)
    with pytest.raises(UserError, match=r"no\.tflite: expected a TensorFlow Lite file"):
        Graph(tmp_path / "no.tflite")


def test_options_are_read_as_the_flexbuffers_page_writes_them() -> None:
    # {bar: 14, foo: 13} as https://flatbuffers.dev/internals lays a map out: names, where they are, values, types
    names = b"bar\0foo\0"
    keys = bytes([2, len(names) + 1, len(names) + 2 - 4])  # two of them, each so far back
    values = bytes([2, 1, 2, 14, 13, 1 << 2, 1 << 2])  # keys are 2 back and a byte wide; two whole numbers
    root = bytes([4, 9 << 2, 1])  # a map, 4 back, a byte wide
    assert flex_map(names + keys + values + root) == {"bar": 14, "foo": 13}
    assert flex_map(b"") == {}


def test_it_imports_with_torch_and_numpy_alone() -> None:
    files = [str(path) for path in find_weights("mediapipe_face_mesh").paths()]
    program = f"""
import sys
for name in "ray mediapipe openvino cv2 av pyarrow librosa PIL facenet_pytorch torchvision".split():
    sys.modules[name] = None
import numpy as np
import stages.faces.detector, stages.faces.mesh_batch
from pathlib import Path
files = [*map(Path, {files})]
engine = stages.faces.mesh_batch.OnTorch(*files, "cpu")
tracker = stages.faces.mesh_batch.MeshTracker(engine, 0.5, 0.9)
print(tracker.follow([[np.zeros((192, 192, 3), np.uint8)]])[0].shape)
"""
    output = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "(1, 478, 3)"
