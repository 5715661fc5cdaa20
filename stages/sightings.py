"""Stage ``sightings``: where in a film two people may be on the screen, at the price of a few frames.

For mining (`jobs.mine`), whose clips are windows of films. Faces are looked for in keyframes first, on reduced
pictures: an encoder puts one at a cut, and no other frame has to be decoded. What lies between two keyframes may show a
pair if the first does, or the second and the picture is the same. Where keyframes lie so far apart that a pair may have
come between them, frames between them are decoded as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.clock import VideoTimes, grid_times_s, map_to_grid
from pipeline.media.reader import MEDIA_REASONS, MediaError, SourceReader
from pipeline.stage import Reject, Stage, setting
from schemas.column import FRAME_AXIS, Column
from stages.faces.cuts import MIN_COLOUR_STEP, colour_step, colours_of
from stages.faces.detector import FaceDetector, ladder_face_px
from stages.faces.people import PairRules
from stages.faces.scan import MIN_FACE_PX
from stages.faces.sights import Sight, glance, smallest_face_px

Look = tuple[Sight, NDArray[np.float32]]  # what a frame shows, and the distribution of its colours


class Sightings(Stage):
    """What a film shows, by faces in its keyframes (MTCNN): a pair, or the reason why there is none."""

    @dataclass(frozen=True)
    class Settings(PairRules):
        look_every_s: float = setting(1.0, "keyframes closer to each other are passed over", least=0.1)
        unseen_s: float = setting(10.0, "longest time between keyframes that are believed for what lies between")
        changed_s: float = setting(4.0, "and of those that differ, the first without a pair; else a look amid")
        unseen_look_s: float = setting(2.0, "where they lie further apart than unseen_s, time between looks", least=0.1)
        detect_width_px: int = setting(640, "look in frames reduced to this width", least=1)
        max_gap_s: float = setting(0.25, "longest time for which the film may show one and the same frame")

    version = 3  # another reduction
    opt_in = True
    reads = ("source",)
    writes = (
        Column("film_sight", "int8", (FRAME_AXIS,), "", "what the film shows, a code of `stages.faces.sights.Sight`"),
        Column("film_looks", "int32", (), "1", "looks taken"),
    )
    rejects = MEDIA_REASONS
    weights = ("mtcnn",)

    def setup(self, device: str) -> None:
        import cv2  # noqa: F401  # not at the first frame: the engine tells what is loaded here how many threads it has

        self._detector = FaceDetector(device)

    def process(self, clip: Clip) -> dict[str, Any]:
        try:
            return self._look(clip, clip.reader())
        except MediaError as error:
            raise Reject(error.reason, error.detail) from error

    def _look(self, clip: Clip, reader: SourceReader) -> dict[str, Any]:
        info = reader.info()
        if info.audio is None:
            raise Reject("no_audio", "the film has no sound track: nobody is to be heard")
        times, is_key = reader.times_around(clip.span)
        width_px = min(self.settings.detect_width_px, info.width)
        scale = info.width / width_px
        size = width_px, round(info.height / scale)
        seconds = (times.pts - times.pts[0]) * float(times.time_base)
        keys = self._keyframes(seconds, is_key)
        keyframes = bool(is_key[keys].all())
        try:
            found = self._looks(reader.frames(times.pts[keys], size, keyframes=keyframes), scale)
        except MediaError:
            if not keyframes:
                raise
            # keyframes that lean on others
            found = self._looks(reader.frames(times.pts[keys], size), scale)
        seen = dict(zip(keys, found, strict=True))
        amid, unseen = self._between(seconds, keys, found)
        seen |= zip(amid, self._looks(reader.glances(times.pts[amid], size), scale), strict=True)
        for places in unseen:
            seen |= zip(places, self._looks(reader.frames(times.pts[places], size), scale), strict=True)
        looks = np.array(sorted(seen))
        new_shot = self._new_shots(times, is_key, looks, [seen[look][1] for look in looks])
        sights = np.array([seen[look][0] for look in looks], np.int8)
        return {"film_sight": self._of_frames(clip, times, looks, sights, new_shot), "film_looks": np.int32(len(looks))}

    def _keyframes(self, seconds: NDArray[np.float64], is_key: NDArray[np.bool_]) -> list[int]:
        """The first frame and the keyframes to look at, rising."""
        places, every_s = [0], self.settings.look_every_s
        keys = np.flatnonzero(is_key)
        lasting = keys[np.diff(seconds[keys], append=np.inf) >= every_s]  # no other follows soon
        for place in keys[keys > 0]:
            if seconds[place] - seconds[places[-1]] >= every_s or place in lasting:
                places.append(int(place))
        return places

    def _between(
        self, seconds: NDArray[np.float64], keys: list[int], seen: list[Look]
    ) -> tuple[list[int], list[list[int]]]:
        """Frames to look at between two of ``keys``, or after the last one, which are not to be believed for them.

        Single ones that lie far apart, and runs of them.
        """
        last, every_s = len(seconds) - 1, self.settings.unseen_look_s
        amid, unseen = [], []
        for place, (first, end) in enumerate(pairwise([*keys, last])):
            (sight, colours), after = seen[place], seen[place + 1 : place + 2]
            gap_s = seconds[end] - seconds[first]
            changed = not after or after[0][0] != sight or colour_step(colours, after[0][1]) >= MIN_COLOUR_STEP
            if gap_s > self.settings.unseen_s:
                looks_s = np.arange(seconds[first] + every_s, seconds[end], every_s)
                unseen.append(np.unique(np.searchsorted(seconds, looks_s)).tolist())
            elif gap_s > self.settings.changed_s and changed and sight != Sight.PAIR:
                amid.append((first + end) // 2)
        return amid, unseen

    def _looks(self, frames: Iterator[tuple[int, NDArray[np.uint8]]], scale: float) -> list[Look]:
        found, smallest_px = [], ladder_face_px(max(MIN_FACE_PX, smallest_face_px(self.settings) / scale))
        for _, frame in frames:
            (faces,) = self._detector.detect(frame[None], smallest_px)
            found.append((glance(faces.scaled(scale), self.settings), colours_of(frame)))
        return found

    def _new_shots(
        self, times: VideoTimes, is_key: NDArray[np.bool_], looks: NDArray[np.intp], colours: list[NDArray[np.float32]]
    ) -> NDArray[np.bool_]:
        """Whether each look (look,) is at a shot's first frame: a keyframe of another picture than the look before.

        Where keyframes come at equal distances, an encoder has put them where no cut need be.
        """
        found = np.zeros(len(looks), bool)
        spacing_s = np.diff(times.pts[is_key]) * float(times.time_base)
        if len(spacing_s) and np.ptp(spacing_s) > self.settings.max_gap_s:
            steps = [colour_step(*pair) for pair in pairwise(colours)]
            found[1:] = is_key[looks[1:]] & (np.array(steps) >= MIN_COLOUR_STEP)
        return found

    def _of_frames(
        self,
        clip: Clip,
        times: VideoTimes,
        looks: NDArray[np.intp],
        sights: NDArray[np.int8],
        new_shot: NDArray[np.bool_],
    ) -> NDArray[np.int8]:
        """The sight of every frame: a pair if the look before saw one, or the one after in the same shot."""
        grid = map_to_grid(clip.span, times)
        before = (np.searchsorted(looks, grid.source_frame, side="right") - 1).clip(0)
        after = (before + 1).clip(max=len(looks) - 1)
        same_shot_after = (sights == Sight.PAIR) & ~new_shot
        sight = np.where(same_shot_after[after], sights[after], sights[before])
        shown_s = grid.pts * float(times.time_base) - float(times.origin_s) - float(clip.span.start_s)
        away_s = np.abs(shown_s - grid_times_s(clip.num_frames))
        return np.where(away_s > self.settings.max_gap_s / 2, Sight.NO_PICTURE, sight).astype(np.int8)
