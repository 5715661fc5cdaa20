"""PSNR and SSIM of predicted frames against the reference, with the conventions of piq.

Conventions
-----------
Frames are RGB, uint8 (frame, height, width, 3), with 255 as the range; prediction and reference have one size. Values
are of single frames first, (frame,), then their mean.

Source
------
Wang et al., "Image Quality Assessment", TIP 2004 (SSIM); ``psnr.py`` and ``ssim.py`` of photosynthesis-team/piq 0.8,
which ``compute_base_metrics.py`` of dc3ea9f/vico_challenge_baseline runs.
"""

from __future__ import annotations

import numpy as np

from stages.evaluate.definition import Definition, Direction, Pooling, pair


def _quality(id: str, name: str, published_as: str, formula: str, function) -> Definition:
    psnr = id.startswith("psnr")
    return Definition(
        id=id,
        name=name,
        published_as=published_as,
        formula=formula,
        source="piq 0.8; compute_base_metrics.py of dc3ea9f/vico_challenge_baseline",
        unit="dB" if psnr else "",
        scale=1.0,
        pooling=Pooling.FRAMES,
        direction=Direction.HIGHER,
        inputs=pair("frames"),
        min_frames=1,
        function=function,
        perfect=80.0 if psnr else 1.0,
        warning="depends on the size of the picture and on the codec that both went through",
    )


def psnr(predicted: np.ndarray, reference: np.ndarray) -> float:
    raise NotImplementedError


def ssim(predicted: np.ndarray, reference: np.ndarray) -> float:
    raise NotImplementedError


def ssim_full_size(predicted: np.ndarray, reference: np.ndarray) -> float:
    raise NotImplementedError


_PUBLISHED = "ViCo Table 4; ViCo challenge; HSP Table 1; MFR-Net Table 2"

DEFINITIONS = (
    _quality(
        "psnr_piq", "PSNR", f"PSNR, {_PUBLISHED}", "10 log10(1 / (mean squared error + 1e-8)), RGB in [0, 1]", psnr
    ),
    _quality(
        "ssim_piq",
        "SSIM",
        f"SSIM, {_PUBLISHED}",
        "SSIM, Gaussian 11x11 of sigma 1.5, mean of R, G and B, after average pooling by round(shorter side / 256)",
        ssim,
    ),
    _quality(
        "ssim_full_size",
        "SSIM (full size)",
        "",
        "SSIM, Gaussian 11x11 of sigma 1.5, mean of R, G and B, at full size",
        ssim_full_size,
    ),
)
