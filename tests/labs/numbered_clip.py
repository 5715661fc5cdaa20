"""A built data set whose films say which frame they show, and a prediction: what a browser is held against.

Both clips have a number in every frame, as black and white cells, and a colour a face; a click a second; and columns
that a viewer cannot know: `number` (the frame), `odd`, `pair` and `wide` (2 and 12 values a frame, unknown in frame
3). In the second clip the listener's film lags a frame behind: every check of frames has to notice. A prediction of
the first clip turns the listener's head `TURNED_RAD` too far.
"""

from __future__ import annotations

from pathlib import Path

from tests.labs.toy_build import ToyProject

FRAMES = 150
SIDE_PX = 192
EXACT, SHIFTED = "a_000000_000005", "b_000000_000005"
COLOURS = {"speaker": (220, 60, 40), "listener": (40, 90, 220)}

FILM = f'''"""Films that show their numbers, and columns that say them."""
from fractions import Fraction
import numpy as np
from pipeline.clock import FPS, SAMPLE_RATE_HZ
from pipeline.media.encode import VideoWriter, write_wav
from pipeline.stage import Stage
from schemas.column import Column
from tests.labs.media import clicks, numbered_frame


class Film(Stage):
    reads = ("num_frames",)
    writes = (
        Column("speaker_video", "string", media=True),
        Column("listener_video", "string", media=True),
        Column("audio", "string", media=True),
        Column("number", "float32", ("frame",)),
        Column("odd", "bool", ("frame",)),
        Column("pair", "float32", ("frame", 2)),
        Column("wide", "float32", ("frame", 12)),
        Column("listener_angle", "float32", ("frame", 3), "rad"),
    )

    def process(self, clip):
        frames, shift = np.arange(clip.num_frames), int(clip.clip_id.startswith("b"))
        files = {{}}
        for role, colour in {COLOURS}.items():
            files[role] = clip.output(f"{{role}}.mp4")
            with VideoWriter(files[role], ({SIDE_PX}, {SIDE_PX}), preset="ultrafast") as writer:
                for frame in frames:
                    picture = numbered_frame(max(0, frame - shift * (role == "listener")), ({SIDE_PX}, {SIDE_PX}))
                    picture[{SIDE_PX} // 2 :] = colour
                    writer.write(picture)
        files["audio"] = clip.output("audio.wav")
        times_s = np.arange(clip.num_frames * SAMPLE_RATE_HZ // FPS) / SAMPLE_RATE_HZ
        write_wav(files["audio"], clicks(times_s, tuple(Fraction(second) for second in range(1, 5))))
        wide = np.sin(frames[:, None] / np.arange(3, 15)).astype(np.float32)
        pair = np.stack([frames / 2, -frames], axis=1).astype(np.float32)
        wide[3] = pair[3] = np.nan
        return {{
            "speaker_video": files["speaker"], "listener_video": files["listener"], "audio": files["audio"],
            "number": frames.astype(np.float32), "odd": frames % 2 == 1, "pair": pair, "wide": wide,
            "listener_angle": np.zeros((len(frames), 3), np.float32),
        }}
'''

TURNED_RAD = 0.5
GUESS = f'''"""A listener that always looks down."""
import numpy as np
from pipeline.stage import Stage
from schemas.column import Column


class Guess(Stage):
    reads = ("num_frames",)
    writes = (Column("listener_angle", "float32", ("frame", 3), "rad"),)

    def process(self, clip):
        return {{"listener_angle": np.full((clip.num_frames, 3), {TURNED_RAD}, np.float32)}}
'''


def build_numbered_clips(folder: Path) -> tuple[Path, Path]:
    """The data set and the prediction, each made by a real build with one stage."""
    return _build(folder / "film", FILM, "ab"), _build(folder / "guess", GUESS, "a")


def _build(folder: Path, code: str, sources: str) -> Path:
    folder.mkdir()
    project = ToyProject(folder)
    for stage in project.stages.values():
        stage.unlink()
    project.stages.clear()
    project.add_stage(folder.name, code)
    project.write_clips([f"{source},0,5,left,positive,p,q,train" for source in sources])
    report = project.build()
    assert [row["ok"] for row in report.rows()] == [len(sources)], report.rows()
    return folder / "out"
