"""Stage ``quality``: photographs made worse step by step, and a woman who holds a hand before her face."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.stats import spearmanr

from pipeline.clip import Clip
from pipeline.clock import Span, seconds_of
from pipeline.media.encode import VideoWriter
from pipeline.media.reader import SourceReader
from pipeline.stage import Reject
from schemas.column import ROLES
from stages.faces.mesh import outline
from stages.faces.tracker import Tracker
from stages.quality import Quality, picture_measures

SIDE_PX = 384
FACES = ("obama_1.jpg", "biden_2.jpg", "astronaut_collins.png")
FACE_PX = 220  # height of the faces in the photographs, reduced


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def reduced(picture: np.ndarray, share: float) -> np.ndarray:
    return cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)


# What makes a photograph worse, from little to much, and the measure that says so: it falls or rises
WORSE: dict[str, tuple[Callable[[np.ndarray, float], np.ndarray], tuple[float, ...], str, int]] = {
    "blur": (lambda rgb, px: cv2.GaussianBlur(rgb, (0, 0), px), (0.4, 0.9, 1.6, 2.6, 4.0), "sharpness", -1),
    "compression": (jpeg, (95, 60, 30, 15, 7), "compression", 1),
    "size": (reduced, (1.0, 0.7, 0.5, 0.35, 0.25), "sharpness", -1),
}


@pytest.fixture(scope="module")
def stage() -> Quality:
    made = Quality()
    made.setup("cpu")
    return made


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    return Tracker(min_detection=0.5, min_presence=0.5)


def clip_of(folder: Path, pictures: list[np.ndarray], landmarks: np.ndarray, source_px: float) -> Clip:
    folder.mkdir(exist_ok=True)
    values: dict[str, object] = {"clip_id": "source_0_1"}
    track = np.tile(np.array([10, 20, 10 + source_px, 20 + source_px], np.float32), (len(pictures), 1))
    with VideoWriter(folder / "head.mp4", (SIDE_PX, SIDE_PX)) as writer:
        for picture in pictures:
            writer.write(np.ascontiguousarray(picture))
    for role in ROLES:
        values |= {f"{role}_video": "head.mp4", f"{role}_landmarks": landmarks, f"{role}_crop_track": track}
        values[f"{role}_landmarks_valid"] = np.isfinite(landmarks).all(axis=(1, 2))
    return Clip(values, Span(Fraction(0), seconds_of(len(pictures))), folder, folder, folder)


@pytest.mark.shared
@pytest.mark.parametrize("file", FACES)
def test_five_levels_of_blur_compression_and_size_are_in_order(shared: Path, tracker: Tracker, file: str) -> None:
    """Photographs are made worse, then cut and enlarged as the stage `face` does: no grid of a codec stays in place."""
    photo = cv2.imread(str(shared / "media/c_faces" / file))
    points = next(iter(tracker.follow([np.ascontiguousarray(photo[..., ::-1])])))[:, :2]
    share = FACE_PX / float(np.ptp(points[:, 1]))
    photo, centre = reduced(photo, share), (points.min(axis=0) + points.max(axis=0)) / 2 * share

    def head(picture: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
        scale = SIDE_PX / (1.4 * FACE_PX * size)
        matrix = np.array(
            [[scale, 0, SIDE_PX / 2 - scale * size * centre[0]], [0, scale, SIDE_PX / 2 - scale * size * centre[1]]]
        )
        placed = points * share * size @ matrix[:, :2] + matrix[:, 2]
        return cv2.warpAffine(picture, matrix, (SIDE_PX, SIDE_PX))[..., ::-1], outline(placed, (SIDE_PX, SIDE_PX))

    for what, (worsen, levels, measure, direction) in WORSE.items():
        found = [
            picture_measures(*head(worsen(photo, level), level if what == "size" else 1.0))[measure] for level in levels
        ]
        assert spearmanr(range(len(levels)), found)[0] * direction >= 0.9, (what, found)


@pytest.mark.shared
def test_the_face_has_its_size_in_the_source_and_thresholds_reject_with_their_numbers(
    shared: Path, tmp_path: Path, stage: Quality, tracker: Tracker
) -> None:
    photo = cv2.imread(str(shared / "media/c_faces/astronaut_collins.png"))[:240, 100:340, ::-1]
    picture = cv2.resize(photo, (SIDE_PX, SIDE_PX))
    landmarks = np.stack([next(iter(tracker.follow([picture])))] * 2)
    clip = clip_of(tmp_path, [picture, picture // 4], landmarks, 240)
    found = stage.process(clip)
    for column in stage.writes():
        column.check(found[column.name], 2)
    assert found["listener_face_px"] == pytest.approx(np.ptp(landmarks[0, :468, 1]) * 240 / SIDE_PX)
    skin = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[outline(landmarks[0, :468, :2], picture.shape[:2])]
    assert found["listener_exposure"] == pytest.approx(skin.mean() / 255, abs=0.01)
    assert found["listener_hand_over_face"] == 0
    for name, threshold, said in (
        ("min_face_px", 300, "face_px 1.., expected 300 or more"),
        ("max_exposure", 0.2, r"exposure 0\.\d+, expected 0.2 or less"),
        ("min_sharpness", 0.9, r"sharpness 0\.\d+, expected 0.9 or more"),
    ):
        strict = Quality(Quality.Settings(**{name: threshold}))
        strict._hands = stage._hands
        with pytest.raises(Reject, match=f"poor_picture: speaker: {said}"):
            strict.process(clip)
    nothing = np.full((2, 478, 3), np.nan, np.float32)
    with pytest.raises(Reject, match="no_face: speaker"):
        stage.process(clip_of(tmp_path / "nobody", [picture] * 2, nothing, 240))


@pytest.mark.shared
@pytest.mark.slow
def test_a_hand_before_the_face_is_seen(shared: Path, tmp_path: Path, stage: Quality, tracker: Tracker) -> None:
    """From 2 s on she holds one there, looked at by eye."""
    film = shared / "media/a_dyadic/hd_pairs_open.mp4"
    with SourceReader(film) as reader:
        pts = reader.frame_times().pts
        shown = [rgb for _, rgb in reader.frames(pts[[5, 15, 30, 45, 100, 120, 140, 160]])]
    heads = [cv2.resize(rgb[104:616, 640:1152], (SIDE_PX, SIDE_PX)) for rgb in shown]
    landmarks = np.stack([next(iter(tracker.follow([head]))) for head in heads])
    every = Quality(Quality.Settings(every_s=float(seconds_of(1))))
    every._hands = stage._hands
    found = [
        every.process(clip_of(tmp_path / name, heads[part], landmarks[part], 512))["speaker_hand_over_face"]
        for name, part in (("before", slice(0, 4)), ("after", slice(4, 8)))
    ]
    assert found[0] == 0 and found[1] >= 0.5
