"""SyncNet: how well a face's lips go with the voice that is heard, and how far apart in time; published weights.

Chung and Zisserman, "Out of Time: Automated Lip Sync in the Wild", ACCV Workshops 2016; checkpoint ``syncnet_v2.model``
of joonson/syncnet_python (MIT), which the ViCo challenge took AVConf and AVOffset from. The code here is our own;
parameters bear the checkpoint's names. Two things differ from the published program: faces are found by MTCNN instead
of S3FD, and pictures go to the network without a detour through JPEG and another codec.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.clock import exact_div
from stages.faces.detector import FaceDetector
from stages.morphable.checkpoint import filled, read_checkpoint
from stages.speakers.lr_asd import MARGIN, OUTSIDE, ROWS, SMOOTHED_FRAMES, median_over
from stages.speakers.mfcc import RATE_HZ, mfcc

FILM_HZ = 25  # of the films that it was trained on
FRAME_SAMPLES = exact_div(RATE_HZ, FILM_HZ)  # 640 samples = one frame
SEEN = 5  # frames that an embedding is of, and as much sound
CROP_PX = 224
EMBEDDING, HIDDEN = 1024, 512
BATCH_PLACES = 32
LEAST_FACE_PX = 60  # smaller ones are not looked for: the face fills its crop

SAME = {"kernel_size": 3, "padding": 1}
ACROSS = {"kernel_size": (1, 3, 3), "padding": (0, 1, 1)}
HALVED = {"kernel_size": (1, 3, 3), "stride": (1, 2, 2)}
OF_SOUND = (  # outputs, convolution, maximum
    (64, SAME, {"kernel_size": 1}),  # changes nothing, and takes its place in the list
    (192, SAME, {"kernel_size": 3, "stride": (1, 2)}),
    (384, SAME, {}),
    (256, SAME, {}),
    (256, SAME, {"kernel_size": 3, "stride": 2}),
    (HIDDEN, {"kernel_size": (5, 4)}, {}),
)
OF_LIPS = (
    (96, {"kernel_size": (SEEN, 7, 7), "stride": (1, 2, 2)}, HALVED),
    (256, {"kernel_size": (1, 5, 5), "stride": (1, 2, 2), "padding": (0, 1, 1)}, {**HALVED, "padding": (0, 1, 1)}),
    (256, ACROSS, {}),
    (256, ACROSS, {}),
    (256, ACROSS, HALVED),
    (HIDDEN, {"kernel_size": (1, 6, 6)}, {}),
)


def _stream(kind: int, inputs: int, steps: Iterable[tuple[int, dict[str, Any], dict[str, Any]]]) -> nn.Sequential:
    """Convolutions over so many axes, each with a norm and ReLU, and a maximum after some."""
    convolution, norm, maximum = (getattr(nn, f"{name}{kind}d") for name in ("Conv", "BatchNorm", "MaxPool"))
    layers: list[nn.Module] = []
    for outputs, shape, window in steps:
        layers += [convolution(inputs, outputs, **shape), norm(outputs), nn.ReLU(inplace=True)]
        layers += [maximum(**window)] if window else []
        inputs = outputs
    return nn.Sequential(*layers)


def _head() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(HIDDEN, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(inplace=True), nn.Linear(HIDDEN, EMBEDDING)
    )


class Network(nn.Module):
    """Both streams of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud, self.netfcaud = _stream(2, 1, OF_SOUND), _head()
        self.netcnnlip, self.netfclip = _stream(3, 3, OF_LIPS), _head()

    def heard(self, sound: Tensor) -> Tensor:
        """Embeddings (place, 1024) of MFCC (place, 1, 13, 20)."""
        found: Tensor = self.netfcaud(self.netcnnaud(sound).flatten(1))
        return found

    def seen(self, faces: Tensor) -> Tensor:
        """Embeddings (frame - 4, 1024) of faces (3, frame, 224, 224), B, G and R in 0 to 255.

        Only the first layer looks at several frames, so that all places are one convolution over time.
        """
        found: Tensor = self.netfclip(self.netcnnlip(faces[None])[0, :, :, 0, 0].T)
        return found


