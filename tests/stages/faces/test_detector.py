"""The face detector: against facenet-pytorch on equal input, and against its golden boxes at full resolution."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jobs.bench.facenet import batched_nms, import_facenet
from pipeline.media.reader import SourceReader
from stages.faces.boxes import best_first, iou, non_maximum_suppression
from stages.faces.detector import FaceDetector, Faces, ladder_face_px, summed, summed_by_opencv
from stages.faces.scan import MIN_FACE_PX

BOX_TOLERANCE_PX = 0.5
QUICK = ("a_dyadic/interview_tv_splitscreen.mp4", "vico/donfyjh9ge50.mp4")
DETECT_WIDTH_PX = 640  # the stage's default


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


def two_faces(shift_px: int = 0, size: tuple[int, int] = (640, 360)) -> NDArray[np.uint8]:
    """One real face (NASA, public domain, in scikit-image) twice: left as it is, right smaller and mirrored."""
    from skimage.data import astronaut

    face = astronaut()[0:300, 90:390]
    frame = np.full((360, 640, 3), 90, np.uint8)
    frame[30:330, 10 + shift_px : 310 + shift_px] = face
    frame[60:260, 400:600] = cv2.resize(face[:, ::-1], (200, 200), interpolation=cv2.INTER_AREA)
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def test_boxes_and_points_are_those_of_facenet_pytorch(detector: FaceDetector) -> None:
    frames = np.stack([two_faces(0), two_faces(7), two_faces(14)])
    other = import_facenet().MTCNN(keep_all=True, min_face_size=24)
    for found, frame in zip(detector.detect(frames, 24), frames, strict=True):
        boxes, probabilities, points = other.detect(frame, landmarks=True)
        assert len(boxes) == 2
        np.testing.assert_allclose(found.boxes, boxes.astype(np.float32), atol=BOX_TOLERANCE_PX)
        np.testing.assert_allclose(found.points, points.astype(np.float32), atol=BOX_TOLERANCE_PX)
        np.testing.assert_allclose(found.probabilities, probabilities.astype(np.float32), atol=1e-3)


def test_a_frame_gets_the_same_faces_alone_and_in_a_batch(detector: FaceDetector) -> None:
    frames = np.stack([two_faces(0), np.full((360, 640, 3), 90, np.uint8), two_faces(20)])
    for together, frame in zip(detector.detect(frames, 40), frames, strict=True):
        (alone,) = detector.detect(frame[None], 40)
        np.testing.assert_allclose(together.boxes, alone.boxes, atol=0.01)


def test_sums_made_on_a_device_are_opencvs_to_the_last_bit(device: str) -> None:
    white = np.full((1, 2900, 2950, 3), 255, np.uint8)  # more than 31 bits hold
    for frames in (np.stack([two_faces(0), two_faces(20)]), white):
        ours = summed(torch.from_numpy(frames).to(device)).cpu()
        assert torch.equal(ours, summed_by_opencv(frames))


@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (2, 11, 300, 3), (1, 120, 160, 3)])
def test_pictures_without_a_face_or_too_small_for_one_give_none(detector: FaceDetector, shape: tuple[int, ...]) -> None:
    found = detector.detect(np.full(shape, 128, np.uint8))
    assert [len(faces) for faces in found] == [0] * shape[0]
    assert found[0].boxes.shape == (0, 4) and found[0].points.shape == (0, 5, 2)


def test_a_coarser_pyramid_on_the_ladder_finds_large_faces_at_the_same_place(detector: FaceDetector) -> None:
    frame = two_faces()[None]
    (fine,), (coarse,) = detector.detect(frame, 20), detector.detect(frame, ladder_face_px(50))
    np.testing.assert_allclose(coarse.boxes, fine.boxes, atol=BOX_TOLERANCE_PX)


@pytest.mark.parametrize("size_px", [20, 21, 40, 56.2, 300])
def test_ladder_rungs_are_facenet_pytorchs_face_sizes(size_px: float) -> None:
    rung_px = ladder_face_px(size_px)
    rung = np.log(rung_px / 20) / np.log(1 / 0.709)
    assert rung_px <= size_px < rung_px / 0.709
    assert rung == pytest.approx(round(rung))


@pytest.mark.parametrize("seed", range(5))
def test_suppression_keeps_what_the_greedy_loop_keeps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 100, (200, 2))
    boxes = np.concatenate([low, low + rng.uniform(10, 60, (200, 2))], axis=1).astype(np.float32)
    scores = rng.uniform(size=200).astype(np.float32)
    overlap = iou(boxes[:, None], boxes)
    greedy: list[int] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        if all(overlap[row, other] <= 0.5 for other in greedy):
            greedy.append(row)
    assert non_maximum_suppression(best_first(scores), overlap, 0.5).tolist() == greedy


def test_the_stand_in_for_torchvision_suppresses_inside_groups_only() -> None:
    import torch

    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10], [40, 0, 50, 10]], dtype=torch.float32)
    scores = torch.tensor([0.9, 0.8, 0.7, 0.95])
    assert batched_nms(boxes, scores, torch.tensor([0, 0, 1, 0]), 0.5).tolist() == [3, 0, 2]


def golden_frames(shared: Path, file: str) -> Iterator[tuple[NDArray[np.uint8], Faces]]:
    """The golden frames of one file that show faces, at full resolution, with facenet-pytorch's faces."""
    golden = json.loads((shared / "golden" / "face" / "mtcnn_facemesh.json").read_text())["frames"]
    entries = [entry for entry in golden if entry["file"] == file and entry["faces"]]
    with SourceReader(shared / "media" / file) as reader:
        pts = reader.frame_times().pts[[entry["frame"] for entry in entries]]
        for (_, rgb), entry in zip(reader.frames(pts), entries, strict=True):
            found = ([face[name] for face in entry["faces"]] for name in ("box", "prob", "landmarks5"))
            yield rgb, Faces(*(np.array(column, np.float32) for column in found))


