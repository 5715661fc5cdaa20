"""The demo's input: what its truth claims is what MediaPipe sees and what a decoder hears."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from jobs.demo.conversation import SCENES, Scene
from jobs.demo.film import Actor, write_film
from jobs.demo.head import Pose
from jobs.demo.portrait import PANEL_W_PX
from jobs.make_demo import make_demo
from pipeline.clock import FPS, Span
from pipeline.manifest.load import load_manifest
from schemas.clip import ATTITUDES, SIDES

ROLES = ("speaker", "listener")
SOURCES = [scene.source_id for scene in SCENES]
CLIPS = [(scene.source_id, number) for scene in SCENES for number in range(len(scene.turns))]
WHOLE_CLIPS = CLIPS[:-1]  # the last one crosses a cut

# Soukupova & Cech, CVWW 2016: the six points of the eye aspect ratio, in FaceMesh's numbering.
EYES = ((33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380))
OUTER_CORNERS, INNER_LIPS, NOSE_TIP = (33, 263), (13, 14), 1

Films = dict[str, list[np.ndarray]]  # by source


@dataclass(frozen=True)
class Demo:
    """A generated demo: its manifest and its truth."""

    manifest: Path
    truth: dict[str, dict[str, Any]]  # by source

    def film(self, source: str) -> Path:
        return self.manifest.parent / self.truth[source]["file"]


@dataclass(frozen=True)
class Watched:
    """A clip without a cut: its truth, and FaceMesh's points of both people in px of the film, (frame, 478, 2)."""

    attitude: str
    truth: dict[str, Any]
    points: dict[str, np.ndarray]  # by role


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    manifest = make_demo(tmp_path_factory.mktemp("demo"))
    truth = json.loads((manifest.parent / "truth.json").read_text(encoding="utf-8"))
    return Demo(manifest, {source["source"]: source for source in truth["sources"]})


@pytest.fixture(scope="module")
def films(demo: Demo) -> Films:
    """Every frame of both films at half size: (360, 640, 3) RGB."""
    return {source: list(half_frames(demo.film(source))) for source in SOURCES}


@pytest.fixture(scope="module", params=WHOLE_CLIPS, ids=lambda clip: "-".join(map(str, clip)))
def watched(request: pytest.FixtureRequest, demo: Demo, films: Films) -> Watched:
    source, number = request.param
    clip, attitude = demo.truth[source]["clips"][number], SCENES[SOURCES.index(source)].turns[number].attitude
    return Watched(attitude, clip, {role: watch(films[source], clip, role) for role in ROLES})


