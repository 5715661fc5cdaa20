"""How fast the fitters of ``threedmm`` are, in frames of one face: a part of ``python -m jobs.bench``.

Beside them stands the figure of the ViCo paper (Zhou et al., ECCV 2022): 52.5 ms a frame for Deep3DFaceRecon on a V100.
Networks whose weights are not here are measured with untrained ones: they take the same time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jobs.bench.timing import Times, shortest_s
from pipeline.tables import aligned

CLIP_FRAMES = 300
NETWORK_FRAMES = {"cpu": 4, "cuda": 1024}
PAPER_MS = 52.5
ROUNDS = 3


def fitter_table() -> tuple[str, Times]:
    """Milliseconds a frame and frames a second of the fitters on this machine's CPU, and on its GPU if there is one."""
    import torch

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    times: Times = {}
    rows = [["fitter", "device", "ms a frame", "frames/s", f"faster than the paper's {PAPER_MS} ms by"]]
    for device in devices:
        name = torch.cuda.get_device_name() if device == "cuda" else "one CPU core"
        for fitter, work, frames in (("landmark_gn", *_landmark_gn(device)), ("deep3d", *_deep3d(device))):
            ms = times[f"{fitter}, {device}"] = 1000 * _seconds(work, device) / frames
            rows.append([fitter, name, f"{ms:.3f}", f"{1000 / ms:.0f}", f"{PAPER_MS / ms:.0f}"])
    note = "" if len(devices) > 1 else "\nNo GPU at hand: the figures on GPUs are not measured here."
    return aligned(rows) + note, times


def _seconds(work: Callable[[], object], device: str) -> float:
    """The shortest of some rounds, after one that warms up."""
    import torch

    from stages.morphable.fitters import reproducible

    def finished() -> None:
        work()
        if device == "cuda":
            torch.cuda.synchronize()

    with reproducible():
        finished()
        return shortest_s(finished, ROUNDS)


def _landmark_gn(device: str) -> tuple[Callable[[], object], int]:
    """A fit of one clip: a face of the basis that turns and talks."""
    import torch

    from stages.morphable.basis import load_basis
    from stages.morphable.landmark_gn import LandmarkFitter, Track
    from stages.morphable.rotation import rotation_matrix

    basis, rng = load_basis(), np.random.default_rng(0)
    expression = rng.normal(size=(CLIP_FRAMES, len(basis.expression_std))) * basis.expression_std
    shape = basis.shape(rng.normal(size=len(basis.identity_std)) * basis.identity_std, expression)
    angle = np.linspace([-0.2, -0.4, -0.1], [0.2, 0.4, 0.1], CLIP_FRAMES)
    posed = shape @ rotation_matrix(torch.from_numpy(angle)).numpy().transpose(0, 2, 1)
    points = (130 * posed * [1, -1, -1] + [192, 192, 0]).astype(np.float32)
    fitter, track = LandmarkFitter(basis, device), Track(points, np.ones(CLIP_FRAMES, bool))
    return lambda: fitter.fit([track]), CLIP_FRAMES


def _deep3d(device: str) -> tuple[Callable[[], object], int]:
    """Windows through the network, in batches; alignment and decoding are left out."""
    import torch

    from stages.morphable.camera import WINDOW_PX
    from stages.morphable.deep3d import Deep3D

    network, batch = Deep3D(None, device), 256
    frames = NETWORK_FRAMES[device]
    windows = torch.randint(0, 256, (min(frames, batch), 3, WINDOW_PX, WINDOW_PX), dtype=torch.uint8)
    return lambda: [network.coefficients(windows) for _ in range(-(-frames // batch))], frames
