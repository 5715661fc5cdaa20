"""Whose face it is: dlib's residual network (King 2017; Boost licence, weights CC0) on faces cut by FaceMesh's points.

128 numbers a face, whose Euclidean distance tells people apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIVE_POINTS = (263, 362, 33, 133, 2)  # dlib's: the left eye's outer and inner corner, the right one's, under the nose
TOP, CHIN, RIGHT, LEFT = 10, 152, 234, 454  # of the mesh: its ends in the picture of a face that looks at the camera
CHIP_PX, CHIP_PADDING = 150, 0.25  # what dlib's network was trained on

Network = Callable[[Sequence[tuple[NDArray[np.uint8], NDArray[np.float32]]]], NDArray[np.floating[Any]]]
"""Embeddings (face, dimension) of faces, each a picture (height, width, 3) and its landmarks (478, 3) in px."""


def facing(landmarks: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Cosine (frame,) of the angle between where faces look, by landmarks (frame, 478, 3), and the camera's axis."""
    down, across = (landmarks[:, end] - landmarks[:, start] for start, end in ((TOP, CHIN), (RIGHT, LEFT)))
    normal = np.cross(across, down)
    return np.asarray(np.abs(normal[:, 2]) / np.linalg.norm(normal, axis=1))


def dlib_network(file: Path, device: str, *, mirrored: bool = False) -> Network:
    """The network with its weights; always on the CPU.

    With ``mirrored`` an embedding is the mean of a face's and its mirror image's, at twice the time. That draws the
    pictures of one person together and hardly moves two people: docs/people.md.
    """
    import dlib

    network = dlib.face_recognition_model_v1(str(file))

    def embed(faces: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32]]]) -> NDArray[np.float64]:
        chips = [dlib.get_face_chip(picture, shape_of(points), CHIP_PX, CHIP_PADDING) for picture, points in faces]
        embeddings = np.array(network.compute_face_descriptor(chips))
        if mirrored:
            turned = [np.ascontiguousarray(chip[:, ::-1]) for chip in chips]
            embeddings = (embeddings + np.array(network.compute_face_descriptor(turned))) / 2
        return embeddings

    return embed


def shape_of(points: NDArray[np.float32]) -> Any:
    """Landmarks (478, 3) as dlib's five, by which it turns, scales and cuts a face."""
    import dlib

    five = [dlib.point(*np.rint(points[index, :2]).astype(int).tolist()) for index in FIVE_POINTS]
    return dlib.full_object_detection(dlib.rectangle(0, 0, 0, 0), five)  # the rectangle plays no part
