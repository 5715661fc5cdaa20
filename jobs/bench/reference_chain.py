"""The published chain, step by step as its authors run it: what ``jobs.bench`` compares our stages with.

ViCo (Zhou et al., ECCV 2022) describes its preprocessing in half a sentence and released a part of it; where code was
released, the structure (what is called how often on what) is kept here, and the programs are those that still run.
Nothing here is tuned, batched or vectorised, on purpose. No stage uses this file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clock import HOP_SAMPLES, SAMPLE_RATE_HZ
from pipeline.stderr import stderr_muted

Image = NDArray[np.uint8]  # (height, width, 3), RGB

NUM_MFCC = 13
MFCC_WINDOW_SAMPLES = SAMPLE_RATE_HZ * 25 // 1000
MFCC_HOP_SAMPLES = SAMPLE_RATE_HZ * 10 // 1000


def mtcnn_every_frame(frames: Iterable[Image], device: str = "cpu") -> list[NDArray[np.float32]]:
    """Face boxes of every full-resolution frame, (face, 4) each: x1, y1, x2, y2 in pixels, largest first.

    Stands for "we use the MTCNN to detect the face regions in each frame" (section 4 of the paper). No crop code was
    released, so this is facenet-pytorch's MTCNN at its defaults: faces from 20 px, pyramid factor .709.
    """
    from jobs.bench.facenet import import_facenet

    detector = import_facenet().MTCNN(keep_all=True, device=device)
    found = (detector.detect(frame)[0] for frame in frames)
    return [np.empty((0, 4), np.float32) if boxes is None else boxes for boxes in found]


def facemesh_static(crops: Iterable[Image]) -> list[NDArray[np.float32] | None]:
    """Landmarks of every crop, (478, 3) each in pixels, or None where no face was found.

    Stands for the per-frame landmark step of ``extract_kp_videos.py`` in the baseline, which detects anew in every
    frame with face_alignment; MediaPipe FaceMesh in static mode does the same with the model that we use.
    """
    from mediapipe.python.solutions.face_mesh import FaceMesh

    with stderr_muted(), FaceMesh(static_image_mode=True, refine_landmarks=True) as mesh:
        return [_landmarks_px(mesh.process(crop), crop) for crop in crops]


def _landmarks_px(result: Any, crop: Image) -> NDArray[np.float32] | None:
    if not result.multi_face_landmarks:
        return None
    height, width = crop.shape[:2]
    points = [(point.x, point.y, point.z) for point in result.multi_face_landmarks[0].landmark]
    return np.array(points, np.float32) * np.array([width, height, width], np.float32)


def chunkwise_audio(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """45 numbers for every chunk of 1470 samples, (frame, 45), each chunk alone and in a loop.

    Stands for ``extract_audio_features`` of the baseline's ``preprocess/extract.py``. Its MFCC come from torchaudio's
    Kaldi port and its deltas from ``torchaudio.functional.compute_deltas``, which is not installed; here they are
    ``librosa.feature.mfcc`` of the same window, hop and bands and ``librosa.feature.delta`` of the same width. The
    values differ therefore; the emulation to the number is ``stages.acoustics.vico45_code``.
    """
    chunks = samples.reshape(-1, HOP_SAMPLES)
    return np.stack([_features_of_chunk(chunk) for chunk in chunks]) if len(chunks) else np.empty((0, 45))


def _features_of_chunk(chunk: NDArray[np.float32]) -> NDArray[np.float64]:
    import librosa.feature as feature

    mfcc = feature.mfcc(
        y=chunk,
        sr=SAMPLE_RATE_HZ,
        n_mfcc=NUM_MFCC,
        lifter=22,
        n_fft=MFCC_WINDOW_SAMPLES,
        hop_length=MFCC_HOP_SAMPLES,
        center=False,
        n_mels=23,
        fmin=20,
    )
    delta = feature.delta(mfcc, width=5, mode="nearest")
    delta_delta = feature.delta(delta, width=5, mode="nearest")
    rms = feature.rms(y=chunk)
    crossings = feature.zero_crossing_rate(chunk, frame_length=SAMPLE_RATE_HZ)  # the reference's quirk, kept
    return np.concatenate([block.ravel() for block in (mfcc, delta, delta_delta, rms, crossings)], dtype=np.float64)
