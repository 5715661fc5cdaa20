"""What a clip gives its stages: readers that its source's next clip goes on with."""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.part import run_here
from tests.labs.media import Recipe, make_source
from tests.labs.toy_build import ToyProject

HANDED_ON = 3  # instead of more, for the test's sake
NUM_CLIPS = HANDED_ON + 2
READS = '''"""Who decodes a clip, and what it shows."""
import numpy as np
from pipeline.clock import map_to_grid
from pipeline.stage import Stage
from schemas.column import Column


class Reads(Stage):
    reads = ("source",)
    writes = (Column("child", "int64"), Column("red", "uint8", ("frame",)))

    def process(self, clip):
        reader = clip.reader()
        pts = map_to_grid(clip.span, reader.frame_times()).pts
        red = [rgb[24, 32, 0] for _, rgb in reader.frames(pts)]
        return {"child": np.int64(reader._child.pid), "red": np.array(red, np.uint8)}
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyProject:
    """Two films, more clips of one of them than a child reads."""
    monkeypatch.setattr("pipeline.clip.HANDED_ON", HANDED_ON)
    project = ToyProject(tmp_path)
    for name, tint in (("a", 10), ("b", 200)):
        recipe = Recipe(".mp4", {"vcodec": "libx264"}, num_frames=25 * (NUM_CLIPS + 1), size=(64, 48))
        frames = b"".join(np.full((48, 64, 3), tint + n % 40, np.uint8).tobytes() for n in range(recipe.num_frames))
        made = make_source(tmp_path / f"film_{name}", recipe, frames)
        made.replace(tmp_path / f"{name}.bin")
    starts = [("a", second) for second in range(NUM_CLIPS)] + [("b", 0), ("b", 1)]
    project.write_clips([f"{name},{second},{second + 1},left,,p,q,train" for name, second in starts])
    for name in ("wave", "peak"):
        project.stages.pop(name).unlink()
    project.add_stage("reads", READS)
    return project


def read(toy: ToyProject, out: str) -> dict[str, dict[str, Any]]:
    """Clip -> what the stage said of it."""
    build = toy.prepare(out)
    survey = build.survey()
    build.run(survey, run_here)
    columns = build.pipeline.written["reads"]
    files = [build.store.read_columns("reads", part.name, columns) for part in survey.parts]
    return {clip_id: row for rows in files for clip_id, row in rows.items()}


def test_clips_of_a_source_have_one_child_after_another_and_none_is_left(toy: ToyProject) -> None:
    rows = read(toy, "out")
    assert len(rows) == NUM_CLIPS + 2
    children = [(clip_id[0], int(row["child"])) for clip_id, row in rows.items()]
    lives = [(*child, len([*clips])) for child, clips in groupby(children)]
    assert [(film, clips) for film, _, clips in lives] == [("a", HANDED_ON), ("a", 2), ("b", 2)]
    for _, child, _ in lives:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_a_clip_is_read_as_by_a_child_of_its_own(toy: ToyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    handed_on = read(toy, "handed_on")
    monkeypatch.setattr("pipeline.clip.HANDED_ON", 1)
    alone = read(toy, "alone")
    assert len({int(row["child"]) for row in alone.values()}) == len(alone) == NUM_CLIPS + 2
    for clip_id, row in alone.items():
        np.testing.assert_array_equal(handed_on[clip_id]["red"], row["red"])
        assert (row["red"] > 150).all() == (clip_id[0] == "b")
