"""Stage ``clip``: cuts a clip out of its source, on the 30 fps grid and to the audio sample.

Nothing is resampled in time: every grid frame shows the source frame whose timestamp is nearest, and the index of
that frame is kept. The sound is cut from the same timeline. (Zhou et al., ECCV 2022, bring ViCo to 30 fps but do not
say how; a 29.97 fps source that is taken for 30 drifts by 1.8 frames a minute.)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.clip import Clip
from pipeline.clock import GridMap, Span, VideoTimes, map_to_grid
from pipeline.media.encode import VideoWriter, level_dbfs, write_wav
from pipeline.media.reader import MEDIA_REASONS, MediaError, SourceReader
from pipeline.stage import Reject, Stage, setting
from schemas.column import ROLES, Column


class Cut(Stage):
    """The frame grid and the sound of a clip."""

    @dataclass(frozen=True)
    class Settings:
        min_s: float = setting(1.0, "shortest clip")
        max_s: float = setting(120.0, "longest clip")
        max_gap_s: float = setting(0.25, "longest time for which a source may show one and the same frame")
        full_frame: bool = setting(False, "also write a copy of the clip at the source's full size")

    reads = ("source",)
    rejects = MEDIA_REASONS | {
        "too_short": "the clip is shorter than min_s",
        "too_long": "the clip is longer than max_s",
        "span_outside_source": "the clip begins before the source's video or ends after it",
        "frozen_gap": "the source shows one frame for longer than max_gap_s",
    }
    version = 3  # square pixels; interlaced and HDR sources are rejected; damaged sound is told

    def writes(self) -> tuple[Column, ...]:
        columns = (
            Column("source_frame", "int32", ("frame",), "1", "index of the source frame that each frame shows"),
            Column("source_fps", "float64", (), "Hz", "average frame rate of the source"),
            Column("sound_damaged", "bool", ("frame",), "", "whether sound is damaged in the source or has a hole"),
            Column("audio", "string", (), "", "sound of the clip: 44.1 kHz, 16-bit PCM, one channel", media=True),
            Column("audio_level_dbfs", "float32", (), "dBFS", "mean level of the sound"),
        )
        copy = Column("clip_video", "string", (), "", "copy of the clip at the source's full size", media=True)
        return (*columns, copy) if self.settings.full_frame else columns

    def process(self, clip: Clip) -> dict[str, Any]:
        self._check_duration(clip.span)
        try:
            return self._cut(clip, clip.reader())
        except MediaError as error:
            raise Reject(error.reason, error.detail) from error

    def _cut(self, clip: Clip, reader: SourceReader) -> dict[str, Any]:
        info, times = reader.info(), reader.frame_times()
        grid = map_to_grid(clip.span, times)
        self._check_grid(grid, clip.span, times)
        columns: dict[str, Any] = {"source_frame": grid.source_frame, "source_fps": float(info.average_fps)}
        columns |= {"audio": None, "audio_level_dbfs": None}  # what that means for the pair, the stage `face` decides
        has_sound = info.audio is not None or clip.reader("audio") is not reader
        columns["sound_damaged"] = np.zeros(clip.num_frames, bool)
        if has_sound:
            samples, columns["sound_damaged"] = _heard(clip)
            columns |= {"audio": clip.output("audio.wav"), "audio_level_dbfs": level_dbfs(samples)}
            write_wav(columns["audio"], samples)
        if self.settings.full_frame:
            columns["clip_video"] = _copy(reader, grid, clip.output("clip.mp4"))
        return columns

    def _check_duration(self, span: Span) -> None:
        seconds, settings = float(span.end_s - span.start_s), self.settings
        if seconds < settings.min_s or span.num_frames < 1:
            raise Reject("too_short", f"{seconds:.3f} s, expected {settings.min_s:g} s or more")
        if seconds > settings.max_s:
            raise Reject("too_long", f"{seconds:.3f} s, expected {settings.max_s:g} s or less")

    def _check_grid(self, grid: GridMap, span: Span, times: VideoTimes) -> None:
        limit_s = self.settings.max_gap_s
        if max(grid.before_s, grid.after_s) > limit_s:
            found = f"{float(times.time_s(0)):.3f} to {float(times.time_s(-1)):.3f} s"
            wanted = f"{float(span.start_s):.3f} to {float(span.end_s):.3f} s"
            raise Reject("span_outside_source", f"the clip is {wanted}, the source has frames from {found}")
        if grid.largest_gap_s > limit_s:
            raise Reject("frozen_gap", f"{float(grid.largest_gap_s):.3f} s, expected {limit_s:g} s or less")


def _heard(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """The sound of the clip (sample,), and where it is damaged (frame,).

    Of both people, or the mean of each one's own where there is no other.
    """
    if clip.sounds is None or clip.sounds.mixed:
        return clip.reader("audio").heard(clip.span)
    own = [clip.own_sound(role)[0].heard(clip.span) for role in ROLES]
    return np.mean([samples for samples, _ in own], axis=0), np.any([damaged for _, damaged in own], axis=0)


def _copy(reader: SourceReader, grid: GridMap, path: Path) -> Path:
    """The clip at full size; 4:2:0 video has even sides, so an odd last row or column is left out."""
    info = reader.info()
    width, height = info.width // 2 * 2, info.height // 2 * 2
    with VideoWriter(path, (width, height)) as writer:
        for _, rgb in reader.frames(grid.pts):
            writer.write(rgb[:height, :width])
    return path
