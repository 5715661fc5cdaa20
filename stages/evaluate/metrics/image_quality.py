"""PSNR and SSIM of predicted frames against the reference, with the conventions of piq.

Conventions: Frames are RGB, uint8 (frame, height, width, 3), with 255 as the range; prediction and reference have one
size. Values are of single frames first, (frame,), then their mean. PSNR cannot exceed 80 dB. SSIM first shrinks by
``round(shorter side / 256)``, half to even: 384 px by 2, 640 px by 2 as well.

Source: Wang et al., "Image Quality Assessment", TIP 2004 (SSIM, equation 13); ``psnr.py`` and ``ssim.py`` of
photosynthesis-team/piq 0.8, which ``compute_base_metrics.py`` of dc3ea9f/vico_challenge_baseline runs.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from stages.evaluate.metrics.definition import Definition, Direction, Pooling, Quantity
from stages.evaluate.metrics.validation import check_pair, check_pictures

PSNR_FLOOR = 1e-8  # added to the mean squared error
SSIM_SIDE_PX = 256  # the side that SSIM shrinks pictures towards
WINDOW_PX, WINDOW_SIGMA_PX = 11, 1.5
C1, C2 = 0.01**2, 0.03**2  # k1 and k2 squared, for a range of 1


def validate(predicted: np.ndarray, reference: np.ndarray) -> None:
    """Two arrays of RGB pictures, uint8 (frame, height, width, 3), of the same shape."""
    check_pair(predicted, reference, ndim=4)
    check_pictures(predicted)
    check_pictures(reference)


def psnr_of_frames(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """PSNR of every frame in dB, (frame,)."""
    validate(predicted, reference)
    pairs = zip(predicted, reference, strict=True)
    squares = np.array([cv2.norm(one.reshape(-1), other.reshape(-1), cv2.NORM_L2SQR) for one, other in pairs])
    return -10 * np.log10(squares / predicted[0].size / 255**2 + PSNR_FLOOR)


def ssim_of_frames(predicted: np.ndarray, reference: np.ndarray, shrink: bool) -> np.ndarray:
    """SSIM of every frame, (frame,); ``shrink`` averages towards 256 px first, as piq does unless told otherwise."""
    validate(predicted, reference)
    factor = max(1, round(min(predicted.shape[1:3]) / SSIM_SIDE_PX)) if shrink else 1
    if min(predicted.shape[1:3]) // factor < WINDOW_PX:
        raise ValueError(f"SSIM needs {WINDOW_PX} px, found pictures of {predicted.shape[2]}x{predicted.shape[1]}")
    pairs = zip(predicted, reference, strict=True)
    return np.array([_ssim(_shrunk(one, factor), _shrunk(other, factor)) for one, other in pairs])


def _shrunk(frame: np.ndarray, factor: int) -> np.ndarray:
    """Float picture in [0, 1], every pixel the mean of factor x factor; what is left over is cut off."""
    height, width = (side // factor for side in frame.shape[:2])
    whole = frame[: height * factor, : width * factor].astype(np.float32)
    if factor > 1:
        whole = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    return whole * np.float32(1 / 255)


def _ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Mean SSIM over places where the window fits and over channels.

    With the sum and the difference of the pictures four filters suffice: 4 x y = sum^2 - difference^2 and
    2 (x^2 + y^2) = sum^2 + difference^2 hold for pixels, for means and hence for variances.
    """
    total, apart = one + other, one - other
    total_mean, apart_mean = np.square(_blurred(total)), np.square(_blurred(apart))
    total_variance = _blurred(np.square(total)) - total_mean
    apart_variance = _blurred(np.square(apart)) - apart_mean
    luminance = (total_mean - apart_mean + 2 * C1) / (total_mean + apart_mean + 2 * C1)
    structure = (total_variance - apart_variance + 2 * C2) / (total_variance + apart_variance + 2 * C2)
    return float((luminance * structure).mean(dtype=np.float64))


def _blurred(picture: np.ndarray) -> np.ndarray:
    """Gaussian mean around every place where the whole window lies inside."""
    rim = WINDOW_PX // 2
    return cv2.GaussianBlur(picture, (WINDOW_PX, WINDOW_PX), WINDOW_SIGMA_PX)[rim:-rim, rim:-rim]


def psnr(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Mean PSNR of frames in dB."""
    return float(psnr_of_frames(predicted, reference).mean())


def ssim(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Mean SSIM of frames, shrunk towards 256 px first."""
    return float(ssim_of_frames(predicted, reference, shrink=True).mean())


def ssim_full_size(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Mean SSIM of frames as they are."""
    return float(ssim_of_frames(predicted, reference, shrink=False).mean())


_PUBLISHED = "ViCo Table 4; ViCo challenge; HSP Table 1; MFR-Net Table 2"
_SSIM = "SSIM, Gaussian window of 11x11 px with sigma 1.5, mean of R, G and B"
_quality = partial(
    Definition,
    source="Wang et al., TIP 2004; piq 0.8; compute_base_metrics.py of dc3ea9f/vico_challenge_baseline",
    scale=1.0,
    pooling=Pooling.FRAMES,
    direction=Direction.HIGHER,
    inputs=Quantity.FRAMES.pair,
    min_frames=1,
    warning="depends on the size of the picture and on the codec that both went through",
)

DEFINITIONS = (
    _quality(
        id="psnr_piq",
        name="PSNR",
        published_as=f"PSNR, {_PUBLISHED}",
        formula="10 log10(1 / (mean squared error + 1e-8)), RGB to 1, mean over frames",
        unit="dB",
        function=psnr,
        perfect=80.0,
    ),
    _quality(
        id="ssim_piq",
        name="SSIM",
        published_as=f"SSIM, {_PUBLISHED}",
        formula=f"{_SSIM}, shrunk by round(shorter side / 256) first, mean over frames",
        function=ssim,
        perfect=1.0,
    ),
    _quality(
        id="ssim_full_size",
        name="SSIM (full size)",
        formula=f"{_SSIM}, as large as they are, mean over frames",
        function=ssim_full_size,
        perfect=1.0,
    ),
)
