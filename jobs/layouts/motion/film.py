"""Films of clips on another clock."""

from __future__ import annotations

from pathlib import Path

import av.error
import numpy as np
from PIL import Image

from pipeline.clock import frames_at
from pipeline.dataset.read import media_file
from pipeline.dataset.storage import Location, local_file
from pipeline.media.encode import VideoWriter, read_video
from schemas.errors import UserError


def write_film(dataset: Location, relative: str, num_frames: int, path: Path, size_px: int, fps: int) -> None:
    """Write the film that a media column names at another rate, square: of each frame the one nearest in time.

    `UserError` if it cannot be read, or has other frames than the clip.
    """
    shown = frames_at(num_frames, fps)
    times = np.bincount(shown, minlength=num_frames)  # how often each frame is shown
    with local_file(media_file(dataset, relative)) as file, VideoWriter(path, (size_px, size_px), fps=fps) as writer:
        try:
            count = 0
            for count, frame in enumerate(read_video(file), start=1):
                if count > num_frames or not times[count - 1]:
                    continue
                if frame.shape[:2] != (size_px, size_px):
                    frame = np.asarray(Image.fromarray(frame).resize((size_px, size_px), Image.Resampling.BICUBIC))
                for _ in range(times[count - 1]):
                    writer.write(frame)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise UserError(f"{relative}: cannot be read: {error}; build the clip again") from None
        if count != num_frames:
            raise UserError(f"{relative}: expected {num_frames} frames, found {count}; build the clip again")
