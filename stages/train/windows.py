"""Windows: spans of clips of up to ``window_frames``, their order in an epoch, and batches of them.

The rule is the ViCo baseline's: a window every ``stride_frames``, tails down to ``min_frames``, a clip that is no
longer than a window whole; or as many windows that begin in random frames, others in every epoch. Unlike there,
padding does not count in any loss. The order of an epoch depends on the seed and the epoch alone, so that any number of
workers trains on the same batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from schemas.column import ROLES
from stages.train.corpus import ClipFrames, Corpus, ZScores
from stages.train.listener import Batch, TrainingSettings


@dataclass(frozen=True)
class Windows:
    """Windows of some clips of a corpus.

    Attributes
    ----------
    first, frames, place, attitude : of each window: its first row in the corpus, its length, its clip's row in arrays
        with one row a clip, the index of the listener's attitude; (window,), int64.
    room : how many frames later each may begin when it is drawn at random, (window,), int64; zeros on a grid.
    neutral_start : the reference is zeros instead of the listener's first frame.
    """

    corpus: Corpus
    scores: ZScores
    first: np.ndarray
    frames: np.ndarray
    place: np.ndarray
    attitude: np.ndarray
    room: np.ndarray
    neutral_start: bool

    def __len__(self) -> int:
        return len(self.first)

    def of_epoch(self, seed: int, epoch: int) -> Windows:
        """The windows of an epoch: where they may begin in several frames, one is drawn by seed and epoch."""
        drawn = np.random.default_rng(draw_seed("windows", seed, epoch)).integers(0, self.room, endpoint=True)
        return replace(self, first=self.first + drawn)

    def batch(self, picks: np.ndarray) -> Batch:
        """The windows of some indexes, padded to the longest, in memory."""
        first, frames = self.first[picks, None], self.frames[picks, None]
        steps = np.arange(frames.max())
        rows = np.where(steps < frames, first + steps, self.corpus.padding)  # (batch, frame)
        known, motion = {}, {}
        for role in ROLES:
            motion[role], known[role] = _finite(self.scores.motion.to_z(self._take(role, rows)))
        audio, heard = _finite(self.scores.audio.to_z(self._take("audio", rows)))
        start = motion["listener"][torch.arange(len(picks)), known["listener"].int().argmax(dim=1)]
        extra = sorted(self.corpus.arrays.keys() - {*ROLES, "audio"})
        places = {name: self.place[picks] if name in self.corpus.per_clip else rows for name in extra}
        return Batch(
            **motion,
            audio=audio,
            reference=torch.zeros_like(start) if self.neutral_start else start,
            attitude=torch.from_numpy(self.attitude[picks]),
            mask=known["speaker"] & known["listener"] & heard,
            extra={name: self._take(name, place) for name, place in places.items()},
        )

    def _take(self, name: str, rows: np.ndarray) -> Tensor:
        array = torch.from_numpy(self.corpus.arrays[name])
        return array.index_select(0, torch.from_numpy(rows.reshape(-1))).view(*rows.shape, *array.shape[1:])


def _finite(z: Tensor) -> tuple[Tensor, Tensor]:
    """The frames (batch, frame, feature), zeros in place of those with a value that is not finite; and which are."""
    known = z.sum(dim=-1).isfinite()  # a tenth of the time that looking at every value takes
    return (z if known.all() else z.masked_fill_(~known[..., None], 0.0)), known


def training_windows(
    corpus: Corpus, clips: Sequence[ClipFrames], scores: ZScores, vocabulary: Sequence[str], settings: TrainingSettings
) -> Windows:
    """Overlapping windows of some clips; those without two valid frames are left out.

    Random ones are as many as on the grid, but each may begin wherever its clip leaves room for all of it.
    """
    usable = np.isfinite(corpus.arrays["speaker"][:, 0]) & np.isfinite(corpus.arrays["listener"][:, 0])
    before = np.concatenate([[0], np.cumsum(usable)])  # usable frames before each row
    spans = [span for clip in clips for span in cut(clip, settings)]
    spans = [(clip, first, frames) for clip, first, frames in spans if before[first + frames] - before[first] >= 2]
    if settings.windows == "random":
        spans = [(clip, clip.first, min(settings.window_frames, clip.num_frames)) for clip, _, _ in spans]
    table = [
        (first, frames, clip.place, vocabulary.index(clip.attitude), clip.num_frames - frames)
        for clip, first, frames in spans
    ]
    first, frames, place, attitude, room = np.array(table, np.int64).reshape(-1, 5).T.copy()
    room *= settings.windows == "random"
    of_each = {"first": first, "frames": frames, "place": place, "attitude": attitude, "room": room}
    return Windows(corpus, scores, **of_each, neutral_start=settings.start == "neutral")


def whole_clips(
    corpus: Corpus, clips: Sequence[ClipFrames], scores: ZScores, vocabulary: Sequence[str], settings: TrainingSettings
) -> Windows:
    """Every clip as one window."""
    longest = max((clip.num_frames for clip in clips), default=0)
    whole = replace(settings, window_frames=longest, windows="grid")
    return training_windows(corpus, clips, scores, vocabulary, whole)


def cut(clip: ClipFrames, settings: TrainingSettings) -> list[tuple[ClipFrames, int, int]]:
    """(clip, first row, frames) of the windows of a clip."""
    longest = settings.window_frames
    starts = range(0, clip.num_frames - settings.min_frames + 1, settings.stride_frames)
    starts = starts if clip.num_frames > longest and starts else (0,)
    return [(clip, clip.first + start, min(longest, clip.num_frames - start)) for start in starts]


def epoch_batches(windows: int, settings: TrainingSettings, epoch: int) -> Iterator[np.ndarray]:
    """Indexes of the windows of every batch of an epoch, each window once; the last batch may be smaller."""
    generator = torch.Generator().manual_seed(draw_seed("order", settings.seed, epoch))
    order = torch.randperm(windows, generator=generator).numpy()
    for start in range(0, windows, settings.batch_size):
        yield order[start : start + settings.batch_size]


def draw_seed(*parts: object) -> int:
    """A seed that depends on all parts and is the same on every machine."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:7])


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device; towards a GPU through pinned memory, without waiting for the copy."""

    def move(tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

    names = ("speaker", "listener", "audio", "reference", "attitude", "mask")
    moved = {name: move(getattr(batch, name)) for name in names}
    return replace(batch, **moved, extra={name: move(tensor) for name, tensor in batch.extra.items()})
