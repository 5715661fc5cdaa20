"""Tell who is who in films and pictures: ``python -m jobs.study.who_is_who FOLDER``, the table of docs/people.md.

Anything with faces will do: conversations, single heads, portraits, groups. Of a film at most its first 40 s count. A
track's faces are the ones that look most straight into the camera in `FACES` equal stretches of it; a picture shows
each of its faces once, all at the same time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jobs.command import command, option
from pipeline.media.reader import MediaError, SourceReader
from pipeline.tables import aligned
from pipeline.weights import find_weights
from schemas.errors import UserError
from stages.faces.boxes import centres
from stages.faces.crops import heads
from stages.faces.detector import FaceDetector
from stages.faces.embedding import dlib_network
from stages.faces.identities import MERGE, People, Track, who_is_who
from stages.faces.people import MIN_PROBABILITY, FaceTrack, link, yaw_rad
from stages.faces.people_table import write_people
from stages.faces.scan import scan
from stages.faces.tracker import Tracker

FILMS, PICTURES = (".mp4", ".mpg", ".avi", ".mkv", ".mov", ".webm"), (".jpg", ".jpeg", ".png")
LONGEST_S, LOOK_S = 40.0, 0.4
FACES = 5
MIN_FACE_PX = 60.0  # smaller ones, blurred, look like each other
MIN_LOOKS = 2
WIDTH_PX, CROP_PX, PICTURE_PX = 640, 256, 1000
REACH = 1.15  # side of a crop in those of the head


class Eyes:
    """Finds faces in films and pictures and tells whose they are."""

    def __init__(self) -> None:
        self._detector = FaceDetector()
        self._mesh = Tracker(min_detection=0.5, min_presence=0.9)
        self._network = dlib_network(*find_weights("dlib_face_recognition").paths(), "cpu", mirrored=True)

    def film(self, path: Path, name: str) -> Iterator[Track]:
        """The face tracks of a film's beginning."""
        with SourceReader(path) as reader:
            info, times = reader.info(), reader.frame_times()
            times_s = np.array([float(times.time_s(row) - times.time_s(0)) for row in range(len(times.pts))])
            times_s = times_s[times_s < LONGEST_S]
            pts = times.pts[: len(times_s)]
            looked = np.unique(np.searchsorted(times_s, np.arange(0, times_s[-1], LOOK_S)))
            how = {"detector": self._detector, "min_relative_size": 0.3, "search_every": 3}
            found = scan(reader, pts, looked, WIDTH_PX, **how)
            edges = [0, *(cut.frame for cut in found.cuts.picture_cuts()), len(pts)]
            for start, end in zip(edges, edges[1:], strict=False):
                rows = np.flatnonzero((looked >= start) & (looked < end))
                for number, track in enumerate(link([found.looks[row] for row in rows])):
                    seen = looked[rows[track.looks]]
                    if len(seen) < MIN_LOOKS or not _is_face(track):
                        continue
                    best = _most_frontal(track)
                    squares = _squares(track.boxes[best])[:, None]
                    crops = [one[0] for _, one in reader.crops(pts[seen[best]], squares, CROP_PX)]
                    last_s = times_s[min(seen[-1] + 1, len(times_s) - 1)]
                    place = float(track.centre_px[0]) / info.width
                    yield from self._track(name, f"{start}-{number}", times_s[seen[0]], last_s, place, crops)

    def picture(self, path: Path, name: str) -> Iterator[Track]:
        """The faces of a picture."""
        import cv2
        from PIL import Image

        rgb = np.asarray(Image.open(path).convert("RGB"))
        scale = max(1.0, max(rgb.shape) / PICTURE_PX)
        small = cv2.resize(rgb, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
        (faces,) = self._detector.detect(small[None])
        for number in range(len(faces)):
            face = faces.scaled(scale).take(number)
            track = FaceTrack([0], [face])
            if _is_face(track):
                crop = _cut(rgb, _squares(face.boxes)[0])
                yield from self._track(name, str(number), 0.0, 1.0, float(track.centre_px[0]) / rgb.shape[1], [crop])

    def _track(self, film: str, name: str, start_s: float, end_s: float, x: float, crops: list) -> Iterator[Track]:
        faces = []
        for crop in crops:
            (points,) = self._mesh.follow([crop])
            if points is not None:
                faces.append((crop, points))
        if faces:
            yield Track(film, name, float(start_s), float(end_s), x, self._network(faces))


def _is_face(track: FaceTrack) -> bool:
    sure = np.median([float(face.probabilities[0]) for face in track.faces]) >= MIN_PROBABILITY
    return bool(sure and track.size_px >= MIN_FACE_PX)


def _most_frontal(track: FaceTrack) -> list[int]:
    yaw = np.abs(yaw_rad(np.concatenate([face.points for face in track.faces])))
    stretches = np.array_split(np.arange(len(yaw)), FACES)
    return [int(some[yaw[some].argmin()]) for some in stretches if len(some)]


def _squares(boxes: np.ndarray) -> np.ndarray:
    """Squares (face, 4) around the heads of face boxes."""
    reached = heads(boxes)
    half = REACH / 2 * (reached[:, 2:] - reached[:, :2]).max(axis=1, keepdims=True)
    return np.concatenate([centres(reached) - half, centres(reached) + half], axis=1).astype(np.float32)


def _cut(rgb: np.ndarray, square: np.ndarray) -> np.ndarray:
    """A square of a picture, black beyond it."""
    from PIL import Image

    part = Image.fromarray(rgb).crop(tuple(round(float(edge)) for edge in square))
    return np.asarray(part.resize((CROP_PX, CROP_PX), Image.Resampling.BILINEAR))


def _tracks(folders: Sequence[Path]) -> Iterator[Track]:
    eyes = Eyes()
    found = [(folder, path) for folder in folders for path in sorted(folder.rglob("*"))]
    for folder, path in found:
        name = Path(folder.name, path.relative_to(folder)).as_posix()
        try:
            if path.suffix.lower() in FILMS:
                yield from eyes.film(path, name)
            elif path.suffix.lower() in PICTURES:
                yield from eyes.picture(path, name)
        except MediaError as error:
            print(f"{name}: left out: {error}")


def _table(people: People) -> list[list[str]]:
    """A row a person, who is seen most often first: files, spread, and the nearest other person."""
    rows = [["person", "looks", "spread", "nearest", "distance", "seen in"]]
    for person in sorted(people.persons, key=lambda person: (-len(person.looks), person.name)):
        films = sorted({f"{look.film} at {look.x:.2f}" for look in person.looks})
        told = [f"{person.spread:.3f}", person.nearest, f"{person.distance:.3f}"]
        rows.append([person.name, str(len(person.looks)), *told, ", ".join(films)])
    return rows


@command(
    option("folders", type=Path, nargs="+", help="films and pictures, in folders of them too"),
    option("--out", type=Path, help="write people.csv and people.parquet into this folder"),
)
def main(options: argparse.Namespace) -> None:
    """Tell who is who in a folder of films and pictures."""
    for folder in options.folders:
        if not any(path.suffix.lower() in (*FILMS, *PICTURES) for path in folder.rglob("*")):
            raise UserError(f"{folder}: expected a folder of films ({' '.join(FILMS)}) and pictures; name another")
    people = who_is_who(list(_tracks(options.folders)))
    print(aligned(_table(people)))
    for doubt in people.doubts:
        both = " and ".join(f"{look.person} ({look.film} at {look.x:.2f})" for look in (doubt.one, doubt.other))
        told = "may be one person" if doubt.kind == MERGE else "are taken for one and may be two"
        print(f"{doubt.distance:.3f} {both} {told}")
    if options.out:
        write_people(options.out, people)
