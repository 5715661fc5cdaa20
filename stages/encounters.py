"""Stage ``encounters``: who of two people speaks in every frame, where a film shows exactly two.

For mining (`jobs.mine`), whose clips are windows of films. Looks only where the stage `sightings` saw a pair: there
every frame is decoded, once reduced for cuts and faces, once for crops of the two heads. FaceMesh follows both, and
their mouths are set against the sound (`stages.speakers.motion`) or given to LR-ASD. A shot is a unit: nothing of
what is said of a frame leans on frames beyond a cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import tee
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.clock import (
    SAMPLE_RATE_HZ,
    GridMap,
    Span,
    VideoTimes,
    frames_in,
    grid_times_s,
    map_to_grid,
    runs,
    seconds_of,
    whole_frames,
)
from pipeline.media.reader import MEDIA_REASONS, MediaError, SourceReader
from pipeline.stage import Reject, Stage, setting
from schemas.column import FRAME_AXIS, Column
from schemas.identity import DIMENSIONS
from stages.faces.boxes import Floats
from stages.faces.crops import static_square
from stages.faces.detector import FaceDetector
from stages.faces.embedding import dlib_network, facing
from stages.faces.mesh import NUM_POINTS, face_boxes
from stages.faces.people import PairRules
from stages.faces.scan import Pictures, Scan, scan
from stages.faces.shots import Shot, find_shots
from stages.faces.sights import Sight
from stages.faces.tracker import tracker_on

MOTION, LR_ASD = "motion", "lr_asd"
SIDES = 2  # left, right
HEARD_BEFORE_S = Fraction(2)  # before a shot, to know a voice from its first frame on
FACES = 3  # of a person in a shot, with their mirror images, by which he is known elsewhere (docs/people.md)


@dataclass(frozen=True, eq=False)
class Seen:
    """A face in every picture of a shot: FaceMesh's points and some of the pictures."""

    landmarks: Floats  # (picture, 478, 3) in px of the crop, NaN where none is found
    faces: list[tuple[NDArray[np.uint8], Floats]]  # a few that look into the camera, with their points

    @property
    def valid(self) -> NDArray[np.bool_]:
        return np.isfinite(self.landmarks[:, 0, 0])


