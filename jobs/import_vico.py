"""Turn a published ViCo folder into a manifest: ``python -m jobs.import_vico FOLDER --out DIR``.

Reads the full release (``RLD_data.csv`` with ``videos/`` and ``audios/``) and the challenge release (``train.csv`` with
``videos/<uuid>.<role>.mp4``). The clips are pairs already cropped: ids, attitudes, people and splits are kept as
published and nothing is detected again. Writes ``vico.toml`` and ``clips.csv`` for jobs.build, ``origins.csv`` (which
seconds of which video each clip is, where its id says so) and ``problems.txt``: what is missing or ambiguous is listed,
not guessed. Exit status: 0 every clip is in the manifest, 1 some are not, 2 the folder is in no layout.
"""

from __future__ import annotations

import argparse
import wave
from fractions import Fraction
from pathlib import Path

from jobs.command import command, option
from jobs.vico.clip_id import UNITS, find_unit, parse_clip_id
from jobs.vico.layouts import Found, VicoClip, read_layout
from pipeline.clock import seconds_of, whole_frames
from pipeline.manifest.load import load_manifest
from pipeline.manifest.write import PairClip, write_csv, write_pairs
from pipeline.media.reader import MediaError, SourceReader
from schemas.errors import UserError

MANIFEST = "vico.toml"
LICENCE = "ViCo: non-commercial research and education"
MAX_DIFFERENCE_S = 0.1  # between the files of a clip before it is worth a line


def import_vico(folder: Path, out: Path, unit: str | None = None) -> Found:
    """Write the manifest of a published folder into ``out``.

    Parameters
    ----------
    unit : what the digits of clip ids mean, `jobs.vico.clip_id.UNITS`; None to have the data decide, if they can.
    """
    found = read_layout(folder)
    out.mkdir(parents=True, exist_ok=True)
    frames = {clip.clip_id: count for clip in found.clips if (count := _num_frames(clip, found))}
    found.clips = sorted((clip for clip in found.clips if clip.clip_id in frames), key=lambda clip: clip.clip_id)
    pairs = [_pair(clip, frames[clip.clip_id]) for clip in found.clips]
    write_pairs(out / MANIFEST, {"name": "vico", "clips": "clips.csv"}, pairs)
    _write_origins(out / "origins.csv", found, frames, unit)
    if found.clips:
        try:
            found.problems += load_manifest(out / MANIFEST).warnings
        except UserError as error:  # the manifest is as published; what is wrong with that, a person must decide
            found.problems.append(str(error))
    (out / "problems.txt").write_text("".join(f"{problem}\n" for problem in found.problems), encoding="utf-8")
    return found


def _num_frames(clip: VicoClip, found: Found) -> int:
    """Frames at 30 fps that both videos have; 0, and a problem, if one of the files cannot be read."""
    try:
        lengths_s = {"speaker": _video_s(clip.speaker), "listener": _video_s(clip.listener)}
        with wave.open(str(clip.audio)) as sound:
            lengths_s["audio"] = Fraction(sound.getnframes(), sound.getframerate())
    except (MediaError, wave.Error, EOFError) as error:
        found.problems.append(f"{clip.clip_id}: a file cannot be read: {error}")
        return 0
    shortest_s, longest_s = min(lengths_s.values()), max(lengths_s.values())
    if longest_s - shortest_s > MAX_DIFFERENCE_S:
        listing = ", ".join(f"{name} {float(length_s):.2f} s" for name, length_s in lengths_s.items())
        found.problems.append(f"{clip.clip_id}: its files differ in length ({listing}); what both videos show is used")
    return whole_frames(min(lengths_s["speaker"], lengths_s["listener"]))


def _video_s(path: Path) -> Fraction:
    """Length of a video: from its first frame to the end of its last."""
    with SourceReader(path) as reader:
        times = reader.frame_times()
    count = len(times.pts)
    shown_s = times.time_s(-1) - times.time_s(0)
    return shown_s * Fraction(count, count - 1) if count > 1 else seconds_of(1)


def _pair(clip: VicoClip, num_frames: int) -> PairClip:
    files = {"speaker": clip.speaker, "listener": clip.listener, "audio": clip.audio}
    labels = [clip.attitude, clip.speaker_id, clip.listener_id, clip.split]
    return PairClip(clip.clip_id, num_frames, files, labels, LICENCE)


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


@command(
    option("folder", type=Path, help="the folder with RLD_data.csv or train.csv"),
    option("--out", type=Path, required=True, help="where the manifest goes"),
    option("--time-unit", choices=UNITS, help="what the digits of clip ids mean, if you know"),
)
def main(options: argparse.Namespace) -> int:
    """Import a published ViCo folder."""
    found = import_vico(options.folder, options.out, options.time_unit)
    for problem in found.problems:
        print(problem)
    print(f"{len(found.clips)} clips, {len(found.problems)} problems: python -m jobs.build {options.out / MANIFEST}")
    return 1 if found.problems else 0
