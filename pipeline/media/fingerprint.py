"""Fingerprints of sound, by which two clips tell that they were cut from one recording.

Haitsma and Kalker: "A Highly Robust Audio Fingerprinting System", ISMIR 2002: 32 bits every 11.6 ms that say how the
energies of neighbouring bands between 300 and 2000 Hz change. They survive other codecs, rates and levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from pipeline.clock import SAMPLE_RATE_HZ

Prints = NDArray[np.uint32]

RATE_HZ = SAMPLE_RATE_HZ / 8  # 5512.5
WINDOW, HOP = 2048, 64  # samples: .37 s every 11.6 ms
BANDS = 33
LOWEST_HZ, HIGHEST_HZ = 300.0, 2000.0
MIN_OVERLAP = 128  # prints, 1.5 s: half of the block of the paper, for clips are short
MAX_BIT_ERRORS = 0.25  # share of bits; the paper takes .35 of twice as many, strangers have .5

LAG = 43  # prints, half a second: a tone, a hum and silence say the same again, speech and music do not
MIN_CHANGED = 6  # of the 32 bits
MIN_CHANGES = 0.5  # share of prints that must change so
SHARE = 8  # one print of so many is looked up, the same ones in every recording
MOST_ALIKE = 32  # of prints that are equal so many more are looked at: a jingle is no reason to compare all with all


@dataclass(frozen=True)
class SameSound:
    """Two recordings, by their numbers, that hold the same sound; the share of bits in which they differ there."""

    one: int
    other: int
    bit_errors: float


def fingerprint(samples: NDArray[np.float32]) -> Prints:
    """Prints (print,) of mono sound (sample,) at 44.1 kHz; none of less than half a second."""
    import soxr

    sound = soxr.resample(samples, SAMPLE_RATE_HZ, RATE_HZ)
    if len(sound) < WINDOW + HOP:
        return np.empty(0, np.uint32)
    windows = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1) * WINDOW / RATE_HZ
    low, high = round(edges[0]), round(edges[-1])
    taper = np.hanning(WINDOW).astype(np.float32)
    blocks = [windows[row : row + MIN_OVERLAP] * taper for row in range(0, len(windows), MIN_OVERLAP)]
    power = np.concatenate([np.abs(np.fft.rfft(block)[:, low:high]) ** 2 for block in blocks])
    energy = np.add.reduceat(power, np.rint(edges[:-1]).astype(int) - low, axis=1)  # (window, band)
    rise = np.diff(np.diff(energy, axis=1), axis=0) < 0  # (window - 1, 32)
    return np.packbits(rise, axis=1).view(">u4")[:, 0].astype(np.uint32)


def same_sounds(recordings: Sequence[Prints], groups: Sequence[int]) -> Iterator[SameSound]:
    """Pairs of recordings of different groups that share at least 1.5 s of sound, in order of their numbers."""
    number = np.repeat(np.arange(len(recordings)), [len(prints) for prints in recordings])
    place = np.concatenate([np.arange(len(prints)) for prints in recordings] or [np.empty(0, int)])
    told = [_telling(prints) for prints in recordings]
    wanted = np.flatnonzero(np.concatenate(told or [np.empty(0, bool)]))
    prints = np.concatenate(recordings or [np.empty(0, np.uint32)])[wanted]
    order = np.argsort(prints, kind="stable")
    prints, number, place = prints[order], number[wanted][order], place[wanted][order]
    group = np.asarray(groups, int)[number]
    hits = [np.empty((3, 0), np.intp)]  # two recordings and by how many prints the second began later
    for step in range(1, min(MOST_ALIKE, len(prints))):
        rows = np.flatnonzero((prints[step:] == prints[:-step]) & (group[step:] != group[:-step]))
        hits.append(np.stack([number[rows], number[rows + step], place[rows] - place[rows + step]]))
    one, other, shift = np.concatenate(hits, axis=1)
    turned = one > other
    one, other, shift = np.where(turned, [other, one, -shift], [one, other, shift])
    candidates = np.unique(np.stack([one, other, shift]), axis=1).T.tolist()
    for (first, second), group_of_pair in groupby(candidates, lambda hit: (hit[0], hit[1])):
        pair = recordings[first], recordings[second]
        errors = min(_bit_errors(*pair, shift) for _, _, shift in group_of_pair)
        if errors <= MAX_BIT_ERRORS:
            yield SameSound(first, second, errors)


def _telling(prints: Prints) -> NDArray[np.bool_]:
    """Which prints (print,) are looked up: a fixed choice of their values, where the sound changes."""
    told = np.zeros(len(prints), bool)
    told[LAG:] = _bits(prints[LAG:] ^ prints[:-LAG]) >= MIN_CHANGED
    mixed = prints * np.uint32(2654435761) >> np.uint32(16)  # Knuth's multiplicative hash
    return np.asarray(told & (mixed % SHARE == 0))


def _bit_errors(one: Prints, other: Prints, shift: int) -> float:
    """Share of bits that differ where two recordings overlap and something is to be heard; 1 if that is too short."""
    length = min(len(one) - max(shift, 0), len(other) - max(-shift, 0))
    if length < MIN_OVERLAP:
        return 1.0
    ours, theirs = (prints[start : start + length] for prints, start in ((one, max(shift, 0)), (other, max(-shift, 0))))
    changes = _bits(ours[LAG:] ^ ours[:-LAG]) >= MIN_CHANGED
    if changes.mean() < MIN_CHANGES:
        return 1.0
    return float(_bits(ours ^ theirs).mean() / 32)


def _bits(prints: Prints) -> NDArray[np.intp]:
    """How many bits of each print are set."""
    single = np.unpackbits(np.ascontiguousarray(prints).view(np.uint8).reshape(-1, 4), axis=1)
    return np.asarray(single.sum(axis=1, dtype=np.intp))