def overlap_with_golden(rgb: NDArray[np.uint8], golden: Faces, detector: FaceDetector) -> NDArray[np.float32]:
    """IoU of each golden face that counts as a person with the best box found in the reduced frame."""
    scale = max(rgb.shape[1] / DETECT_WIDTH_PX, 1.0)
    size = (round(rgb.shape[1] / scale), round(rgb.shape[0] / scale))
    reduced = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    (found,) = detector.detect(reduced[None], ladder_face_px(MIN_FACE_PX * scale) / scale)
    persons = golden.boxes[golden.probabilities > 0.9]
    return iou(persons[:, None], found.scaled(scale).boxes).max(axis=1, initial=0)


@pytest.mark.shared
@pytest.mark.parametrize("file", QUICK)
def test_frames_give_the_golden_boxes_reduced_or_not(file: str, detector: FaceDetector, shared: Path) -> None:
    frames = list(golden_frames(shared, file))
    for rgb, golden in frames[:4]:
        (found,) = detector.detect(rgb[None])
        np.testing.assert_allclose(found.boxes, golden.boxes, atol=BOX_TOLERANCE_PX)
        np.testing.assert_allclose(found.probabilities, golden.probabilities, atol=1e-3)
    overlaps = [overlap_with_golden(rgb, golden, detector) for rgb, golden in frames]
    assert np.concatenate(overlaps).mean() >= 0.93


@pytest.mark.shared
@pytest.mark.slow
def test_reduced_frames_agree_with_full_resolution_in_all_golden_files(detector: FaceDetector, shared: Path) -> None:
    golden = json.loads((shared / "golden" / "face" / "mtcnn_facemesh.json").read_text())["frames"]
    mean = {}
    for file in sorted({entry["file"] for entry in golden}):
        overlaps = [overlap_with_golden(rgb, faces, detector) for rgb, faces in golden_frames(shared, file)]
        mean[file] = float(np.concatenate(overlaps).mean())
        print(f"{file:45} mean IoU {mean[file]:.3f}")  # pytest -s -m slow prints the table
    print(f"{'all':45} mean IoU {np.mean(list(mean.values())):.3f}")
    assert min(mean.values()) >= 0.9
    assert np.mean(list(mean.values())) >= 0.93
