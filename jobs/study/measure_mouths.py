"""Measure how mouths of single heads move: ``python -m jobs.study.measure_mouths FOLDER``, the constants of `motion`.

FOLDER is ``media/b_heads``. Heads that stand in a labelled conversation of ``media/a_dyadic`` are left out, so that
nothing of `stages.speakers.motion` is fitted to what it is judged on: the woman of ``aoc_hdtf``, ``retalk_woman4``,
``lp_d3`` and ``pexels_woman`` are in ``hd_pairs_open``. Of every film at most its first 12 s count.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import numpy as np

from jobs.command import command, option
from pipeline.clock import SAMPLE_RATE_HZ, Span, grid_times_s, map_to_grid
from pipeline.media.reader import SourceReader
from pipeline.weights import find_weights
from schemas.errors import UserError
from stages.faces.mesh import NUM_POINTS
from stages.faces.tracker import Tracker
from stages.speakers.mfcc import RATE_HZ
from stages.speakers.motion import accord, in_rhythm, level, loudness, mouth
from stages.speakers.turns import HEARD
from stages.speakers.voice import Voice, at_times

TALKING = (
    *("grid_bbaf2n.mpg", "grid_sbia1a.mpg", "hdtf_radio10.mp4", "hdtf_ted_lieu_60s.mp4", "mead_M003_disgusted.mp4"),
    *("mead_M003_happy.mp4", "mead_W023_surprised.mp4", "mead_W036_happy.mp4", "retalk_man1.mp4"),
    *("stock_man_kitchen_portrait.mp4", "talkshow_skarsgard_1080p.mp4", "tps_driving_man.mp4", "vox_00086.mp4"),
    "vox_christie.mp4",
)
STILL = (
    *("lp_d19_man_silent.mp4", "lp_s18_woman_listener_720p.mp4", "pyfeat_man_smile.mp4"),
    "smiling_woman_noaudio.mp4",
)
LONGEST_S = 12


def mouth_and_sound(path: Path, tracker: Tracker) -> tuple[np.ndarray, np.ndarray]:
    """Lips and jaw (frame, 2), 30 a second, in speech's rhythm, and sound (sample,) at 16 kHz, of a film's start."""
    import soxr

    with SourceReader(path) as reader:
        times = reader.frame_times()
        span = Span(Fraction(0), min(Fraction(LONGEST_S), times.time_s(-1) - times.time_s(0)))
        pts = map_to_grid(span, times).pts
        points = tracker.follow(rgb for _, rgb in reader.frames(pts))
        missing = np.full((NUM_POINTS, 3), np.nan, np.float32)
        landmarks = np.stack([missing if found is None else found for found in points])
        samples = reader.audio(span) if reader.info().audio else np.zeros(span.num_samples, np.float32)
    moves = np.stack([in_rhythm(series) for series in mouth(landmarks).T], axis=1)
    return moves, soxr.resample(samples, SAMPLE_RATE_HZ, RATE_HZ)


def _with_others(talking: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """The accord of every jaw with the sound of every other, in frames in which both are heard."""
    found = []
    for moves, _, heard in talking:
        for _, sound, theirs in talking:
            if theirs is heard:
                continue
            length = min(len(moves), len(sound))
            found.append(accord(moves[:length, 1], sound[:length])[heard[:length] & theirs[:length]])
    return found


@command(option("folder", type=Path, help="the films of single heads, media/b_heads"))
def main(options: argparse.Namespace) -> None:
    """Measure mouths of people who talk and who do not."""
    if absent := [name for name in (*TALKING, *STILL) if not (options.folder / name).is_file()]:
        raise UserError(
            f"{options.folder}: expected the films of media/b_heads, found no {absent[0]}; give that folder"
        )
    voice = Voice(*find_weights("silero_vad").paths())
    tracker = Tracker(min_detection=0.5, min_presence=0.9)
    still = [mouth_and_sound(options.folder / name, tracker)[0] for name in STILL]
    talking = []
    for name in TALKING:
        moves, sound = mouth_and_sound(options.folder / name, tracker)
        heard = at_times(voice.probability(sound), grid_times_s(len(moves))) > HEARD
        talking.append((moves, in_rhythm(loudness(sound, len(moves))), heard))
    rows = {
        "level, talking": [level(moves[:, 0])[heard] for moves, _, heard in talking],
        "level, still": [level(moves[:, 0]) for moves in still],
        "accord, own sound": [accord(moves[:, 1], sound)[heard] for moves, sound, heard in talking],
        "accord, another's": list(_with_others(talking)),
    }
    for name, values in rows.items():
        found = np.concatenate(values)
        found = found[np.isfinite(found)]
        print(
            f"{name:18} mean {found.mean():6.2f}, deviation {found.std():.2f}, {len(values)} films, {len(found)} frames"
        )