def half_frames(path: Path) -> Iterator[np.ndarray]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield cv2.resize(frame.to_ndarray(format="rgb24"), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def watch(film: list[np.ndarray], clip: dict[str, Any], role: str) -> np.ndarray:
    from mediapipe.python.solutions.face_mesh import FaceMesh

    left_px = PANEL_W_PX * (clip[role]["side"] == "right")
    points = []
    with FaceMesh(refine_landmarks=True) as mesh:
        for number in clip["source_frame"]:
            panel = np.ascontiguousarray(film[number][:, left_px // 2 : (left_px + PANEL_W_PX) // 2])
            (face,) = mesh.process(panel).multi_face_landmarks
            points.append([(mark.x, mark.y) for mark in face.landmark])
    height, width = panel.shape[:2]
    return np.array(points) * (2 * width, 2 * height) + (left_px, 0)


def hear(path: Path) -> np.ndarray:
    """The sound track on the container's timeline, from 0 on: (sample,)."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = [frame for frame in container.decode(stream) if frame.pts >= 0]
    first = round(frames[0].pts * frames[0].time_base * stream.rate)
    sound = np.concatenate([frame.to_ndarray().astype(np.float64).reshape(-1) for frame in frames])
    return np.concatenate([np.zeros(first), sound / (2**15 if frames[0].format.name == "s16" else 1)])


def eye_aspect_ratio(points: np.ndarray) -> np.ndarray:
    """Mean over both eyes: (frame,)."""
    p1, p2, p3, p4, p5, p6 = np.moveaxis(points[:, EYES], 2, 0)  # (frame, eye, 2) each
    height = np.linalg.norm(p2 - p6, axis=2) + np.linalg.norm(p3 - p5, axis=2)
    return (height / (2 * np.linalg.norm(p1 - p4, axis=2))).mean(axis=1)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize("role", ROLES)
def test_facemesh_sees_closed_eyes_in_exactly_the_blink_frames(watched: Watched, role: str) -> None:
    blinks = watched.truth[role]["blink_frames"]
    ratio = eye_aspect_ratio(watched.points[role])
    openness = ratio / np.median(ratio)
    assert len(blinks) >= 3
    assert np.flatnonzero(openness < 0.5).tolist() == blinks
    assert openness[blinks].max() < 0.3  # shut, and ...
    assert np.delete(openness, blinks).min() > 0.6  # ... open, with nothing between


@pytest.mark.parametrize("role", ROLES)
def test_facemesh_finds_the_eyes_where_the_truth_puts_them(watched: Watched, role: str) -> None:
    person = watched.truth[role]
    corners = watched.points[role][:, OUTER_CORNERS]
    open_eyes = np.array(person["lids"]) == 0
    centre_error = (corners.mean(axis=1) - person["eyes_px"])[open_eyes]
    across = corners[:, 1] - corners[:, 0]
    length_ratio = (np.hypot(*across.T) / person["eyes_length_px"])[open_eyes]
    angle_error = (np.arctan2(across[:, 1], across[:, 0]) - person["eyes_angle_rad"])[open_eyes]
    constant = np.median(centre_error, axis=0)  # the mesh puts the corners of this face off by a constant
    assert np.abs(constant).max() < 4
    assert np.abs(centre_error - constant).max() < 3
    assert np.median(length_ratio) == pytest.approx(1, abs=0.04)
    assert length_ratio.std() < 0.012
    assert np.abs(angle_error).max() < 0.03


def test_the_mouth_follows_the_speech(watched: Watched) -> None:
    upper, lower = np.moveaxis(watched.points["speaker"][:, INNER_LIPS], 1, 0)
    opening_px = lower[:, 1] - upper[:, 1]
    assert correlation(opening_px, watched.truth["speech"]) > 0.95
    assert np.ptp(opening_px) > 20


def test_listeners_nod_when_pleased_and_shake_their_heads_when_not(watched: Watched) -> None:
    listener, points = watched.truth["listener"], watched.points["listener"]
    left_eye, right_eye = np.moveaxis(points[:, OUTER_CORNERS], 1, 0)
    along = (right_eye - left_eye) / np.linalg.norm(right_eye - left_eye, axis=1, keepdims=True)
    nose = points[:, NOSE_TIP] - (left_eye + right_eye) / 2
    sideways, down = (nose * along).sum(axis=1), (nose * np.stack([-along[:, 1], along[:, 0]], axis=1)).sum(axis=1)
    gesture = {"positive": ("nod_rad", down), "negative": ("turn_rad", sideways)}
    if watched.attitude in gesture:
        angle, seen = gesture[watched.attitude]
        open_eyes = np.array(listener["lids"]) == 0  # lids drag the mesh's corners of the eyes along
        assert correlation(seen[open_eyes], np.array(listener[angle])[open_eyes]) > 0.9
        assert np.ptp(listener[angle]) > 0.2
    else:
        assert max(np.ptp(listener["nod_rad"]), np.ptp(listener["turn_rad"])) < 0.15


@pytest.mark.parametrize("source", SOURCES)
def test_a_face_detector_finds_exactly_two_people_in_every_tenth_frame(films: Films, source: str) -> None:
    from mediapipe.python.solutions.face_detection import FaceDetection

    with FaceDetection(model_selection=1) as detector:
        faces = [detector.process(frame).detections or [] for frame in films[source][::10]]
    middles = [sorted(f.location_data.relative_bounding_box.xmin for f in frame) for frame in faces]
    assert all(len(frame) == 2 and frame[0] < 0.5 < frame[1] for frame in middles)


@pytest.mark.parametrize(("source", "tolerance"), [("interview", 0), ("call", 1)])
def test_clicks_peak_on_their_samples_and_on_the_grid_of_their_clip(demo: Demo, source: str, tolerance: int) -> None:
    truth, sound = demo.truth[source], np.abs(hear(demo.film(source)))
    assert len(truth["click_samples"]) >= 5
    near = truth["sample_rate_hz"] // 20
    for sample in truth["click_samples"]:
        around = sound[sample - near : sample + near]
        assert around.max() > 0.4
        assert abs(int(around.argmax()) - near) <= tolerance  # PCM is exact; AAC may ring by a sample
    samples = []
    for clip in truth["clips"]:
        start_s = Fraction(str(clip["start_s"]))
        samples += [(start_s + Fraction(k, FPS)) * truth["sample_rate_hz"] for k in clip["click_frames"]]
    assert samples == truth["click_samples"]  # whole numbers without rounding


@pytest.mark.parametrize(("source", "number"), CLIPS)
def test_the_sound_is_loud_where_the_truth_has_speech_and_silent_in_pauses(demo, source: str, number: int) -> None:
    clip, rate_hz = demo.truth[source]["clips"][number], demo.truth[source]["sample_rate_hz"]
    sound = hear(demo.film(source))[round(clip["start_s"] * rate_hz) :]
    quiet = np.concatenate([sound[round(a * rate_hz) : round(b * rate_hz)] for a, b in clip["pauses_s"]])
    assert np.median(np.abs(quiet)) < 0.001
    hop = rate_hz // FPS
    rows = sound[: (clip["num_frames"] - 1) * hop].reshape(-1, hop)
    level = np.sqrt((rows**2).mean(axis=1))  # of the frame that begins at the row's instant
    speech = np.array(clip["speech"])
    rows_spoken = np.flatnonzero(np.minimum(speech[:-1], speech[1:]) > 0.15)
    rows_silent = np.flatnonzero(np.maximum(speech[:-1], speech[1:]) == 0)
    rows_silent = np.setdiff1d(rows_silent, np.add.outer(clip["click_frames"], (-1, 0, 1)))
    assert np.median(level[rows_spoken]) > 30 * np.median(level[rows_silent])


def test_the_cut_is_where_the_truth_says_and_nowhere_else(demo: Demo, films: Films) -> None:
    for source in SOURCES:
        small = [frame[::8, ::8].astype(np.float32) for frame in films[source]]
        change = [np.abs(after - before).mean() for before, after in pairwise(small)]
        cuts = [frame for frame, difference in enumerate(change, start=1) if difference > 15]
        assert cuts == [frame for frame in [demo.truth[source]["cut_frame"]] if frame is not None]
    crossing = [clip["crosses_cut"] for source in SOURCES for clip in demo.truth[source]["clips"]]
    assert crossing == [False] * len(WHOLE_CLIPS) + [True]


def test_the_manifest_loads_with_every_attitude_and_split(demo: Demo) -> None:
    manifest = load_manifest(demo.manifest)
    assert not manifest.warnings  # test people are seen in train
    assert {clip.attitude for clip in manifest.clips} == set(ATTITUDES)
    assert {clip.split for clip in manifest.clips} == {"train", "test", "ood"}
    assert {clip.speaker_side for clip in manifest.clips} == set(SIDES)
    known = {(s, c["start_s"], c["end_s"], c["num_frames"]) for s in SOURCES for c in demo.truth[s]["clips"]}
    loaded = {(c.source_id, float(c.span.start_s), float(c.span.end_s), c.span.num_frames) for c in manifest.clips}
    assert loaded == known


@pytest.mark.parametrize("source", SOURCES)
def test_films_have_the_frames_and_rates_of_the_truth(demo: Demo, films: Films, source: str) -> None:
    with av.open(str(demo.film(source))) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert str(video.average_rate) == demo.truth[source]["frame_rate"]
        assert audio.rate == demo.truth[source]["sample_rate_hz"]
    assert len(films[source]) == demo.truth[source]["num_frames"]


@pytest.mark.parametrize("scene", SCENES, ids=SOURCES)
def test_the_same_scene_gives_the_same_bytes(tmp_path: Path, scene: Scene) -> None:
    turn = replace(scene.turns[0], span=Span(Fraction("0.2"), Fraction("1.8")))
    short = replace(scene, duration_s=Fraction(2), turns=(turn,), cut_s=None)
    first, second = (tmp_path / f"{run}{Path(scene.file).suffix}" for run in ("first", "second"))
    for path in (first, second):
        write_film(short, {name: Actor(name) for name in scene.people}, path)
    assert first.read_bytes() == second.read_bytes()


def test_a_film_that_ffmpeg_cannot_write_says_why(tmp_path: Path) -> None:
    scene = SCENES[0]
    with pytest.raises(RuntimeError, match=r"could not write .*missing.*No such file"):
        write_film(scene, {name: Actor(name) for name in scene.people}, tmp_path / "missing" / "film.mkv")


def test_a_roll_turns_the_eye_line_and_a_step_moves_it() -> None:
    head = Actor("ada").head
    rest, moved = head.eye_line(Pose()), head.eye_line(Pose(right_px=9, down_px=-5, roll_rad=0.1, scale=1.05))
    assert moved.angle_rad - rest.angle_rad == pytest.approx(0.1, abs=1e-6)
    assert moved.length_px / rest.length_px == pytest.approx(1.05, abs=1e-6)


def test_the_command_line_says_what_it_needs() -> None:
    result = subprocess.run([sys.executable, "-m", "jobs.make_demo"], capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "--out" in result.stderr