class Encounters(Stage):
    """Pairs of people in a film, shot by shot: where they are, who they are, who speaks."""

    @dataclass(frozen=True)
    class Settings(PairRules):
        backend: str = setting(MOTION, "motion (embedded) or lr_asd (the user's checkpoint)", choices=(MOTION, LR_ASD))
        min_shot_s: float = setting(2.0, "shots in which two people are seen for less are left alone")
        detect_every: int = setting(15, "look for faces in every k-th frame", least=1)
        search_every: int = setting(
            4, "search the whole frame in every k-th look, else only around known faces", least=1
        )
        detect_width_px: int = setting(640, "look for faces and cuts in frames reduced to this width", least=1)
        crop_px: int = setting(256, "side of the pictures of a head in which its landmarks are looked for", least=1)
        margin: float = setting(1.6, "and that side in heights of the face box")
        min_presence: float = setting(0.9, "probability of a face, by the mesh model, from which it is seen")
        min_detection: float = setting(0.5, "probability of a face from which the mesh model's detector finds it")

    opt_in = True
    version = 4  # FaceMesh without MediaPipe's graph, cuts in pictures that were made small in one step
    reads = ("source", "film_sight")
    writes = (
        Column("pair_sight", "int8", (FRAME_AXIS,), "", "`film_sight` once every frame was looked at"),
        Column("pair_shot", "int32", (FRAME_AXIS,), "1", "shot of two people, counted in the window; -1 in none"),
        Column("pair_voice", "float32", (FRAME_AXIS,), "1", "probability that somebody is heard; 0 outside of shots"),
        Column("pair_speaking", "float32", (FRAME_AXIS, SIDES), "1", "score that the left and the right one speaks"),
        Column("pair_seen", "bool", (FRAME_AXIS, SIDES), "", "whether the face's mesh is found"),
        Column("pair_yaw", "float32", (FRAME_AXIS, SIDES), "rad", "angle by which the head is turned to the side"),
        Column("pair_box", "float32", (FRAME_AXIS, SIDES, 4), "px", "face box in the source: x1, y1, x2, y2"),
        Column("pair_picture", "int32", (2,), "px", "size of the film's picture; 0 where no pair is"),
        Column("pair_faces", "float32", ("shot", SIDES, FACES, DIMENSIONS), "", "embeddings of frontal faces, dlib's"),
    )
    rejects = MEDIA_REASONS

    def weights(self) -> tuple[str, ...]:
        asked = (LR_ASD,) if self.settings.backend == LR_ASD else ()
        return ("mtcnn", "mediapipe_face_mesh", "silero_vad", "dlib_face_recognition", *asked)

    def setup(self, device: str) -> None:
        import cv2  # noqa: F401  # not at the first frame: the engine tells what is loaded here how many threads it has

        from pipeline.weights import find_weights
        from stages.speakers.voice import Voice

        self._detector = FaceDetector(device)
        self._voice = Voice(*find_weights("silero_vad").paths())
        self._network = dlib_network(*find_weights("dlib_face_recognition").paths(), device, mirrored=True)
        if self.settings.backend == LR_ASD:
            from stages.speakers.lr_asd import LrAsd

            self._lr_asd = LrAsd(*find_weights(LR_ASD).paths(), device)
        self._tracker = tracker_on("cpu", self.settings.min_detection, self.settings.min_presence, heads=SIDES)

    def process(self, clip: Clip) -> dict[str, Any]:
        window = _Window(clip.num_frames, clip["film_sight"])
        stretches = runs(clip["film_sight"] == Sight.PAIR)
        try:
            if stretches:
                self._look(clip, clip.reader(), window, stretches)
        except MediaError as error:
            raise Reject(error.reason, error.detail) from error
        return window.columns()

    def _look(self, clip: Clip, reader: SourceReader, window: _Window, stretches: list[tuple[int, int]]) -> None:
        times, _ = reader.times_around(clip.span)
        grid, info = map_to_grid(clip.span, times), reader.info()
        window.picture[:] = info.width, info.height
        for start, end in stretches:
            if end - start < self._fewest:
                window.sight[start:end] = Sight.SHORT_SHOT
                continue
            pictures = _pictures(grid, times, start, end)
            found = self._scan(reader, pictures)
            for shot in find_shots(found, pictures, (info.width, info.height), self.settings):
                frames = start + np.flatnonzero((pictures.of_frame >= shot.start) & (pictures.of_frame < shot.end))
                sight = Sight.SHORT_SHOT if shot.pair and len(frames) < self._fewest else shot.sight
                window.sight[frames] = sight
                if sight == Sight.PAIR:
                    shown = pictures.of_frame[frames - start] - shot.start
                    sound, voice = self._heard(reader, clip.span, frames)
                    self._follow(reader, shot, found, pictures, window, frames, shown, sound, voice)

    @property
    def _fewest(self) -> float:
        return frames_in(self.settings.min_shot_s)

    def _heard(self, reader: SourceReader, span: Span, frames: NDArray[np.intp]) -> tuple[Floats, NDArray[np.float32]]:
        """The sound of a shot at 16 kHz, and the probability (frame,) that somebody is heard in it."""
        import soxr

        from stages.speakers.mfcc import RATE_HZ
        from stages.speakers.voice import at_times

        first, num_frames = int(frames[0]), len(frames)
        before = min(first, whole_frames(HEARD_BEFORE_S))
        around = Span(span.frame_time(first - before), span.frame_time(first + num_frames))
        sound: Floats = soxr.resample(reader.audio(around, exact=False), SAMPLE_RATE_HZ, RATE_HZ)
        voice = at_times(self._voice.probability(sound), grid_times_s(before + num_frames))
        return sound[int(seconds_of(before) * RATE_HZ) :], voice[before:]

    def _scan(self, reader: SourceReader, pictures: Pictures) -> Scan:
        looked_at, settings = pictures.every(self.settings.detect_every), self.settings
        return scan(
            reader, pictures.pts, looked_at, settings.detect_width_px, detector=self._detector,
            min_relative_size=settings.min_relative_size, search_every=settings.search_every,
        )  # fmt: skip

    def _follow(
        self,
        reader: SourceReader,
        shot: Shot,
        found: Scan,
        pictures: Pictures,
        window: _Window,
        frames: NDArray[np.intp],
        shown: NDArray[np.intp],
        sound: Floats,
        voice: NDArray[np.float32],
    ) -> None:
        """Look at both heads in every picture of a shot; ``shown`` are the shot's pictures in the window's frames."""
        info = reader.info()
        boxes = [shot.boxes(side, found, pictures) for side in range(SIDES)]
        squares = np.stack([static_square(one, self.settings.margin, (info.width, info.height)) for one in boxes])
        pts = pictures.pts[shot.start : shot.end]
        seen = self._seen(reader, pts, squares)
        if self.settings.backend == LR_ASD:
            scores = self._by_network(reader, pts, squares, seen, pictures.times_s[shot.start : shot.end], shown, sound)
        else:
            scores = _by_motion(seen, shown, sound, voice)
        window.sight[frames[shot.intruded(found, self.settings.min_relative_size)[shown]]] = Sight.CROWD
        window.shot[frames] = len(window.faces)
        window.voice[frames] = voice
        window.speaking[frames] = scores.T
        for side, face in enumerate(seen):
            window.seen[frames, side] = face.valid[shown]
            window.yaw[frames, side] = shot.yaw_rad(side, found, pictures)[shown]
            window.box[frames, side] = boxes[side][shown]
        window.faces.append(np.stack([self._embeddings(face.faces) for face in seen]))

    def _embeddings(self, faces: list[tuple[NDArray[np.uint8], Floats]]) -> Floats:
        """Of a person in a shot, (3, 128); NaN where he is seen less often."""
        embeddings = np.full((FACES, DIMENSIONS), np.nan, np.float32)
        if faces:
            embeddings[: len(faces)] = self._network(faces)
        return embeddings

    def _seen(self, reader: SourceReader, pts: NDArray[np.int64], squares: Floats) -> list[Seen]:
        """Both faces in the pictures of a shot, whose crops are not kept but for a few."""
        squares_of = np.broadcast_to(squares, (len(pts), *squares.shape))
        shown, looked = tee(heads for _, heads in reader.crops(pts, squares_of, self.settings.crop_px))
        landmarks = np.full((SIDES, len(pts), NUM_POINTS, 3), np.nan, np.float32)
        best: list[dict[int, tuple[float, NDArray[np.uint8], int]]] = [{} for _ in range(SIDES)]
        for picture, (heads, points) in enumerate(zip(shown, self._tracker.along(looked), strict=True)):
            landmarks[:, picture] = points
            third = picture * FACES // len(pts)
            for side, rgb in enumerate(heads):
                towards = float(facing(points[side : side + 1])[0])
                if towards > best[side].get(third, (0.0,))[0]:
                    best[side][third] = (towards, rgb, picture)
        return [
            Seen(landmarks[side], [(rgb, landmarks[side, picture]) for _, rgb, picture in best[side].values()])
            for side in range(SIDES)
        ]

    def _by_network(
        self,
        reader: SourceReader,
        pts: NDArray[np.int64],
        squares: Floats,
        seen: list[Seen],
        times_s: NDArray[np.float64],
        shown: NDArray[np.intp],
        sound: Floats,
    ) -> NDArray[np.float32]:
        """Scores (side, frame) by LR-ASD, on crops of its own."""
        from stages.speakers import lr_asd

        instants = np.arange(int((len(shown) - 1) * lr_asd.FILM_HZ / frames_in(1)) + 1) / lr_asd.FILM_HZ
        wanted = shown[np.rint(frames_in(instants)).astype(np.intp)]  # the picture nearest to each of its
        scores = np.zeros((SIDES, len(shown)), np.float32)
        for side, face in enumerate(seen):
            if not face.valid.any():
                continue
            squares_of = np.broadcast_to(squares[side : side + 1], (len(wanted), 1, 4))
            crops = (heads[0] for _, heads in reader.crops(pts[wanted], squares_of, self.settings.crop_px))
            boxes = face_boxes(face.landmarks, face.valid)
            found = self._lr_asd.scores(lr_asd.crops(crops, boxes[wanted]), sound)
            scores[side] = np.interp(np.arange(len(shown)) / frames_in(1), instants, found)
        return scores


