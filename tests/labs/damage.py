"""Damaged copies of a film in every container and codec that the reader allows, and how many bad frames stay unmarked.

``python -m tests.labs.damage FILM [FILM ...] [--copies 200] [--seed 1]`` makes them of films of your own and prints
what came of them. A frame is bad where it lies under 30 dB against the same frame of the undamaged film.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import ffmpeg
import numpy as np

from pipeline.clip import Clip
from pipeline.clock import Span, map_to_grid
from pipeline.media.reader import MediaError, SourceReader
from pipeline.stage import Reject
from stages.clip import Cut
from tests.labs.media import Recipe, make_source, run

SIZE, NUM_FRAMES, FPS = (352, 288), 75, Fraction(25)  # what H.263 knows
BAD_DB = 30.0
Y420 = {"pix_fmt": "yuv420p"}


def _recipe(suffix: str, codec: str, sound: str, rate_hz: int = 44_100, **options: object) -> Recipe:
    video = {"vcodec": codec, **Y420, **options}
    return Recipe(suffix, video, {"acodec": sound}, FPS, NUM_FRAMES, SIZE, rate_hz)


X264 = {"preset": "veryfast", "g": 25}
RECIPES = {
    "H.264, MP4": _recipe(".mp4", "libx264", "aac", **X264),
    "H.264, one keyframe": _recipe(".mp4", "libx264", "aac", preset="veryfast"),
    "H.264, no B-frames, FLV": _recipe(".flv", "libx264", "libmp3lame", **X264, bf=0),
    "H.264, CAVLC, Matroska": _recipe(".mkv", "libx264", "flac", **X264, coder=0),
    "H.264, MPEG-TS": _recipe(".ts", "libx264", "mp2", **X264),
    "HEVC, MP4": _recipe(
        ".mp4", "libx265", "alac", preset="ultrafast", g=25, **{"x265-params": "log-level=none", "tag:v": "hvc1"}
    ),
    "AV1, Matroska": _recipe(".mkv", "libaom-av1", "libopus", 48_000, **{"cpu-used": 8, "g": 25, "usage": "realtime"}),
    "VP9, WebM": _recipe(".webm", "libvpx-vp9", "libopus", 48_000, **{"cpu-used": 8, "g": 25, "deadline": "realtime"}),
    "VP8, WebM": _recipe(".webm", "libvpx", "libvorbis", **{"cpu-used": 8, "g": 25, "b:v": "600k"}),
    "Theora, Ogg": _recipe(".ogv", "libtheora", "libvorbis", g=25, **{"q:v": 6}),
    "MPEG-4, AVI": _recipe(".avi", "mpeg4", "ac3", g=25, **{"q:v": 5}),
    "MPEG-4, MP4": _recipe(".mp4", "mpeg4", "aac", g=12, bf=2, **{"q:v": 5}),
    "MPEG-2, MPEG-PS": _recipe(".mpg", "mpeg2video", "mp2", g=12, bf=2, **{"q:v": 5}),
    "MPEG-1, MPEG-PS": _recipe(".mpg", "mpeg1video", "mp2", g=12, **{"q:v": 5}),
    "H.263, 3GP": _recipe(".3gp", "h263", "aac", g=25, **{"q:v": 5}),
    "FLV1, FLV": _recipe(".flv", "flv", "libmp3lame", g=25, **{"q:v": 5}),
    "MS MPEG-4 v2, AVI": _recipe(".avi", "msmpeg4v2", "pcm_u8", g=25, **{"q:v": 5}),
    "MS MPEG-4 v3, AVI": _recipe(".avi", "msmpeg4", "libmp3lame", g=25, **{"q:v": 5}),
    "WMV1, ASF": _recipe(".asf", "wmv1", "wmav1", g=25, **{"q:v": 5}),
    "WMV2, ASF": _recipe(".wmv", "wmv2", "wmav2", g=25, **{"q:v": 5}),
    "Motion JPEG, MOV": _recipe(".mov", "mjpeg", "pcm_s16be", pix_fmt="yuvj420p", **{"q:v": 4}),
    "ProRes, MOV": _recipe(".mov", "prores_ks", "pcm_s24le", pix_fmt="yuv422p10le"),
    "FFV1, Matroska": _recipe(".mkv", "ffv1", "pcm_f32le", g=1, level=3, slicecrc=1),
    "PNG, MOV": _recipe(".mov", "png", "pcm_s32be", pix_fmt="rgb24"),
    "raw, AVI": _recipe(".avi", "rawvideo", "pcm_s16le"),
}


@dataclass(frozen=True)
class Found:
    """What came of one damaged copy: a reason why it is not published, or its frames."""

    name: str
    reason: str  # empty where it is
    decibel: np.ndarray  # (frame,) against the undamaged film
    marked: np.ndarray  # (frame,) whether they are called damaged
    unheard: np.ndarray  # (frame,) whether their sound is

    @property
    def bad(self) -> np.ndarray:
        return self.decibel < BAD_DB


def pictures_of(film: Path) -> bytes:
    """The first frames of a film as `make_source` takes them."""
    read = ffmpeg.input(str(film)).video.filter("fps", str(FPS)).filter("scale", *SIZE)
    raw = run(read.output("pipe:", vframes=NUM_FRAMES, format="rawvideo", pix_fmt="rgb24"))
    return raw + raw[-3 * SIZE[0] * SIZE[1] :] * (NUM_FRAMES - len(raw) // (3 * SIZE[0] * SIZE[1]))


def damaged(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """What happened to a copy, and its bytes. The first hundredth stays: a film without a head is refused anyway."""
    kind = str(rng.choice(["flipped", "zeroed", "lost", "doubled"], p=[0.55, 0.15, 0.2, 0.1]))
    whole = np.frombuffer(data, np.uint8).copy()
    least = max(len(data) // 100, 500)
    start, length = int(rng.integers(least, len(data))), int(rng.integers(1, 1500))
    if kind == "flipped":
        places = rng.integers(least, len(data), int(rng.integers(1, 12)))
        whole[places] ^= (1 << rng.integers(8, size=len(places))).astype(np.uint8)
    elif kind == "zeroed":
        whole[start : start + length] = 0
    elif kind == "lost":
        whole = np.delete(whole, slice(start, start + length))
    else:
        whole = np.concatenate([whole[: start + length], whole[start:]])
    return kind, whole.tobytes()


@dataclass(frozen=True)
class Shown:
    """What a build makes of a film, whatever share of it is damaged."""

    pictures: np.ndarray  # (frame, height, width, 3), uint8
    marked: np.ndarray  # (frame,) whether they are called damaged
    unheard: np.ndarray  # (frame,) whether their sound is


def published(path: Path, span: Span) -> Shown:
    """What the stage clip lets pass, read as the stage face reads it."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Clip({"clip_id": "c"}, span, path, Path(folder), Path(folder) / "scratch")
        try:
            unheard = Cut(Cut.Settings()).process(clip)["sound_damaged"]
            reader = clip.reader()
            pts = map_to_grid(span, reader.frame_times()).pts
            pictures = np.stack([rgb for rgb, _ in reader.scan(pts, SIZE, pts[:0], SIZE, watched=True)])
            return Shown(pictures, reader.damage(pts) > 0, unheard)
        finally:
            clip.close()


