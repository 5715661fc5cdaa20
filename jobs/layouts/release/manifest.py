"""Published clips as a manifest: ``vico.toml`` and ``clips.csv`` for jobs.build.

They are pairs already cropped: ids, attitudes, people and splits are kept as published and nothing is detected again.
``origins.csv`` says which seconds of which video each clip is, where its id says so, and ``problems.txt`` what is
missing or ambiguous: that is listed, not guessed. Coefficients that others' trackers found are brought to the names
that the stage ``coefficients`` reads, and the manifest declares them.
"""

from __future__ import annotations

import wave
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from jobs.layouts import Moved, staged
from jobs.layouts.release.clip_id import UNITS, find_unit, parse_clip_id
from jobs.layouts.release.clips import Found, PublishedClip
from pipeline.clock import seconds_of, whole_frames
from pipeline.manifest.load import load_manifest
from pipeline.manifest.write import PairClip, write_csv, write_pairs
from pipeline.media.reader import MediaError, SourceReader
from schemas.clip import ID_PATTERN
from schemas.coefficients import OWN_STAGE
from schemas.column import PORTRAIT
from schemas.errors import UserError

MANIFEST = "vico.toml"
LICENCE = "ViCo: non-commercial research and education"
TIME_UNIT = {"choices": UNITS, "help": "what the digits of clip ids mean, if you know"}  # of ``--time-unit``
MAX_DIFFERENCE_S = 0.1  # between the files of a clip before it is worth a line


def write_manifest(
    name: str,
    found: Found,
    out: Path,
    unit: str | None = None,
    *,
    licence: str = LICENCE,
    file: str = MANIFEST,
    tracker: Mapping[str, Any] = {},
) -> Moved:
    """Write the manifest of published clips into ``out``.

    Parameters
    ----------
    name : what the data are called: published scores stand beside those of data of the same name.
    unit : what the digits of clip ids mean, `jobs.layouts.release.clip_id.UNITS`; None to have the data decide.
    tracker : what the files of ``PublishedClip.coefficients`` are, in settings of the stage ``coefficients``.
    """
    out.mkdir(parents=True, exist_ok=True)
    frames = {clip.clip_id: count for clip in found.clips if (count := _num_frames(clip, found))}
    found.clips = sorted((clip for clip in found.clips if clip.clip_id in frames), key=lambda clip: clip.clip_id)
    pairs = [_pair(clip, frames[clip.clip_id], licence) for clip in found.clips]
    stages = {OWN_STAGE: {"folder": str(kept.resolve()), **tracker}} if (kept := _copy_coefficients(found, out)) else {}
    write_pairs(out / file, {"name": name, "clips": "clips.csv"}, pairs, stages)
    _write_origins(out / "origins.csv", found, frames, unit)
    if found.clips:
        try:
            found.problems += load_manifest(out / file).warnings
        except UserError as error:  # the manifest is as published; what is wrong with that, a person must decide
            found.problems.append(str(error))
    (out / "problems.txt").write_text("".join(f"{problem}\n" for problem in found.problems), encoding="utf-8")
    clip_ids = [clip.clip_id for clip in found.clips]
    return Moved(clip_ids, found.problems, f"python -m jobs.build {quote(str(out / file))}")


def _copy_coefficients(found: Found, out: Path) -> Path | None:
    """Bring coefficients under the names of the stage ``coefficients``; None if there are none to bring.

    A file that is missing or holds no rows of numbers is a problem: a build rejects its clip, since those of one data
    set are of one tracker.
    """
    if not any(path.is_file() for clip in found.clips for path in clip.coefficients.values()):
        return None
    with staged(folder := out / OWN_STAGE) as kept:
        for clip in found.clips:
            for role, path in clip.coefficients.items():
                try:
                    if not path.is_file():
                        raise ValueError("found none")
                    rows = np.load(path, mmap_mode="r", allow_pickle=False)
                    if not isinstance(rows, np.ndarray) or rows.dtype.kind != "f" or rows.ndim not in (2, 3):
                        raise ValueError("found other than floats (frame, number)")
                    np.save(kept / f"{clip.clip_id}_{role}.npy", rows.reshape(len(rows), rows.shape[-1]))
                except (OSError, ValueError, EOFError, TypeError) as error:
                    told = f"expected the {role}'s coefficients in {path}: {error}"
                    remedy = f"take [stages.{OWN_STAGE}] out of the manifest to build it with our own"
                    found.problems.append(f"{clip.clip_id}: {told}; {remedy}")
    return folder


def _num_frames(clip: PublishedClip, found: Found) -> int:
    """Frames at 30 fps that both videos have; 0, and a problem, if one of the files cannot be read."""
    try:
        films = {"speaker": clip.speaker} if clip.portrait else {"speaker": clip.speaker, "listener": clip.listener}
        lengths_s = {role: _video_s(path) for role, path in films.items()}
        for name, path in clip.sounds.items():
            with wave.open(str(path)) as sound:
                lengths_s[name] = Fraction(sound.getnframes(), sound.getframerate())
    except (MediaError, wave.Error, EOFError) as error:
        found.problems.append(f"{clip.clip_id}: a file cannot be read: {error}")
        return 0
    shortest_s, longest_s = min(lengths_s.values()), max(lengths_s.values())
    if longest_s - shortest_s > MAX_DIFFERENCE_S:
        listing = ", ".join(f"{name} {float(length_s):.2f} s" for name, length_s in lengths_s.items())
        found.problems.append(f"{clip.clip_id}: its files differ in length ({listing}); what both videos show is used")
    return whole_frames(min(lengths_s[role] for role in films))


def _video_s(path: Path) -> Fraction:
    """Length of a video: from its first frame to the end of its last."""
    with SourceReader(path) as reader:
        times = reader.frame_times()
    count = len(times.pts)
    shown_s = times.time_s(-1) - times.time_s(0)
    return shown_s * Fraction(count, count - 1) if count > 1 else seconds_of(1)


def _pair(clip: PublishedClip, num_frames: int, licence: str) -> PairClip:
    files = {"speaker": clip.speaker, PORTRAIT if clip.portrait else "listener": clip.listener, **clip.sounds}
    labels = [clip.attitude, clip.speaker_id, clip.listener_id, clip.split]
    return PairClip(clip.clip_id, num_frames, files, labels, licence, _video(clip), clip.cropped)


def _video(clip: PublishedClip) -> str:
    """The video that a clip was cut from: as its id says or, of the challenge, its table."""
    clip_id = parse_clip_id(clip.clip_id)
    return clip_id.video if clip_id else clip.video_id if ID_PATTERN.fullmatch(clip.video_id) else ""


def _write_origins(path: Path, found: Found, frames: dict[str, int], unit: str | None) -> None:
    """Which seconds of which video each clip is; times are left out where the ids do not decide their unit."""
    parsed = {clip.clip_id: clip_id for clip in found.clips if (clip_id := parse_clip_id(clip.clip_id))}
    if parsed and unit is None:
        unit, why = find_unit((clip_id, float(seconds_of(frames[name]))) for name, clip_id in parsed.items())
        if unit is None:
            found.problems.append(f"times of the original videos: {why}; {path.name} leaves them out")
    rows = []
    for clip in found.clips:
        clip_id = parsed.get(clip.clip_id)
        span = clip_id.span_s(unit) if clip_id and unit else None
        rows.append([clip.clip_id, clip_id.video if clip_id else clip.video_id, *(span or ("", ""))])
    write_csv(path, ["clip_id", "video_id", "start_s", "end_s"], rows)
