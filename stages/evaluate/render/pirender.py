"""PIRenderer as a renderer of scenes: windows of coefficients, the published checkpoint, PCHG's background fusion.

Ren et al., ICCV 2021; coefficients are those of Deep3DFaceRecon, which the published weights were trained with. The
network works at 256 px; the reference is brought to that size and the result back to the reference's. As in the ViCo
baseline (Zhou et al., ECCV 2022) every frame is rendered from the one reference and a window of 27 frames around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch

from schemas.coefficients import Layout
from stages.evaluate.render.fusion import Fusion, Segmenter
from stages.evaluate.render.pirender_net import SIDE_PX, WINDOW_FRAMES, Generator, Padding, Widths
from stages.evaluate.render.scene import Motion, Scene
from stages.morphable.checkpoint import filled, read_checkpoint

FusionKind = Literal["ours", "paper", "none"]
BATCH_FRAMES = 8
CHECKPOINT_KEYS = ("net_G_ema", "net_G")  # what holds the generator; the published file has both and uses the average


class PIRender:
    """The renderer for coefficients of Deep3DFaceRecon, or of whatever the checkpoint was trained with.

    ``checkpoint`` has the layout of the published ``.pt`` file. PCHG's two tricks: ``padding`` of the border when the
    reference is warped, ``zeros`` as published, and ``fusion`` with its background, with our condition on it, as in the
    ``paper`` or not at all. PIRenderer as published has neither.
    """

    def __init__(
        self, checkpoint: Path, device: str = "cpu", *, padding: Padding = "border", fusion: FusionKind = "ours"
    ) -> None:
        weights = generator_weights(checkpoint)
        self._network = filled(Generator(padding, Widths.of(weights)), weights, checkpoint).eval().to(device)
        self._side_px = trained_side_px(checkpoint)
        self._segmenter = None if fusion == "none" else Segmenter()
        self._paper = fusion == "paper"
        self._device = device

    def render(self, scene: Scene) -> Iterator[np.ndarray]:
        segmenter = self._segmenter
        fusion = segmenter and Fusion(scene.picture, segmenter.background(scene.picture), paper=self._paper)
        size = (scene.side_px, scene.side_px)
        for rgb in self.drawn(scene.picture, scene.motion):
            frame = cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC)
            yield fusion.fuse(frame, segmenter.background(frame)) if segmenter and fusion else frame

    def drawn(self, reference: np.ndarray, motion: Motion) -> Iterator[np.ndarray]:
        """The network's own frames, uint8 RGB (side, side, 3) in the size that it was trained with."""
        return self.pictures(reference, windows(semantics(motion, len(reference), self._side_px)))

    @torch.inference_mode()
    def pictures(self, reference: np.ndarray, wanted: np.ndarray) -> Iterator[np.ndarray]:
        """uint8 RGB (256, 256, 3) for every window (frame, 73, 27), from a square reference of any size.

        The network may have been trained with another side than 256 px.
        """
        small = cv2.resize(reference, (self._side_px, self._side_px), interpolation=cv2.INTER_AREA)
        source = torch.from_numpy(small).to(self._device).permute(2, 0, 1)[None] / 127.5 - 1
        for start in range(0, len(wanted), BATCH_FRAMES):
            window = torch.from_numpy(wanted[start : start + BATCH_FRAMES]).to(self._device)
            found = self._network(source.expand(len(window), -1, -1, -1), window).picture
            rgb = ((found + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
            yield from rgb.permute(0, 2, 3, 1).cpu().numpy()


def generator_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The generator's parameters out of a checkpoint; `UserError` where it has none under the published names."""
    stored = read_checkpoint(checkpoint, *CHECKPOINT_KEYS)
    return {name.removeprefix("module."): value for name, value in stored.items()}


def trained_side_px(checkpoint: Path) -> int:
    """The side of the pictures that a checkpoint was trained with; the published files do not say it: 256."""
    return int(read_checkpoint(checkpoint).get("side_px", SIDE_PX))


def semantics(motion: Motion, side_px: int, wanted_px: int = SIDE_PX) -> np.ndarray:
    """PIRender's 73 numbers, float32 (frame, 73), with the crop brought from pictures of ``side_px`` to ``wanted_px``.

    Centres of pixels lie at halves, so that x of one picture is ``(x + 1/2) k - 1/2`` of another.
    """
    ratio = wanted_px / side_px
    place = (motion.crop[:, 1:] + 0.5) * ratio - 0.5
    crop = np.concatenate([motion.crop[:, :1] / ratio, place], 1)
    return Layout("pirender73").join({**asdict(motion), "crop": crop}).astype(np.float32)


def windows(values: np.ndarray) -> np.ndarray:
    """The 27 frames around every frame of (frame, 73), the first and last repeated: (frame, 73, 27)."""
    reach = WINDOW_FRAMES // 2
    around = np.arange(len(values))[:, None] + np.arange(-reach, reach + 1)
    return values[around.clip(0, len(values) - 1)].transpose(0, 2, 1)
