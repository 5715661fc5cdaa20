"""Stage ``face_identity``: who it is, an embedding a role from a few frontal frames of the clip.

MFR-Net (ACM MM 2023, section 4.1.3) gives its listener "the identity feature" of a face recognition model trained on
VGGFace2; which network and which frames, the paper leaves open. Here: the mean over five frames, one of each fifth of
the clip, the one that looks most straight into the camera.

``dlib`` is dlib's residual network (King 2017; Boost licence, the weights CC0): 128 numbers whose Euclidean distance
tells people apart. On the real clips of ``manifests/vico_examples.csv`` people are within .32 of themselves in another
clip and beyond .47 of everybody else. ``facenet`` is facenet-pytorch's Inception-ResNet v1 trained on VGGFace2: 512
numbers; its weights are under terms that are non-commercial, a download of the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.media.encode import read_video
from pipeline.stage import Reject, Stage, setting
from pipeline.weights import find_weights
from schemas.column import ROLES, Column, both, per_role
from stages.faces.embedding import Network, dlib_network, facing

FRAMES = 5  # more change the mean less than the choice among them
DIMENSIONS = {"dlib": 128, "facenet": 512}
WEIGHTS = {"dlib": "dlib_face_recognition", "facenet": "facenet_vggface2"}

FACENET_SIDE_PX = 160
FACENET_MARGIN = 1.16  # side of the crop in sides of the face: of 182 px, 44 of them margin, its training saw 160


class FaceIdentity(Stage):
    """Who speaks and who listens: the mean embedding of five frontal frames, by dlib's ResNet or facenet's VGGFace2."""

    @dataclass(frozen=True)
    class Settings:
        backend: str = setting(
            "dlib", "network: dlib (in a package) or facenet (a download)", choices=tuple(DIMENSIONS)
        )

    opt_in = True
    reads = both("{role}_video", "{role}_landmarks", "{role}_landmarks_valid")
    rejects = {"no_face": "a role has no frame with valid landmarks"}

    def weights(self) -> tuple[str, ...]:
        return (WEIGHTS[self.settings.backend],)

    def writes(self) -> tuple[Column, ...]:
        width = DIMENSIONS[self.settings.backend]
        meaning = f"who the {{role}} is: mean embedding of frontal frames by {self.settings.backend}"
        return per_role(Column("{role}_face_identity", "float32", (width,), meaning=meaning))

    def setup(self, device: str) -> None:
        (file,) = find_weights(*self.weights()).paths()
        self._network = NETWORKS[self.settings.backend](file, device)

    def process(self, clip: Clip) -> dict[str, Any]:
        found = {}
        for role in ROLES:
            landmarks = clip[f"{role}_landmarks"]
            frames = frontal_frames(landmarks, clip[f"{role}_landmarks_valid"])
            if not len(frames):
                raise Reject("no_face", f"{role}: none of {clip.num_frames} frames has valid landmarks")
            pictures = read_video(clip.path(f"{role}_video"), set(frames.tolist()))
            faces = [(picture, landmarks[frame]) for frame, picture in zip(frames, pictures, strict=True)]
            found[f"{role}_face_identity"] = self._network(faces).mean(axis=0)
        return found


def frontal_frames(landmarks: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Of five equal stretches of a clip's valid frames the frame of each that looks most straight into the camera.

    Landmarks are (frame, 478, 3); fewer frames come back from a clip that has fewer.
    """
    seen = np.flatnonzero(valid)
    towards = facing(landmarks[seen])
    stretches = np.array_split(np.arange(len(seen)), FRAMES)
    return np.array([seen[some[towards[some].argmax()]] for some in stretches if len(some)], np.intp)


def _facenet(file: Path, device: str) -> Network:
    import torch

    from stages.evaluate.metrics.networks import vggface2
    from stages.morphable.checkpoint import filled, read_checkpoint

    stored = {key: value for key, value in read_checkpoint(file).items() if not key.startswith(vggface2.UNUSED)}
    network = filled(vggface2.NETWORK(), stored, file).eval().to(device)

    def embed(faces: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32]]]) -> NDArray[np.float32]:
        crops = np.stack([face_square(picture, points) for picture, points in faces])
        with torch.inference_mode():
            batch = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float()
            embeddings: NDArray[np.float32] = network(vggface2.prepare(batch)).cpu().numpy()
        return embeddings

    return embed


def face_square(picture: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The square around a face's landmarks (478, 3), uint8 (160, 160, 3), black beyond the picture."""
    import cv2

    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    scale = FACENET_SIDE_PX / (FACENET_MARGIN * float((high - low).max()))
    shift = FACENET_SIDE_PX / 2 - scale * (low + high) / 2
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    crop: NDArray[np.uint8] = cv2.warpAffine(picture, matrix, (FACENET_SIDE_PX,) * 2, flags=cv2.INTER_LINEAR)
    return crop


NETWORKS: dict[str, Callable[[Path, str], Network]] = {"dlib": dlib_network, "facenet": _facenet}