class SyncNet:
    """The network with a checkpoint's weights on a device, ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    UserError : the file is no checkpoint of this network.
    """

    def __init__(self, file: Path, device: str = "cpu") -> None:
        self.network = filled(Network(), read_checkpoint(file), file).eval().to(device)
        self.device = device

    def embeddings(
        self, faces: Iterable[NDArray[np.uint8]], num_frames: int, sound: NDArray[np.floating[Any]]
    ) -> NDArray[np.float32]:
        """What is seen and, after it, what is heard at every place, float32 (place, 2048).

        Parameters
        ----------
        faces : RGB uint8 (224, 224, 3) each, 25 a second, as `squares` cuts them.
        num_frames : how many they are.
        sound : (sample,) at 16 kHz, full scale 1, that begins with the first frame.

        A place is five frames and their sound; the published program leaves the last one out, and so does this.
        """
        places = max(0, min(num_frames, len(sound) // FRAME_SAMPLES) - SEEN)
        rows = mfcc(sound).astype(np.float32).T  # (13, row)
        found = [np.empty((0, 2 * EMBEDDING), np.float32)]
        source = iter(faces)
        waiting = list(islice(source, SEEN - 1))
        for first in range(0, places, BATCH_PLACES):
            count = min(BATCH_PLACES, places - first)
            waiting += islice(source, count)
            found.append(self._embed(np.stack(waiting), rows[:, ROWS * first :], count))
            waiting = waiting[count:]
        return np.concatenate(found)

    def _embed(self, faces: NDArray[np.uint8], rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        windows = np.lib.stride_tricks.sliding_window_view(rows, ROWS * SEEN, axis=1)[:, ::ROWS][:, :count]
        with torch.inference_mode():
            pictures = torch.from_numpy(faces[..., ::-1].copy()).to(self.device).permute(3, 0, 1, 2).float()
            sounds = torch.from_numpy(windows.swapaxes(0, 1)[:, None].copy()).to(self.device)  # (place, 1, 13, 20)
            both = torch.cat([self.network.seen(pictures), self.network.heard(sounds)], dim=1)
        found: NDArray[np.float32] = both.cpu().numpy()
        return found


def face_boxes(frames: Iterable[NDArray[np.uint8]], detector: FaceDetector) -> NDArray[np.float64]:
    """The largest face's box in every RGB frame, x1, y1, x2, y2 (frame, 4) in px; NaN where no frame shows one.

    Where a frame shows none, the box lies between those before and after.
    """
    found = [detector.detect(rgb[None], LEAST_FACE_PX)[0].boxes[:1] for rgb in frames]
    boxes = np.array([box[0] if len(box) else np.full(4, np.nan) for box in found], np.float64).reshape(-1, 4)
    known, places = np.isfinite(boxes[:, 0]), np.arange(len(boxes))
    if not known.any():
        return boxes
    return np.stack([np.interp(places, places[known], edge[known]) for edge in boxes.T], axis=1)


def squares(frames: Iterable[NDArray[np.uint8]], boxes: NDArray[np.floating[Any]]) -> Iterator[NDArray[np.uint8]]:
    """The squares that the network sees, RGB uint8 (224, 224, 3), around boxes steadied by a median over 13 frames.

    As published: from a half of the box's larger side above its centre to 1.8 halves below, 1.4 halves to either side,
    on whole pixels, grey beyond the picture.
    """
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / 2
    steady = median_over(np.c_[(boxes[:, :2] + boxes[:, 2:]) / 2, half], SMOOTHED_FRAMES)
    for rgb, (x, y, size) in zip(frames, steady, strict=True):
        around = int(size * (1 + 2 * MARGIN))
        padded = cv2.copyMakeBorder(rgb, *[around] * 4, cv2.BORDER_CONSTANT, value=(OUTSIDE,) * 3)
        x, y = x + around, y + around
        rows = slice(max(int(y - size), 0), int(y + size * (1 + 2 * MARGIN)))
        columns = slice(max(int(x - size * (1 + MARGIN)), 0), int(x + size * (1 + MARGIN)))
        yield np.asarray(cv2.resize(padded[rows, columns], (CROP_PX, CROP_PX)), np.uint8)