class _Window:
    """The columns of a window in the making."""

    def __init__(self, num_frames: int, sight: NDArray[np.int8]) -> None:
        self.sight = sight.copy()
        self.shot = np.full(num_frames, -1, np.int32)
        self.voice = np.zeros(num_frames, np.float32)
        self.speaking = np.zeros((num_frames, SIDES), np.float32)
        self.seen = np.zeros((num_frames, SIDES), bool)
        self.yaw = np.zeros((num_frames, SIDES), np.float32)
        self.box = np.zeros((num_frames, SIDES, 4), np.float32)
        self.picture = np.zeros(2, np.int32)
        self.faces: list[Floats] = []

    def columns(self) -> dict[str, Any]:
        faces = np.stack(self.faces) if self.faces else np.zeros((0, SIDES, FACES, DIMENSIONS), np.float32)
        names = ("sight", "shot", "voice", "speaking", "seen", "yaw", "box", "picture")
        return {**{f"pair_{name}": getattr(self, name) for name in names}, "pair_faces": faces}


def _by_motion(
    seen: list[Seen], shown: NDArray[np.intp], sound: Floats, voice: NDArray[np.float32]
) -> NDArray[np.float32]:
    from stages.speakers import motion

    evidences = [motion.evidence(motion.mouth(face.landmarks)[shown], sound) for face in seen]
    return motion.speaking(np.array(evidences), voice)


def _pictures(grid: GridMap, times: VideoTimes, start: int, end: int) -> Pictures:
    """The different frames of the source that some frames of a window show."""
    shown = grid.source_frame[start:end]
    return Pictures.of(times, shown, float(times.time_s(int(shown[-1]))))
