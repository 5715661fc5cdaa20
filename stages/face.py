"""Stage ``face``: finds the two people of a clip and crops a video of each one's head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clip import Clip, Pair
from pipeline.clock import VideoTimes, frames_in, map_to_grid, runs
from pipeline.media.encode import VideoWriter
from pipeline.media.reader import DAMAGES, MEDIA_REASONS, MediaError, Size, SourceReader
from pipeline.stage import Reject, Stage, setting
from schemas.column import ROLES, Column, per_role
from stages.faces import crops
from stages.faces.boxes import Floats
from stages.faces.detector import FaceDetector
from stages.faces.people import (
    REJECTS,
    FaceTrack,
    PairRules,
    boxes_over_time,
    detected_over_time,
    find_one,
    find_pair,
)
from stages.faces.scan import Pictures, Scan, scan

# Less time than superfast takes, there and when it is decoded, for more dB, and a sixth more bytes: 100 KB a second
CODING = {"preset": "ultrafast", "crf": 17, "x264": "subme=1:chroma-qp-offset=-2"}


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
        size_px: int = setting(384, "side of the head videos", least=1)
        smooth_s: float = setting(0.4, "smooth policy: standard deviation in time of its Gaussian")
        detect_every: int = setting(5, "look for faces in every k-th frame; the policy per_frame looks in all", least=1)
        search_every: int = setting(
            5, "search the whole frame in every k-th look, else only around known faces", least=1
        )
        silence_dbfs: float = setting(-60.0, "clips whose mean level of sound lies below have no speech")
        max_damaged: float = setting(0.05, "largest share of frames whose picture or sound is damaged in the source")
        detect_width_px: int = setting(
            640, "look in frames reduced to this width, for faces of 1/32 of it and more", least=1
        )

    reads = ("source", "source_frame", "audio_level_dbfs", "sound_damaged", "speaker_side")
    writes = (
        Column("source_damaged", "bool", ("frame",), "", "whether a picture of either person is damaged in the source"),
        *per_role(
            Column("{role}_video", "string", (), "", "head of the {role}, cropped from the source", media=True),
            Column("{role}_box", "float32", ("frame", 4), "px", "face box of the {role} in the source: x1, y1, x2, y2"),
            Column(
                "{role}_box_detected", "bool", ("frame",), "", "whether {role}_box was found here or is interpolated"
            ),
            Column(
                "{role}_crop_box", "float32", (4,), "px", "square of the source that holds the {role}'s head throughout"
            ),
            Column("{role}_crop_track", "float32", ("frame", 4), "px", "square of the source that {role}_video shows"),
        ),
    )
    rejects = {
        **MEDIA_REASONS,
        **REJECTS,
        "damaged": "its stream breaks off, changes its format, or is damaged in more frames than max_damaged",
        "silence": "the sound's mean level lies below silence_dbfs",
    }
    weights = ("mtcnn",)
    version = 6  # cuts are looked for in pictures that were made small in one step

    def setup(self, device: str) -> None:
        import cv2  # noqa: F401  # not at the first frame: the engine tells what is loaded here how many threads it has

        self._detector = FaceDetector(device)

    def process(self, clip: Clip) -> dict[str, Any]:
        try:
            if clip.is_pair:
                self._check_sound(clip["audio_level_dbfs"])
                return self._take_over(clip)
            return self._crop_heads(clip)
        except MediaError as error:
            raise Reject(error.reason, error.detail) from error

    def _crop_heads(self, clip: Clip) -> dict[str, Any]:
        reader = clip.reader()
        if isinstance(clip.source, Pair) and not clip.has_portrait:  # each in a film of one's own
            films = {role: clip.reader(role) for role in ROLES}
            found = [self._crop(clip, film, _on_grid(clip, film), [role]) for role, film in films.items()]
            return _together(*found)
        if not clip.has_portrait:
            roles = ROLES if clip["speaker_side"] == "left" else ROLES[::-1]
            return self._crop(clip, reader, _pictures(clip, reader.frame_times()), roles)
        picture = clip.reader("listener")
        still = Pictures(picture.frame_times().pts[:1], np.zeros(1, np.intp), np.zeros(1), 0.0)
        listener = self._crop(clip, picture, still, ROLES[1:])
        return _together(self._crop(clip, reader, _pictures(clip, reader.frame_times()), ROLES[:1]), listener)

    def _crop(self, clip: Clip, reader: SourceReader, pictures: Pictures, roles: Sequence[str]) -> dict[str, Any]:
        """The columns of these roles, from left to right, as the pictures show them."""
        info = reader.info()
        picture_px = (info.width, info.height)
        found = self._scan(reader, pictures)
        kinds = reader.damage(pictures.pts)[pictures.of_frame]
        self._check_damage(kinds, clip["sound_damaged"])
        persons: Sequence[FaceTrack]
        if len(roles) == len(ROLES):
            persons = find_pair(found, pictures, picture_px, self.settings)
        else:
            persons = [find_one(found, pictures, picture_px, self.settings, roles[0])]
        self._check_sound(clip["audio_level_dbfs"])
        boxes = [boxes_over_time(person, found, pictures) for person in persons]
        squares, paths = self._squares(boxes, picture_px)
        columns: dict[str, Any] = {"source_damaged": kinds > 0}
        for side, role in enumerate(roles):
            detected = detected_over_time(persons[side], found, pictures)
            columns |= _columns(role, clip.output(f"{role}.mp4"), boxes[side], detected, squares[side], paths[side])
        shown, size_px = pictures.pts[pictures.of_frame], self.settings.size_px
        planes = reader.crops(shown, np.stack(paths, axis=1), size_px, pixels="yuv420p")
        _write((heads for _, heads in planes), [columns[f"{role}_video"] for role in roles], size_px)
        return columns

    def _take_over(self, clip: Clip) -> dict[str, Any]:
        """The columns for a pair: boxes are the smallest square around each role's own picture, and none is detected.

        Published crops are square already. Raises `MediaError` where a file does not give its frames.
        """
        found = []
        for role in ROLES:
            reader, size_px = clip.reader(role), self.settings.size_px
            info, times = reader.info(), reader.frame_times()
            still = clip.has_portrait and role != ROLES[0]
            pts = times.pts[:1] if still else map_to_grid(clip.span, times).pts
            kinds = reader.damage(pts)
            self._check_damage(kinds, clip["sound_damaged"])
            half, middle = max(info.width, info.height) / 2, np.array([info.width, info.height]) / 2
            square = np.concatenate([middle - half, middle + half]).astype(np.float32)  # x1, y1, x2, y2
            track = np.tile(square, (len(pts), 1))
            path = clip.output(f"{role}.mp4")
            with VideoWriter(path, (size_px, size_px), pixels="yuv420p") as writer:
                for _, heads in reader.crops(pts, track[:, None], size_px, pixels="yuv420p"):
                    writer.write(heads[0])
            found.append({"source_damaged": kinds > 0})
            found[-1] |= _columns(role, path, track, np.zeros(len(pts), bool), square, track)
        return _together(*found)

    def _check_sound(self, level_dbfs: float | None) -> None:
        """A pair whose speaker is not to be heard is no pair. Asked last: of several reasons, people see the others."""
        if level_dbfs is None:
            raise Reject("no_audio", "the source has no sound track")
        if level_dbfs < self.settings.silence_dbfs:
            expected = f"expected {self.settings.silence_dbfs:g} or more"
            raise Reject("silence", f"mean level {level_dbfs:.1f} dBFS, {expected}")

    def _check_damage(self, kinds: NDArray[np.uint8], unheard: NDArray[np.bool_]) -> None:
        damaged, limit = (kinds > 0) | unheard, self.settings.max_damaged
        if damaged.mean() <= limit:
            return
        where = ", ".join(f"{first}-{stop - 1}" for first, stop in runs(damaged)[:5])
        told = [f"{what} in {count}" for kind, what in DAMAGES.items() if (count := int((kinds == kind).sum()))]
        told += [f"sound in {unheard.sum()}"] if unheard.any() else []
        found = f"{damaged.sum()} of {len(damaged)} frames ({where}): {'; '.join(told)}"
        raise Reject("damaged", f"{found}; expected {limit:.1%} or less", np.flatnonzero(damaged).tolist())

    def _scan(self, reader: SourceReader, pictures: Pictures) -> Scan:
        every_frame = self.settings.policy == "per_frame"
        looked_at = pictures.every(1 if every_frame else self.settings.detect_every)
        search_every = 1 if every_frame else self.settings.search_every
        return scan(
            reader, pictures.pts, looked_at, self.settings.detect_width_px, detector=self._detector,
            min_relative_size=self.settings.min_relative_size, search_every=search_every, watched=True,
        )  # fmt: skip

    def _squares(self, boxes: list[Floats], size_px: Size) -> tuple[list[Floats], list[Floats]]:
        """For every head, left to right, its square (4,) in the clip and the one shown in each frame (frame, 4)."""
        policy, margin = self.settings.policy, self.settings.margin
        squares = [crops.static_square(one, margin, size_px) for one in boxes]
        if len(squares) > 1:
            squares = list(crops.apart(*squares, size_px))
        if policy == "static":
            return squares, [np.tile(square, (len(boxes[0]), 1)) for square in squares]
        sigma_frames = frames_in(self.settings.smooth_s) if policy == "smooth" else 0.0
        return squares, [crops.moving_squares(one, margin, size_px, sigma_frames) for one in boxes]


def _together(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The columns of both roles; a portrait's one picture stands for all frames."""
    return one | other | {"source_damaged": one["source_damaged"] | other["source_damaged"]}


def _columns(role: str, *values: Any) -> dict[str, Any]:
    """The columns of a role from their values, in the order in which they are declared."""
    names = ("video", "box", "box_detected", "crop_box", "crop_track")
    return {f"{role}_{name}": value for name, value in zip(names, values, strict=True)}


def _on_grid(clip: Clip, reader: SourceReader) -> Pictures:
    """The pictures of a film other than the one that `source_frame` is of; `MediaError` where it lacks the clip."""
    times = reader.frame_times()
    return Pictures.of(times, map_to_grid(clip.span, times).source_frame, float(clip.span.end_s))


def _pictures(clip: Clip, times: VideoTimes) -> Pictures:
    return Pictures.of(times, clip["source_frame"], float(clip.span.end_s))


def _write(planes: Iterable[NDArray[np.uint8]], videos: list[Path], size_px: int) -> None:
    """Crops (role, 1.5 size, size) of every frame as one video a role; the encoders run beside the decoder."""
    with ExitStack() as stack:
        writers = [
            stack.enter_context(VideoWriter(path, (size_px, size_px), pixels="yuv420p", **CODING)) for path in videos
        ]
        for heads in planes:
            for writer, head in zip(writers, heads, strict=True):
                writer.write(head)
