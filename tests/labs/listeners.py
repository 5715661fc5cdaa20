"""Random batches for listener models, with clips of different lengths and a hole in one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from schemas.coefficients import Layout
from stages.train.listener import Batch, Sizes

ROWS, BANDS = 3, 10  # of a frame of a spectrogram
EXTRA = {
    "listener_blink": 1, "token_embedding": 12, "log_mel": BANDS,
    "listener_identity": 80, "listener_face_identity": 128,
}  # fmt: skip
SIZES = Sizes(Layout("paper70"), audio=45, attitudes=3, extra=EXTRA)
CROPPED = replace(SIZES, motion=Layout("baseline73"))
PER_FRAME = ("speaker", "listener", "audio", "mask", "listener_blink", "token_embedding", "log_mel")


def random_batch(frames: tuple[int, ...] = (50, 41, 30), seed: int = 0, width: int = 70) -> Batch:
    """Clips of some lengths, z-scored as it were; the last one has a frame that does not count."""
    generator = torch.Generator().manual_seed(seed)
    count, longest = len(frames), max(frames)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    mask = torch.arange(longest) < torch.tensor(frames)[:, None]
    mask[-1, frames[-1] // 2] = False
    inside = mask[..., None]
    spoken = draw(count, longest, 1) > 0
    listener = draw(count, longest, width) * inside
    return Batch(
        speaker=draw(count, longest, width) * inside,
        listener=listener,
        audio=draw(count, longest, 45) * inside,
        reference=listener[:, 0],
        attitude=torch.arange(count) % 3,
        mask=mask,
        extra={
            "listener_blink": (draw(count, longest) > 1) & mask,
            "token_embedding": draw(count, longest, EXTRA["token_embedding"]) * inside * spoken,
            "listener_identity": draw(count, 80),
            "log_mel": draw(count, longest, ROWS, BANDS) * inside[..., None],
            "listener_face_identity": draw(count, 128),
        },
    )


def every(batch: Batch, change: Callable[[str, Tensor], Tensor]) -> Batch:
    plain = {f.name: change(f.name, getattr(batch, f.name)) for f in fields(Batch) if f.name != "extra"}
    return Batch(**plain, extra={name: change(name, value) for name, value in batch.extra.items()})


def longer(batch: Batch, frames: int) -> Batch:
    """The batch with more padding at its end."""

    def pad(name: str, values: Tensor) -> Tensor:
        return functional.pad(values, (0, 0) * (values.dim() - 2) + (0, frames)) if name in PER_FRAME else values

    return every(batch, pad)


def only(batch: Batch, clip: int, frames: int) -> Batch:
    """One clip of the batch, without padding."""
    return every(batch, lambda name, v: v[clip : clip + 1, :frames] if name in PER_FRAME else v[clip : clip + 1])


def speaker_changed_from(batch: Batch, frame: int) -> Batch:
    other = random_batch(tuple(batch.mask.sum(dim=1).tolist()), seed=1)

    def join(before: Tensor, after: Tensor) -> Tensor:
        return torch.cat([before[:, :frame], after[:, frame : before.shape[1]]], dim=1)

    heard = {name: join(batch.extra[name], other.extra[name]) for name in ("token_embedding", "log_mel")}
    extra = {**batch.extra, **heard}
    return replace(batch, speaker=join(batch.speaker, other.speaker), audio=join(batch.audio, other.audio), extra=extra)
