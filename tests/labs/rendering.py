"""A public-domain face to render: NASA's portrait in the scikit-image wheel, fitted, moved, and put in data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from skimage import data as pictures

from pipeline.clock import HOP_SAMPLES, SAMPLE_RATE_HZ
from pipeline.dataset.read import read_description
from pipeline.dataset.write import write_dataset
from pipeline.media.encode import VideoWriter, write_wav
from pipeline.settings import as_plain
from pipeline.weights import find_weights
from schemas.column import LISTENER, Column, per_role
from schemas.dataset import PREDICTED, RANDOM, Maker, Predicted
from stages.blink import Blink
from stages.evaluate.render.face_mesh import MOUTH, RIGHT_EYE
from stages.evaluate.render.lids import aspect
from stages.evaluate.render.scene import Motion, Scene
from stages.faces.tracker import Tracker
from stages.morphable.basis import Basis, load_basis
from stages.morphable.fitters import FilmedTrack, LandmarkGn, Options
from stages.threedmm import ThreeDMM
from tests.labs.predictions import facts

SIDE_PX = 384
HEAD = np.s_[0:230, 110:340]  # of the portrait
LIPS = (13, 14)  # the middles of both inner edges
RIGHT_LIDS, LEFT_LIDS = (159, 145), (386, 374)
MEDIA = (*per_role(Column("{role}_video", "string", media=True)), Column("audio", "string", media=True))


def portrait() -> np.ndarray:
    """A head and some of a suit: uint8 RGB (384, 384, 3)."""
    return cv2.resize(pictures.astronaut()[HEAD], (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)


def landmarks(frames: Sequence[np.ndarray]) -> np.ndarray:
    """FaceMesh's points of every frame, float32 (frame, 478, 3), as the stage finds them."""
    found = list(Tracker(min_detection=0.5, min_presence=0.9).follow(frames))
    assert all(points is not None for points in found)
    return np.stack([points for points in found if points is not None])


def fitted(points: np.ndarray) -> Motion:
    """Coefficients of landmarks (frame, 478, 3), as the stage fits them."""
    fitter = LandmarkGn({"basis": find_weights("basis_media_v1").paths()[0]}, Options())
    (found,) = fitter.fit([FilmedTrack(points, np.ones(len(points), bool), SIDE_PX, tuple)])
    return Motion(**{name: found[name] for name in ("identity", "exp", "angle", "trans", "crop")})


def expression(basis: Basis, edges: Mapping[tuple[int, int], float]) -> np.ndarray:
    """The most probable expression (64,) in which pairs of points move apart by so much, in dm upwards."""
    pull = np.stack([basis.expression[:, upper, 1] - basis.expression[:, lower, 1] for upper, lower in edges])
    spread = pull * basis.expression_std**2
    return np.linalg.solve(spread @ pull.T, np.array(list(edges.values()))) @ spread


@dataclass(frozen=True)
class Sitter:
    """The portrait with its coefficients."""

    picture: np.ndarray
    pose: Motion
    basis: Basis

    @staticmethod
    def sit() -> Sitter:
        picture = portrait()
        points = landmarks([picture] * 2)[:1]
        return Sitter(picture, fitted(points), load_basis())

    def move(self, angle: np.ndarray, trans: np.ndarray, exp: np.ndarray, closed: np.ndarray | None = None) -> Scene:
        """A scene whose motion is that of the portrait plus these, each (frame, D)."""
        count, pose = len(angle), self.pose
        crop = pose.crop.repeat(count, 0)
        motion = Motion(pose.identity, pose.exp + exp, pose.angle + angle, pose.trans + trans, crop)
        return Scene(self.picture, pose, motion, np.zeros(count) if closed is None else closed)

    def still(self, count: int = 1) -> Scene:
        return self.move(np.zeros((count, 3)), np.zeros((count, 3)), np.zeros((count, 64)))

    def acting(self, count: int) -> Scene:
        """Nods, turns and tilts; moves; opens the mouth twice."""
        time = np.linspace(0, 1, count)[:, None]
        angle = np.radians([[6, 9, 6]]) * np.sin(2 * np.pi * time * [[1, 1.5, 2]])
        trans = 0.12 * np.sin(2 * np.pi * time * [[1, 1.3, 0]])
        opening = (0.5 - 0.5 * np.cos(4 * np.pi * time)) * expression(self.basis, {LIPS: 0.16})
        return self.move(angle, trans, opening)


def mouth_aspect(meshes: np.ndarray) -> np.ndarray:
    """Height by width of the mouth, (frame,), of (frame, 478, 3)."""
    return np.array([aspect(points, MOUTH) for points in meshes])


def eye_aspect(meshes: np.ndarray) -> np.ndarray:
    """Height by width of the subject's right eye, (frame,)."""
    return np.array([aspect(points, RIGHT_EYE) for points in meshes])


def write_portraits(root: Path, clips: Mapping[str, Scene], frames: Sequence[np.ndarray] = ()) -> Path:
    """A data set whose listeners are these scenes, as their motion says; films show the reference, or ``frames``."""
    fit, blink = ThreeDMM(), Blink()
    columns = [c for c in (*MEDIA, *fit.writes(), *blink.writes()) if "eye" not in c.name]
    rows = [_row(root, clip_id, scene, frames) for clip_id, scene in clips.items()]
    weights = {name: find_weights(name).sha256 for name in fit.weights()}
    made = Maker("threedmm", fit.version, as_plain(fit.settings), weights)
    write_dataset(root, rows, columns, name="portrait", kind=RANDOM, stages={"threedmm": made})
    return root


def write_predictions(
    root: Path, data: Path, motions: Mapping[str, Motion], blink: bool = False, role: str = LISTENER
) -> Path:
    """A prediction data set for a data set: these motions, closed eyes in the second half if asked for."""
    wanted = [f"{role}_{name}" for name in ("exp", "angle", "trans")] + [f"{role}_blink"] * blink
    columns = [c for c in (*ThreeDMM().writes(), *Blink().writes()) if c.name in wanted]
    rows = []
    for clip_id, motion in motions.items():
        values = {f"{role}_{n}": getattr(motion, n) for n in ("exp", "angle", "trans")}
        count = len(motion.exp)
        rows.append(facts(clip_id, count) | values | {f"{role}_blink": np.arange(count) >= count // 2})
    stages = read_description(data).stages
    write_dataset(root, rows, columns, name="portrait", kind=PREDICTED, stages=stages, predicted=Predicted(role=role))
    return root


def _row(root: Path, clip_id: str, scene: Scene, frames: Sequence[np.ndarray]) -> dict[str, Any]:
    folder, count = root / "media" / clip_id, len(scene.closed)
    folder.mkdir(parents=True)
    values = facts(clip_id, count)
    for role in ("speaker", "listener"):
        with VideoWriter(folder / f"{role}.mp4", (SIDE_PX, SIDE_PX)) as writer:
            for frame in frames or [scene.picture] * count:
                writer.write(frame)
        motion = scene.motion
        values |= {f"{role}_{n}": getattr(motion, n) for n in ("exp", "angle", "trans", "crop", "identity")}
        values |= {f"{role}_coeffs_valid": np.ones(count, bool), f"{role}_blink": scene.closed > 0.5}
        values[f"{role}_video"] = f"media/{clip_id}/{role}.mp4"
    write_wav(folder / "audio.wav", 0.3 * np.sin(2 * np.pi * 440 * np.arange(count * HOP_SAMPLES) / SAMPLE_RATE_HZ))
    return values | {"audio": f"media/{clip_id}/audio.wav"}