def look(name: str, path: Path, whole: np.ndarray, span: Span) -> Found:
    """What comes of a damaged copy of a film with these pictures."""
    none = np.empty(0)
    try:
        shown = published(path, span)
    except (Reject, MediaError) as error:
        return Found(name, error.reason, none, none, none)
    error = np.square(shown.pictures.astype(np.float32) - whole).mean(axis=(1, 2, 3))
    return Found(name, "", 10 * np.log10(255**2 / np.maximum(error, 1e-3)), shown.marked, shown.unheard)


def span_of(path: Path) -> Span:
    """What a film shows, less its last frames."""
    with SourceReader(path) as reader:
        times = reader.frame_times()
        return Span(times.time_s(0), times.time_s(-1) - Fraction(1, 10))


def copies(films: dict[str, Path], count: int, seed: int, folder: Path) -> Iterator[Found]:
    """What came of ``count`` damaged copies, film by film in turn."""
    names = list(films)
    spans = {name: span_of(films[name]) for name in names[:count]}
    whole = {name: published(films[name], spans[name]).pictures for name in spans}
    for number in range(count):
        name, rng = names[number % len(names)], np.random.default_rng([seed, number])
        kind, data = damaged(films[name].read_bytes(), rng)
        path = folder / f"{number}_{kind}{films[name].suffix}"
        path.write_bytes(data)
        yield look(f"{name}: {kind} {number}", path, whole[name], spans[name])
        path.unlink()


def marked_share(found: list[Found]) -> tuple[int, int]:
    """Published frames that are bad, and those of them that are marked."""
    bad = sum(int(one.bad.sum()) for one in found)
    return bad, sum(int((one.bad & one.marked).sum()) for one in found if not one.reason)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("films", type=Path, nargs="+")
    asked.add_argument("--copies", type=int, default=200)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--as-they-are", action="store_true", help="damage the films themselves, in no other codec")
    told = asked.parse_args()
    every: list[Found] = []
    with tempfile.TemporaryDirectory() as scratch:
        for film in told.films:
            folder = Path(scratch) / film.stem
            folder.mkdir()
            if told.as_they_are:
                made = {film.name: film}
            else:
                pictures = pictures_of(film)
                made = {
                    name: make_source(folder / str(n), one, pictures) for n, (name, one) in enumerate(RECIPES.items())
                }
            for name, path in made.items():
                whole = span_of(path)
                for span in (whole, Span(whole.start_s + 1, whole.end_s)):
                    shown = published(path, span)
                    wrong = int(shown.marked.sum()), int(shown.unheard.sum())
                    if any(wrong):
                        print(f"UNDAMAGED {film.name} {name}: {wrong[0]} pictures, {wrong[1]} frames of sound marked")
            for found in copies(made, told.copies // len(told.films), told.seed, folder):
                every.append(found)
                missed = found.bad & ~found.marked.astype(bool) if not found.reason else np.empty(0, bool)
                if missed.any():
                    worst = found.decibel[missed].min()
                    print(f"MISSED {film.name} {found.name}: {missed.sum()} of {found.bad.sum()}, worst {worst:.1f} dB")
    bad, marked = marked_share(every)
    passed = [one for one in every if not one.reason]
    print(Counter(one.reason or "published" for one in every).most_common())
    print(f"{len(every)} copies, {sum(len(one.bad) for one in passed)} frames published, {bad} under {BAD_DB:g} dB")
    needless = sum(int((one.marked & (one.decibel > 40)).sum()) for one in passed)
    print(f"marked: {marked} ({marked / max(bad, 1):.1%}); marked, and above 40 dB: {needless}")
    per: dict[str, list[Found]] = {}
    for one in passed:
        per.setdefault(one.name.split(":")[0], []).append(one)
    for name, group in per.items():
        print(f"  {name}: {len(group)} copies, {marked_share(group)[1]} of {marked_share(group)[0]}")


if __name__ == "__main__":
    main()
