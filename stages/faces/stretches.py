"""Head videos followed in stretches side by side, to the points of one track from the first frame to the last.

FaceMesh looks where the face was in the frame before, so a video is followed frame by frame, while its network takes a
third less time for each of eight pictures than for each of two. So every video is followed from several frames on at
once, from each with a face that is detected anew. Afterwards the track of every stretch goes on into the next one,
until both are the same, which takes a few frames. Where they are not, that stretch is about another face, or about a
hand, and the rest of the video is followed from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.media.encode import GOP_FRAMES, OwnVideo
from stages.faces.mesh_batch import MeshTracker, square_around

AT_ONCE = 4  # stretches of a video
ONE_TRACK_PX = 0.05  # mean distance of points; what a track parts by from MediaPipe's
SAME_FACE_PX = 2.0
JOINING_FRAMES = 8  # after which tracks of one face are the same


class _Stretch:
    """Some frames of a video and their points."""

    def __init__(self, video: OwnVideo, frames: range) -> None:
        self.video, self.frames = video, frames
        self.begin: list[NDArray[np.uint8]] = []
        self.points = np.empty((0, 0, 3), np.float32)

    def read(self) -> Iterator[NDArray[np.uint8]]:
        for frame in self.video.rgb(self.frames):
            if self.frames.start and len(self.begin) < JOINING_FRAMES:
                self.begin.append(frame)
            yield frame


def follow_in_stretches(tracker: MeshTracker, videos: Sequence[OwnVideo]) -> list[NDArray[np.float32]]:
    """Points of all frames of every video, float32 (frame, 478, 3) in px, NaN where there is no face."""
    of_videos = [[_Stretch(video, frames) for frames in stretches(video.num_frames)] for video in videos]
    everything = [stretch for of_video in of_videos for stretch in of_video]
    for stretch, points in zip(everything, tracker.follow([one.read() for one in everything]), strict=True):
        stretch.points = points
    joints = [joint for of_video in of_videos for joint in pairwise(of_video)]
    strangers = _join(tracker, joints)
    return [_whole(tracker, of_video, strangers) for of_video in of_videos]


def stretches(num_frames: int) -> list[range]:
    """Frames of the stretches of a video, equally long: none leaves the network with room that nobody takes."""
    count = min(AT_ONCE, -(-num_frames // GOP_FRAMES))
    return [range(*ends) for ends in pairwise(num_frames * number // count for number in range(count + 1))]


def _join(tracker: MeshTracker, joints: Sequence[tuple[_Stretch, _Stretch]]) -> set[_Stretch]:
    """Carry every track on into the next stretch until both are the same; stretches where they never are."""
    ends = [torch.from_numpy(before.points[-1:]) for before, _ in joints]
    running = [(stretch, square_around(end)[0]) for (_, stretch), end in zip(joints, ends, strict=True)]
    for place in range(JOINING_FRAMES):
        running = [one for one in running if one[1].isfinite().all() and place < len(one[0].begin)]
        if not running:
            return set()
        frames = [stretch.begin[place] for stretch, _ in running]
        points, squares = tracker.look(frames, torch.stack([square for _, square in running]))
        parted = []
        for (stretch, _), seen, square in zip(running, points.cpu().numpy(), squares, strict=True):
            apart = _apart_px(seen, stretch.points[place])
            if not (apart <= ONE_TRACK_PX or np.isnan(seen).any()):  # the detector finds out about a track that breaks
                stretch.points[place] = seen
                parted.append((stretch, square, apart))
        running = [(stretch, square) for stretch, square, _ in parted]
    return {stretch for stretch, _, apart in parted if not apart <= SAME_FACE_PX}


def _apart_px(points: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """NaN where one of them is."""
    return float(np.linalg.norm((points - others)[:, :2], axis=1).mean())


def _whole(tracker: MeshTracker, of_video: Sequence[_Stretch], strangers: set[_Stretch]) -> NDArray[np.float32]:
    """The points of a video; from the first stretch on that is about something else it is followed in one."""
    found: list[NDArray[np.float32]] = []
    for stretch in of_video:
        if stretch in strangers:
            rest = range(stretch.frames.start, of_video[-1].frames.stop)
            square = square_around(torch.from_numpy(found[-1][-1:]))
            return np.concatenate([*found, *tracker.follow([stretch.video.rgb(rest)], square)])
        found.append(stretch.points)
    return np.concatenate(found)
