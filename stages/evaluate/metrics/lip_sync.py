"""Lips and voice (AVConf, AVOffset): whether a speaker's lips go with the sound, by SyncNet's embeddings of both.

Conventions: A row is a place, five frames at 25 fps and their sound: 1024 numbers of what is seen and 1024 of what is
heard. Lips are compared with the sound up to 15 frames before and after, with zeros beyond the ends.

Source: Chung and Zisserman, "Out of Time", ACCV Workshops 2016; ``compute_lipsync.py`` and ``SyncNetInstance.py`` of
dc3ea9f/vico_challenge_baseline, after joonson/syncnet_python.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from schemas.column import SPEAKER
from stages.evaluate.metrics.definition import Definition, Direction, Pooling, Quantity
from stages.evaluate.metrics.validation import check

SHIFT_FRAMES = 15
EPSILON = 1e-6  # that torch's pairwise distance adds to every difference


def distances_by_shift(embeddings: np.ndarray) -> np.ndarray:
    """Mean distance of lips from the sound at every shift, (31,), from (place, 2048): the sound 15 frames ahead first.

    At position j the lips of place t are set beside the sound of place t + j - 15.
    """
    check(embeddings, ndim=2)
    seen, heard = np.split(embeddings.astype(np.float64), 2, axis=1)
    padded = np.pad(heard, ((SHIFT_FRAMES, SHIFT_FRAMES), (0, 0)))
    shifted = (padded[start : start + len(seen)] for start in range(2 * SHIFT_FRAMES + 1))
    return np.array([np.linalg.norm(seen - other + EPSILON, axis=1).mean() for other in shifted])


def confidence(embeddings: np.ndarray) -> float:
    """By how much the best shift is better than the median one."""
    distances = distances_by_shift(embeddings)
    return float(np.median(distances) - distances.min())


def offset(embeddings: np.ndarray) -> int:
    """The best shift in frames at 25 fps, as published: positive where the sound is early, the lips late."""
    return SHIFT_FRAMES - int(distances_by_shift(embeddings).argmin())


def absolute_offset(embeddings: np.ndarray) -> float:
    """How far apart lips and sound are, in frames."""
    return float(abs(offset(embeddings)))


_of_lips = partial(
    Definition,
    source="compute_lipsync.py of dc3ea9f/vico_challenge_baseline",
    scale=1.0,
    pooling=Pooling.CLIPS,
    inputs=(Quantity.SYNCNET.predicted,),
    min_frames=SHIFT_FRAMES + 1,  # so that no shift sets lips beside zeros alone
    perfect=None,
    role=SPEAKER,
)
_WARNING = "faces are found by MTCNN, there by S3FD in pictures stored as JPEG"

DEFINITIONS = (
    _of_lips(
        id="av_confidence_syncnet",
        name="AVConf",
        published_as="AVConf, ViCo challenge 2022 and 2023, talking head",
        formula="median less minimum of the mean distance of lips from sound over shifts of up to 15 frames",
        direction=Direction.HIGHER,
        function=confidence,
        warning=_WARNING,
    ),
    _of_lips(
        id="av_offset_syncnet",
        name="AVOffset (absolute)",
        formula="absolute value of the shift at which lips are nearest to the sound",
        unit="frames at 25 fps",
        direction=Direction.LOWER,
        function=absolute_offset,
        warning=f"the challenge ranks by the absolute value; how it averages clips is unpublished; {_WARNING}",
    ),
)
