"""How fast the metrics are beside the published scripts: a part of ``python -m jobs.bench``.

All figures come from one run. The published scripts may use all cores; ours use one, since the evaluator runs clips
side by side.
"""

from __future__ import annotations

import cv2
import numpy as np

from jobs.bench import reference_metrics
from jobs.bench.reference_metrics import clip_tensor
from jobs.bench.timing import Times, shortest_s
from pipeline.tables import aligned
from stages.evaluate.metrics import image_quality, sharpness
from stages.evaluate.metrics.definition import Clip, Input, Quantity, Whose
from stages.evaluate.metrics.registry import definitions

SIDE_PX = 384
FRAMES = 60
FRAMES_OF_SLOW = 3  # of the metric that takes half a second a frame
ROUNDS = 3
TEST_SET_CLIPS, TEST_SET_FRAMES = 100, 360  # a test set as large as ViCo's: clips of 12 s
STEP = 0.03  # by which made-up coefficients wander in a frame
WIDTHS = {Quantity.EXP: 64, Quantity.ANGLE: 3, Quantity.TRANS: 3, Quantity.POSE: 6, Quantity.IDENTITY: 80}


def metric_table() -> tuple[str, Times]:
    """Milliseconds a frame of PSNR, SSIM and CPBD, ours and the published scripts', and seconds of the others."""
    frames = portraits()
    predicted, reference = frames[:-1], frames[1:]
    clips, count = (predicted, reference), len(predicted)
    tensors = [clip_tensor(clip) for clip in clips]
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in predicted[:FRAMES_OF_SLOW]]
    steps = (
        ("PSNR", lambda: image_quality.psnr(*clips), lambda: reference_metrics.psnr(*map(clip_tensor, clips)), count),
        ("SSIM", lambda: image_quality.ssim(*clips), lambda: reference_metrics.ssim(*tensors), count),
        ("CPBD", lambda: sharpness.cpbd(predicted), lambda: list(map(reference_metrics.cpbd, greys)), FRAMES_OF_SLOW),
    )
    rows = [[f"metric, {SIDE_PX}x{SIDE_PX}", "published, ms a frame", "ours on one core", "ours is faster by"]]
    sums, times = np.zeros(2), Times()
    for name, ours, published, frames_of_published in steps:
        ms = np.array([shortest_s(published, ROUNDS) / frames_of_published, shortest_s(ours, ROUNDS) / count]) * 1000
        sums += ms
        rows.append(_row(name, ms))
        times |= {f"{name}, published": float(ms[0]), name: float(ms[1])}
    rows.append(_row("all three", sums))
    count, motion_s = _motion_s()
    frames_in_all = TEST_SET_CLIPS * TEST_SET_FRAMES
    times["metrics of motion"] = 1000 * motion_s / frames_in_all
    line = f"{count} metrics of motion on {TEST_SET_CLIPS} clips of {TEST_SET_FRAMES} frames: {motion_s:.1f} s"
    return f"{aligned(rows)}\n\n{line}", times


def _row(name: str, ms: np.ndarray) -> list[str]:
    return [name, f"{ms[0]:.2f}", f"{ms[1]:.2f}", f"{ms[0] / ms[1]:.1f}"]


def _motion_s() -> tuple[int, float]:
    """How many metrics of motion there are, and their seconds on a made-up test set."""
    clips = made_up_clips(TEST_SET_CLIPS, TEST_SET_FRAMES)
    chosen = [definition for definition in definitions().values() if set(definition.inputs) <= set(clips[0])]
    return len(chosen), shortest_s(lambda: [definition.score(clips) for definition in chosen])


def made_up_clips(count: int, num_frames: int) -> list[Clip]:
    """Clips whose coefficients wander, with the inputs of every metric of motion."""
    rng = np.random.default_rng(0)
    clips = []
    for _ in range(count):
        clip = {}
        for whose in Whose:
            for what, width in WIDTHS.items():
                clip[Input(whose, what)] = STEP * rng.standard_normal((num_frames, width)).cumsum(axis=0)
            clip[Input(whose, Quantity.BLINK)] = rng.random(num_frames) < 0.05
        clips.append(clip)
    return clips


def portraits() -> np.ndarray:
    """A public-domain portrait that moves, uint8 (frame, 384, 384, 3)."""
    from skimage import data

    portrait = cv2.resize(data.astronaut()[:320, 60:380], (SIDE_PX + FRAMES + 1,) * 2, interpolation=cv2.INTER_CUBIC)
    return np.stack([portrait[t : t + SIDE_PX, t : t + SIDE_PX] for t in range(FRAMES + 1)])
