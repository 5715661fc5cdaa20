"""LR-ASD: how much a face in a film looks like the voice that is heard, a number a frame, by the user's checkpoint.

Liao et al., "LR-ASD: Lightweight and Robust Network for Active Speaker Detection", IJCV 2025; checkpoint
``weight/finetuning_TalkSet.model`` of Junhua-Liao/LR-ASD, commit 1b6dcd2 (MIT). The code here is our own and its
outputs are those of the published program. Known weaknesses: lips that move without a voice, as in
chewing and laughing, score high while somebody is heard; so do faces while the speaker is not to be seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.clock import exact_div
from stages.morphable.checkpoint import filled, read_checkpoint
from stages.speakers.mfcc import mfcc

FILM_HZ = 25  # of the films that it was trained on
ROWS = 4  # of MFCC a frame
PASSES_S = (1, 2, 3, 4, 6)  # lengths of the pieces that a track is cut into, a pass over the track each
REACH = 9  # frames before and after a frame that change what is seen of it, by the kernels of three blocks
AT_ONCE = 150  # frames whose pictures are in the network at once
SHORTEST = 2  # frames in a piece that the network is asked about; a single frame counts 0
NORM_EPS = 1e-3
GREY_MEAN, GREY_DEVIATION = 0.4161, 0.1688

CROP_PX = 112
MARGIN = 0.4  # around the box, in halves of its larger side: the square of 2.8 halves, of which the middle half is seen
OUTSIDE = 110  # grey beyond the picture
SMOOTHED_FRAMES = 13  # of the median over a track's boxes
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


class Block(nn.Module):
    """Two convolutions over one axis of the input, two over time, each with a norm and ReLU (paper, section 3.2).

    ``kind`` s is the visual one, on (1, channel, frame, height, width), m that for sound, (1, channel, band, row).
    """

    def __init__(self, kind: str, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.kind = kind
        for name, kernel, width, channels, step in (
            (f"{kind}_1", 5, inputs, outputs // 2, stride),
            (f"{kind}_2", 3, outputs // 2, outputs, 1),
            ("t_1", 5, outputs, outputs, 1),
            ("t_2", 3, outputs, outputs, 1),
        ):
            convolution: type[nn.Conv2d | nn.Conv3d] = nn.Conv3d
            if kind == "s":
                shape: tuple[int, ...] = (kernel, 1, 1) if name[0] == "t" else (1, kernel, kernel)
                strides: tuple[int, ...] = (1, step, step)
                norm: nn.Module = nn.BatchNorm3d(channels, eps=NORM_EPS)
            else:
                convolution, strides, norm = nn.Conv2d, (1, 1), nn.BatchNorm2d(channels, eps=NORM_EPS)
                shape = (1, kernel) if name[0] == "t" else (kernel, 1)
            padding = tuple(size // 2 for size in shape)
            self.add_module(name, convolution(width, channels, shape, strides, padding, bias=False))  # type: ignore[arg-type]
            self.add_module(f"{name[0]}_norm_{name[2]}", norm)

    def forward(self, x: Tensor) -> Tensor:
        for axis in (self.kind, "t"):
            for order in "12":
                convolution, norm = getattr(self, f"{axis}_{order}"), getattr(self, f"{axis}_norm_{order}")
                x = functional.relu(norm(convolution(x)))
        return x


class VisualEncoder(nn.Module):
    """Normed grey faces (piece, frame, 112, 112) to (piece, frame, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.block1, self.block2, self.block3 = Block("s", 1, 32, stride=2), Block("s", 32, 64), Block("s", 64, 128)

    def forward(self, faces: Tensor) -> Tensor:
        x = faces[:, None]  # (piece, 1, frame, 112, 112)
        for block in (self.block1, self.block2):
            x = functional.max_pool3d(block(x), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        return self.block3(x).amax(dim=(3, 4)).transpose(1, 2)


class AudioEncoder(nn.Module):
    """MFCC (1, row, 13) to (1, frame, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.block1, self.block2, self.block3 = Block("m", 1, 32), Block("m", 32, 64), Block("m", 64, 128)

    def forward(self, sound: Tensor) -> Tensor:
        x = sound.transpose(1, 2)[:, None]  # (1, 1, 13, row)
        for block in (self.block1, self.block2):
            x = functional.max_pool2d(block(x), (1, 3), (1, 2), (0, 1))
        return self.block3(x).mean(dim=2).transpose(1, 2)


class Gate(nn.Module):
    """Each channel times how much it counts, from all channels of the same frame; on (1, frame, channel)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.Conv1d(channels, channels, 1, bias=False)
        self.bn = nn.BatchNorm1d(channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.bn(self.attention(x.transpose(1, 2)))).transpose(1, 2)


class Detector(nn.Module):
    """What came before and what comes after, each through a GRU of its own: (1, frame, 256) to (1, frame, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.gru_forward = nn.GRU(256, 64, batch_first=True)
        self.gru_backward = nn.GRU(256, 64, batch_first=True)
        self.attention = Gate(128)

    def forward(self, x: Tensor) -> Tensor:
        before, _ = self.gru_forward(x)
        after, _ = self.gru_backward(x.flip(1))
        found: Tensor = self.attention(torch.cat((before, after.flip(1)), dim=2))
        return found


class Network(nn.Module):
    """All of it: faces and MFCC of one track to two logits a frame, of which the second says that the face speaks."""

    def __init__(self) -> None:
        super().__init__()
        self.visualEncoder, self.audioEncoder = VisualEncoder(), AudioEncoder()
        self.fusion, self.detector, self.FC = Gate(256), Detector(), nn.Linear(128, 2)

    def forward(self, faces: Tensor, sound: Tensor) -> Tensor:
        return self.logits(self.seen(faces), self.heard(sound))

    def seen(self, faces: Tensor) -> Tensor:
        """What is seen (piece, frame, 128) of grey faces (piece, frame, 112, 112) of 0 to 255."""
        found: Tensor = self.visualEncoder((faces.float() / 255 - GREY_MEAN) / GREY_DEVIATION)
        return found

    def heard(self, sound: Tensor) -> Tensor:
        """What is heard (1, frame, 128) of MFCC (1, 4 frames, 13)."""
        found: Tensor = self.audioEncoder(sound)
        return found

    def logits(self, seen: Tensor, heard: Tensor) -> Tensor:
        """Two logits a frame, (1, frame, 2)."""
        found: Tensor = self.FC(self.detector(self.fusion(torch.cat((heard, seen), dim=2))))
        return found


class LrAsd:
    """The network with a checkpoint's weights on a device.

    Raises
    ------
    UserError : the file is no checkpoint of this network.
    """

    def __init__(self, file: Path, device: str = "cpu") -> None:
        stored = {
            key.removeprefix("model.").replace("lossAV.", ""): value
            for key, value in read_checkpoint(file).items()
            if not key.startswith("lossV.")  # used in training alone
        }
        self.network = filled(Network(), stored, file).eval().to(device)
        self.device = device

    def scores(self, faces: NDArray[np.uint8], sound: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """How much each frame of a track speaks, float32 (frame,): above 0 it does.

        Parameters
        ----------
        faces : uint8 (frame, 112, 112), 25 a second, as `crop` cuts them.
        sound : (sample,) at 16 kHz, full scale 1, that begins with the first frame.

        Frames beyond the sound's last whole frame count 0, as in the published program.
        """
        rows = torch.from_numpy(mfcc(sound).astype(np.float32)).to(self.device)
        count = min(len(faces), len(rows) // ROWS)
        total = torch.zeros(len(faces), device=self.device)
        with torch.inference_mode():
            whole, cut = self._seen(faces[:count])
            for seconds in PASSES_S:
                step = seconds * FILM_HZ
                for first in range(0, count, step):
                    stop = min(first + step, count)
                    if stop - first < SHORTEST:
                        continue
                    seen = whole[first:stop].clone()
                    if first:
                        seen[:REACH] = cut[first:stop][:REACH]
                    if stop < count:
                        seen[-REACH:] = cut[first:stop][-REACH:]
                    heard = self.network.heard(rows[None, ROWS * first : ROWS * stop])
                    total[first:stop] += self.network.logits(seen[None], heard)[0, :, 1]
        found: NDArray[np.float32] = (total / len(PASSES_S)).cpu().numpy()
        return found

    def _seen(self, faces: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """What is seen of all frames, each (frame, 128): of the track in one piece, and of its seconds by themselves.

        The pieces of all passes begin and end at whole seconds, and only frames near an end look otherwise there than
        in one piece. So two passes of the encoder, which is most of the work, do for five.
        """
        whole, cut = [], []
        for first in range(0, len(faces), AT_ONCE):
            before, after = min(first, REACH), first + AT_ONCE + REACH
            seen = self._encoded(faces[None, first - before : after])[0]
            whole.append(seen[before:][:AT_ONCE])
        seconds = len(faces) // FILM_HZ
        for first in range(0, seconds, AT_ONCE // FILM_HZ):
            some = faces[first * FILM_HZ : min(first + AT_ONCE // FILM_HZ, seconds) * FILM_HZ]
            cut.append(self._encoded(some.reshape(-1, FILM_HZ, *faces.shape[1:])).flatten(0, 1))
        rest = faces[seconds * FILM_HZ :]
        if len(rest):
            cut.append(self._encoded(rest[None])[0])
        nothing = torch.zeros((0, 128), device=self.device)
        return torch.cat([nothing, *whole]), torch.cat([nothing, *cut])

    def _encoded(self, faces: NDArray[np.uint8]) -> Tensor:
        return self.network.seen(torch.from_numpy(faces).to(self.device))


def crops(frames: Iterable[NDArray[np.uint8]], boxes: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """The grey squares that the network sees, uint8 (frame, 112, 112), of RGB frames (frame, height, width, 3).

    Boxes are x1, y1, x2, y2 of the face, (frame, 4) in px; a median over 13 frames steadies their centre and size.
    """
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / 2
    steady = median_over(np.c_[(boxes[:, :2] + boxes[:, 2:]) / 2, half], SMOOTHED_FRAMES)
    return np.stack([crop(rgb, *row) for rgb, row in zip(frames, steady, strict=True)])


def crop(rgb: NDArray[np.uint8], x: float, y: float, half: float) -> NDArray[np.uint8]:
    """One square, uint8 (112, 112), around the centre x, y of a face's box, whose larger side is two halves.

    The published program cuts the square of side 2.8 halves from a half above to 1.8 halves below the centre, scales it
    bilinearly to 224 px and takes the middle: so does this, without the pixels in between that nobody looks at.
    """
    side = (2 + 2 * MARGIN) * half
    scale = side / (2 * CROP_PX)  # source px a px
    inner = (np.arange(CROP_PX) + CROP_PX / 2 + 0.5) * scale - 0.5
    columns, rows = x - side / 2 + inner, y - half + inner
    height, width = rgb.shape[:2]
    low_x, low_y = int(np.floor(columns[0])), int(np.floor(rows[0]))
    high_x, high_y = int(np.floor(columns[-1])) + 2, int(np.floor(rows[-1])) + 2
    grey = np.full((high_y - low_y, high_x - low_x), OUTSIDE, np.float32)
    within = rgb[max(low_y, 0) : max(high_y, 0), max(low_x, 0) : max(high_x, 0)] @ LUMA
    top, left = max(-low_y, 0), max(-low_x, 0)
    grey[top : top + within.shape[0], left : left + within.shape[1]] = within
    across = between(grey, columns - low_x, axis=1)
    return np.rint(between(across, rows - low_y, axis=0)).astype(np.uint8)


def between(values: NDArray[np.float32], places: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    """Values at fractional places along an axis, linearly between their neighbours."""
    first = np.floor(places).astype(np.intp)
    shape = [1] * values.ndim
    shape[axis] = len(places)
    share = (places - first).astype(np.float32).reshape(shape)
    found: NDArray[np.float32] = values.take(first, axis) * (1 - share) + values.take(first + 1, axis) * share
    return found


def median_over(series: NDArray[np.floating[Any]], frames: int) -> NDArray[np.float64]:
    """The median of each number of (frame, number) over an odd count of frames around each.

    The published program sees zeros beyond the ends of a track (`scipy.signal.medfilt`), which shrink and move its
    first and last boxes; here the first and the last box go on.
    """
    half = exact_div(frames - 1, 2)
    padded = np.pad(series, ((half, half), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, frames, axis=0)  # (frame, number, frames)
    found: NDArray[np.float64] = np.median(windows, axis=-1)
    return found
