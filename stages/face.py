"""Stage ``face``: finds the two people of a clip and crops a video of each one's head."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.clock import VideoTimes, frames_in, map_to_grid
from pipeline.media.encode import VideoWriter
from pipeline.media.reader import MEDIA_REASONS, MediaError, SourceReader
from pipeline.stage import Reject, Stage, setting
from schemas.column import ROLES, Column, per_role
from stages.faces import crops
from stages.faces.boxes import Floats
from stages.faces.detector import FaceDetector
from stages.faces.people import REJECTS, PairRules, boxes_over_time, detected_over_time, find_pair
from stages.faces.scan import Looker, Pictures, Scan, scan

Size = tuple[int, int]  # width, height
PRESET = "superfast"  # 0.7 of the time of veryfast at equal quality, for twice the bytes: still 35 KB a second


class Face(Stage):
    """Face boxes and 384 x 384 head videos of speaker and listener.

    Zhou et al., "Responsive Listening Head Generation" (ECCV 2022, section 4), find faces with MTCNN in each frame,
    crop them and resize them; how was never released. Here two faces that last become the left and the right person.
    One fixed square a clip is the default: a box that follows every detection adds the detector's jitter, 7 px a frame
    at 1080p, to the motion of the head, which is what listener models learn.
    """

    @dataclass(frozen=True)
    class Settings(PairRules):
        policy: str = setting(
            "static", "one square a clip, one that follows the head smoothly, or every box", choices=crops.POLICIES
        )
        margin: float = setting(1.4, "side of the crop in heights of the face box; a static one grows with the motion")
        size_px: int = setting(384, "side of the head videos")
        smooth_s: float = setting(0.4, "smooth policy: standard deviation in time of its Gaussian")
        detect_every: int = setting(5, "look for faces in every k-th frame; the policy per_frame looks in all")
        search_every: int = setting(5, "search the whole frame in every k-th look, else only around known faces")
        silence_dbfs: float = setting(-60.0, "clips whose mean level of sound lies below have no speech")
        detect_width_px: int = setting(640, "look in frames reduced to this width, for faces of 1/32 of it and more")

    reads = ("source", "source_frame", "audio_level_dbfs", "speaker_side")
    writes = per_role(
        Column("{role}_video", "string", (), "", "head of the {role}, cropped from the source", media=True),
        Column("{role}_box", "float32", ("frame", 4), "px", "face box of the {role} in the source: x1, y1, x2, y2"),
        Column("{role}_box_detected", "bool", ("frame",), "", "whether {role}_box was found here or is interpolated"),
        Column(
            "{role}_crop_box", "float32", (4,), "px", "square of the source that holds the {role}'s head throughout"
        ),
        Column("{role}_crop_track", "float32", ("frame", 4), "px", "square of the source that {role}_video shows"),
    )
    rejects = MEDIA_REASONS | REJECTS | {"silence": "the sound's mean level lies below silence_dbfs"}
    weights = ("mtcnn",)

    def setup(self, device: str) -> None:
        import cv2  # noqa: F401  # not at the first frame: the engine tells what is loaded here how many threads it has

        self._detector = FaceDetector(device)

    def process(self, clip: Clip) -> dict[str, Any]:
        try:
            if clip.is_pair:
                self._check_sound(clip["audio_level_dbfs"])
                return _take_over(clip, self.settings.size_px)
            return self._crop_heads(clip, clip.reader())
        except MediaError as error:
            raise Reject(error.reason, error.detail) from error

    def _crop_heads(self, clip: Clip, reader: SourceReader) -> dict[str, Any]:
        info, times = reader.info(), reader.frame_times()
        picture_px = (info.width, info.height)
        pictures = _pictures(clip["source_frame"], times, float(clip.span.end_s))
        found = self._scan(reader, pictures, picture_px)
        pair = find_pair(found, pictures, picture_px, self.settings)
        self._check_sound(clip["audio_level_dbfs"])
        boxes = [boxes_over_time(person, found, pictures) for person in pair]
        squares, paths = self._squares(boxes, picture_px)
        roles = ("speaker", "listener") if clip["speaker_side"] == "left" else ("listener", "speaker")
        columns: dict[str, Any] = {}
        for side, role in enumerate(roles):
            detected = detected_over_time(pair[side], found, pictures)
            columns |= _columns(role, clip.output(f"{role}.mp4"), boxes[side], detected, squares[side], paths[side])
        shown, size_px = times.pts[clip["source_frame"]], self.settings.size_px
        planes = reader.crops(shown, np.stack(paths, axis=1), size_px, pixels="yuv420p")
        _write((heads for _, heads in planes), [columns[f"{role}_video"] for role in roles], size_px)
        return columns

    def _check_sound(self, level_dbfs: float | None) -> None:
        """A pair whose speaker is not to be heard is no pair. Asked last: of several reasons, people see the others."""
        if level_dbfs is None:
            raise Reject("no_audio", "the source has no sound track")
        if level_dbfs < self.settings.silence_dbfs:
            expected = f"expected {self.settings.silence_dbfs:g} or more"
            raise Reject("silence", f"mean level {level_dbfs:.1f} dBFS, {expected}")

    def _scan(self, reader: SourceReader, pictures: Pictures, size_px: Size) -> Scan:
        width_px = min(self.settings.detect_width_px, size_px[0])
        scale = size_px[0] / width_px
        frames = reader.frames(pictures.pts, (width_px, round(size_px[1] / scale)))
        every_frame = self.settings.policy == "per_frame"
        looked_at = pictures.every(1 if every_frame else self.settings.detect_every)
        search_every = 1 if every_frame else self.settings.search_every
        looker = Looker(self._detector, scale, self.settings.min_relative_size, search_every)
        return scan((rgb for _, rgb in frames), looked_at, looker, scale)

    def _squares(self, boxes: list[Floats], size_px: Size) -> tuple[list[Floats], list[Floats]]:
        """For the left and the right head its square (4,) in the clip and the square shown in each frame (frame, 4)."""
        policy, margin = self.settings.policy, self.settings.margin
        left, right = (crops.static_square(one, margin, size_px) for one in boxes)
        squares = list(crops.apart(left, right, size_px))
        if policy == "static":
            return squares, [np.tile(square, (len(boxes[0]), 1)) for square in squares]
        sigma_frames = frames_in(self.settings.smooth_s) if policy == "smooth" else 0.0
        return squares, [crops.moving_squares(one, margin, size_px, sigma_frames) for one in boxes]


def _take_over(clip: Clip, size_px: int) -> dict[str, Any]:
    """The columns for a pair: boxes are the smallest square around each role's own picture, and none is detected.

    Published crops are square already. Raises `MediaError` where a file does not give its frames.
    """
    columns: dict[str, Any] = {}
    for role in ROLES:
        reader = clip.reader(role)
        info, pts = reader.info(), map_to_grid(clip.span, reader.frame_times()).pts
        half, middle = max(info.width, info.height) / 2, np.array([info.width, info.height]) / 2
        square = np.concatenate([middle - half, middle + half]).astype(np.float32)  # x1, y1, x2, y2
        track = np.tile(square, (clip.num_frames, 1))
        path = clip.output(f"{role}.mp4")
        with VideoWriter(path, (size_px, size_px), pixels="yuv420p") as writer:
            for _, heads in reader.crops(pts, track[:, None], size_px, pixels="yuv420p"):
                writer.write(heads[0])
        columns |= _columns(role, path, track, np.zeros(clip.num_frames, bool), square, track)
    return columns


def _columns(role: str, *values: Any) -> dict[str, Any]:
    """The columns of a role from their values, in the order in which they are declared."""
    names = ("video", "box", "box_detected", "crop_box", "crop_track")
    return {f"{role}_{name}": value for name, value in zip(names, values, strict=True)}


def _pictures(source_frame: NDArray[np.int32], times: VideoTimes, end_s: float) -> Pictures:
    shown, of_frame = np.unique(source_frame, return_inverse=True)
    times_s = np.array([float(times.time_s(index)) for index in shown])
    return Pictures(times.pts[shown], of_frame, times_s, end_s)


def _write(planes: Iterable[NDArray[np.uint8]], videos: list[Path], size_px: int) -> None:
    """Crops (role, 1.5 size, size) of every frame as one video a role; the encoders run beside the decoder."""
    with ExitStack() as stack:
        writers = [
            stack.enter_context(VideoWriter(path, (size_px, size_px), preset=PRESET, pixels="yuv420p"))
            for path in videos
        ]
        for heads in planes:
            for writer, head in zip(writers, heads, strict=True):
                writer.write(head)
