"""What a renderer learns from: the pictures and coefficients of a data set's crops, and pairs of them.

A pair is two frames of one face, as in PIRenderer's training: each is to become the other. Every picture must still be
what was decoded when it is drawn.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from pipeline.dataset.read import media_file, read_clips
from pipeline.media.encode import read_video
from schemas.errors import UserError
from stages.evaluate.render.pirender import semantics, windows
from stages.evaluate.render.scene import MOTION, ClipRow, Motion, held

SPLITS = ("train", "val")  # test and ood are for the end
DAMAGED = "is not what was decoded, damaged since; go on from the last checkpoint with --resume, which decodes anew"
LEAST_FRAMES = 2  # with coefficients, of a film: one alone has no other to become


@dataclass(frozen=True)
class Film:
    """One face: its clip and video, where its frames lie among all pictures, and which of them have coefficients."""

    clip_id: str
    video: Path
    first: int
    valid: np.ndarray  # int (frame,), counted from the film's first


@dataclass(frozen=True)
class Pairs:
    """``batch`` of pairs: pictures float32 (pair, 3, side, side) in [-1, 1] and windows (pair, 73, 27)."""

    source: Tensor
    source_window: Tensor
    target: Tensor
    target_window: Tensor

    def to(self, device: torch.device) -> Pairs:
        return Pairs(*(value.to(device, non_blocking=True) for value in vars(self).values()))


class Pictures:
    """All films of some data sets: uint8 (frame, side, side, 3) in a file, CRC-32 of each, their windows in memory."""

    def __init__(self, films: Sequence[Film], pictures: np.ndarray, sums: np.ndarray, wanted: np.ndarray) -> None:
        self.films, self.pictures, self.sums, self.wanted = films, pictures, sums, wanted

    @property
    def clip_ids(self) -> list[str]:
        return sorted({film.clip_id for film in self.films})

    def draw(self, seed: Sequence[int], count: int, share: slice) -> Pairs:
        """The ``share`` of ``count`` pairs that the seed draws: a film, each as likely, and two of its frames.

        `UserError` where a picture is damaged.
        """
        generator = np.random.default_rng(list(seed))
        chosen = [self.films[number] for number in generator.integers(len(self.films), size=count)]
        frames = [film.first + generator.choice(film.valid, 2, replace=False) for film in chosen]
        for film, pair in list(zip(chosen, frames, strict=True))[share]:
            for frame in pair:
                if zlib.crc32(self.pictures[frame]) != self.sums[frame]:
                    raise UserError(f"{film.video}: its picture {frame - film.first} {DAMAGED}")
        source, target = np.array(frames)[share].T
        return Pairs(*self.of(source), *self.of(target))

    def of(self, frames: np.ndarray) -> tuple[Tensor, Tensor]:
        """Pictures and windows of frames."""
        rgb = torch.from_numpy(self.pictures[frames]).permute(0, 3, 1, 2)
        return rgb.float() / 127.5 - 1, torch.from_numpy(self.wanted[frames])


def open_pictures(
    roots: Sequence[Path], roles: Sequence[str], side_px: int, file: Path, clips: Sequence[str] = ()
) -> Pictures:
    """Decode the films of data sets, or of some of their ``clips``, into a file, or read what is there already.

    `UserError` where no film has two frames with coefficients.
    """
    columns = [f"{role}_{name}" for role in roles for name in ("identity", *MOTION, "crop", "coeffs_valid", "video")]
    films, wanted = [], []
    first = 0
    for root in roots:
        for row in read_clips(root, columns, splits=None if clips else SPLITS, portraits="leave"):
            for role in roles if not clips or row["clip_id"] in clips else ():
                valid = np.flatnonzero(row[f"{role}_coeffs_valid"])  # none where a person has no video
                if len(valid) < LEAST_FRAMES:
                    continue
                video = media_file(root, row[f"{role}_video"])
                films.append(Film(row["clip_id"], video, first, valid))
                wanted.append(windows(semantics(_motion(row, role), _side_of(video), side_px)))
                first += len(wanted[-1])
    if not films:
        data = ", ".join(map(str, roots))
        where = f"of the clips {', '.join(clips)}" if clips else f"in the splits {', '.join(SPLITS)}"
        raise UserError(f"{data}: expected faces with coefficients {where}, found none; choose others: --clips")
    shape = (first, side_px, side_px, 3)
    if not file.is_file():
        _decode([film.video for film in films], shape, file)
    pictures, sums = (_mapped(path) for path in (file, sums_of(file)))
    if (pictures.shape, sums.shape) != (shape, shape[:1]):
        raise UserError(
            f"{file}: expected {shape} and {shape[:1]} numbers, found {pictures.shape} and {sums.shape}: it {DAMAGED}"
        )
    return Pictures(films, pictures, sums, np.concatenate(wanted))


def sums_of(file: Path) -> Path:
    """Where the checksums of the pictures in a file lie."""
    return file.with_suffix(".crc.npy")


def _mapped(file: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError, SyntaxError) as error:  # a header is an expression of Python
        raise UserError(f"{file}: {DAMAGED}: {error}") from None
    return array


def _decode(videos: Sequence[Path], shape: tuple[int, ...], file: Path) -> None:
    scratch = file.with_suffix(".tmp")
    pictures = np.lib.format.open_memmap(scratch, "w+", np.uint8, shape)
    every = (picture for video in videos for picture in read_video(video))
    for number, picture in enumerate(every):
        pictures[number] = cv2.resize(picture, shape[1:3], interpolation=cv2.INTER_AREA)
    pictures.flush()
    np.save(sums_of(file), np.array([zlib.crc32(picture) for picture in pictures], np.uint32))
    scratch.replace(file)


def _side_of(video: Path) -> int:
    return len(next(iter(read_video(video))))


def _motion(row: ClipRow, role: str) -> Motion:
    values = {name: held(row[f"{role}_{name}"]) for name in (*MOTION, "crop")}
    return Motion(row[f"{role}_identity"], **values)
