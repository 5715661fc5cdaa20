"""What is done to rendered frames before they become a video: the place of HSP's restoration.

HSP (P000, section 3) sends what its renderer draws through RVRT (Liang et al., NeurIPS 2022), a network for video
restoration whose weights are not ours to give. `Sharpening` stands in for it, learns nothing and invents nothing;
`Exported` runs a network of the user's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch

from schemas.errors import UserError

RADIUS_PX, EDGE = 1, 50.0  # of the guided filter: its window, and the contrast (of 255) that it leaves alone
GAIN = 1.0  # by which detail is added once more
HOW_TO = "save it with torch.export.save(torch.export.export(network, (torch.zeros(1, 8, 3, 384, 384),)), PATH)"


class Sharpening:
    """Detail that a guided filter takes away (He et al., "Guided Image Filtering", ECCV 2010, section 4), added again.

    Unlike with a Gaussian, edges with a contrast of ``EDGE`` and more get no halo; a flat picture stays as it is.
    """

    def restored(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for frame in frames:
            smooth = cv2.ximgproc.guidedFilter(frame, frame, RADIUS_PX, EDGE**2)
            yield cv2.addWeighted(frame, 1 + GAIN, smooth, -GAIN, 0)


class Exported:
    """A network that `torch.export` wrote: float32 (1, frame, 3, side, side) in 0 to 1 in, the same out, or larger.

    The video is cut into as many frames as it was exported with; the last cut is filled with its last frame. Larger
    pictures are shrunk to the video's size.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        try:
            program = torch.export.load(path)
            network = program.module().to(device)
            ((example,), _) = program.example_inputs
        except Exception as error:  # of zipfile, pickle and torch: garbage is answered in many ways
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"{path}: expected a network of torch.export, found {type(error).__name__}: {reason}; {HOW_TO}"
            ) from None
        if not isinstance(example, torch.Tensor) or example.ndim != 5 or example.shape[2] != 3:
            found = list(getattr(example, "shape", []))
            raise UserError(f"{path}: expected a network of (1, frame, 3, side, side), found {found}; {HOW_TO}")
        self._path, self._network, self._device = path, network, device
        self._frames, self._side = example.shape[1], example.shape[-1]

    @torch.inference_mode()
    def restored(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        coming = iter(frames)
        while part := list(islice(coming, self._frames)):
            side = len(part[0])
            if side != self._side:
                raise UserError(f"{self._path}: expected pictures of {self._side} px, found {side} px; {HOW_TO}")
            filled = np.stack([*part, *[part[-1]] * (self._frames - len(part))])
            given = torch.from_numpy(filled).to(self._device).permute(0, 3, 1, 2)[None] / 255
            found = self._network(given)[0, : len(part)]
            rgb = (255 * found).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
            for picture in rgb:
                yield (
                    picture if len(picture) == side else cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
                )
