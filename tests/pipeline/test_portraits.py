"""Clips with a picture of the listener in place of a video: what the engine keeps of them, and what readers get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.check import check_dataset
from pipeline.dataset.read import read_clips, read_description
from pipeline.manifest.load import load_manifest
from schemas.errors import UserError
from tests.labs.toy_build import ToyOfSources, computed, shard_bytes

LOOK = '''"""Columns of both people's frames, as many as there are of each, a file and a column that is of no frames."""
import numpy as np
from pipeline.stage import Stage
from schemas.column import ROLES, Column, per_role


class Look(Stage):
    reads = ("source",)
    writes = per_role(
        Column("{role}_wave", "float32", ("frame", 2)),
        Column("{role}_file", "string", media=True),
        Column("{role}_mean", "float32", (2,)),
    )

    def process(self, clip):
        columns = {}
        for role in ROLES:
            rows = 1 if clip.has_portrait and role == "listener" else clip.num_frames
            file = clip.output(f"{role}.txt")
            file.write_bytes(clip.source.listener.read_bytes() if rows == 1 else b"film")
            wave = np.arange(2 * rows, dtype=np.float32).reshape(-1, 2)
            columns |= {f"{role}_wave": wave, f"{role}_file": file, f"{role}_mean": wave.mean(axis=0)}
        return columns
'''
LATER = '''"""Reads what another stage found of the frames, and knows nothing of pictures."""
from pipeline.stage import Stage
from schemas.column import ROLES, Column, per_role


class Later(Stage):
    reads = ("listener_wave", "speaker_wave", "listener_file")
    writes = per_role(Column("{role}_doubled", "float32", ("frame", 2)))

    def process(self, clip):
        assert clip.path("listener_file").is_file()
        return {f"{role}_doubled": 2 * clip[f"{role}_wave"] for role in ROLES}
'''
FILM, PICTURED = "a,0,1,left,,,,train", "b,0,1,,positive,,,test"
NAMES = ["listener_wave", "listener_file", "listener_mean", "speaker_wave"]


class Portraits(ToyOfSources):
    """A film of two people, and one of a speaker with a picture of the listener."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.add_stage("look", LOOK)
        (folder / "face.png").write_bytes(b"picture")

    rows = (FILM, PICTURED)
    sources = 'portrait = "face.png"\n'


@pytest.fixture
def project(tmp_path: Path) -> Portraits:
    return Portraits(tmp_path)


def test_the_listeners_columns_are_null_and_the_portraits_hold_what_the_picture_shows(project: Portraits) -> None:
    project.build()
    data = project.folder / "out"
    assert not list(check_dataset(data))
    names = [name for name in read_description(data).packed if name.startswith(("listener_", "portrait_"))]
    film, pictured = read_clips(data, names, portraits="leave")
    assert film["listener_wave"].shape == (30, 2) and film["portrait_wave"] is None and film["portrait_file"] is None
    assert pictured["listener_wave"] is None and pictured["listener_file"] is None
    np.testing.assert_array_equal(pictured["portrait_wave"], [[0, 1]])
    np.testing.assert_array_equal(pictured["listener_mean"], [0, 1])  # of no frames: where it always is
    assert (data / pictured["portrait_file"]).read_bytes() == b"picture"
    assert "portrait_mean" not in names


def test_a_reader_says_what_it_lacks_or_takes_the_picture_in_place_of_a_film(project: Portraits) -> None:
    project.build()
    data = project.folder / "out"
    with pytest.raises(UserError, match="clip b_000000_000001 has a picture of its listener and no video.*_wave"):
        list(read_clips(data, NAMES))
    assert [row["clip_id"][0] for row in read_clips(data, ["speaker_wave", "listener_mean"])] == ["a", "b"]
    assert [len(row["listener_wave"]) for row in read_clips(data, NAMES, portraits="take")] == [30, 1]
    assert [row["clip_id"][0] for row in read_clips(data, NAMES, ["train"])] == ["a"]


def test_a_stage_that_knows_nothing_of_pictures_reads_and_writes_one_row_of_them(project: Portraits) -> None:
    project.build()
    project.add_stage("later", LATER)  # its columns come from the files of the build before
    assert computed(project.build()) == {"later": 2}
    film, pictured = read_clips(project.folder / "out", ["listener_doubled", "speaker_doubled"], portraits="take")
    assert [len(film["listener_doubled"]), len(pictured["speaker_doubled"])] == [30, 30]
    np.testing.assert_array_equal(pictured["listener_doubled"], [[0, 2]])
    assert computed(project.build()) == {}


def test_a_data_set_without_pictures_has_no_column_of_them_and_another_picture_is_another_clip(
    project: Portraits,
) -> None:
    project.build()
    before = shard_bytes(project.folder / "out")
    (project.folder / "face.png").write_bytes(b"another picture")
    assert computed(project.build()) == {"look": 1}
    assert shard_bytes(project.folder / "out").keys() == before.keys()
    project.rows, project.sources = (FILM,), ""
    project.build("plain")
    assert not [name for name in read_description(project.folder / "plain").packed if "portrait" in name]


@pytest.mark.parametrize(
    ("more", "row", "complaint"),
    [
        (
            'portrait = "face.png"\nlistener = "a.bin"\n',
            PICTURED,
            "allowed: one of path, url, youtube, or speaker with",
        ),
        ('portrait = "absent.png"\n', PICTURED, "portrait: found 'absent.png'"),
        ('portrait = "face.png"\n', PICTURED.replace(",,positive", ",left,positive"), "allowed: '' in a pair"),
    ],
)
def test_a_manifest_that_says_too_much_of_the_listener_is_refused(
    project: Portraits, more: str, row: str, complaint: str
) -> None:
    project.sources, project.rows = more, (FILM, row)
    with pytest.raises(UserError, match=complaint):
        load_manifest(project.manifest)
