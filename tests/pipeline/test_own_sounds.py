"""A sound a person: stages that know nothing of it find in each one what they find in both, and only where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.dataset.check import check_dataset
from pipeline.dataset.read import read_clips, read_description
from pipeline.manifest.load import load_manifest
from schemas.errors import UserError
from tests.labs.toy_build import ToyOfSources, computed, shard_bytes

MIX = '''"""The "sound" of both people: the source's first letters."""
from pipeline.stage import Stage
from schemas.column import Column


class Mix(Stage):
    reads = ("source",)
    writes = (Column("audio", "string", media=True),)

    def process(self, clip):
        file = clip.output("audio.txt")
        file.write_text("both")
        return {"audio": file}
'''
SOUNDS = '''"""Each person's own: the channel, or what the file says."""
from pipeline.stage import Stage
from schemas.column import ROLES, Column, per_role


class Own(Stage):
    opt_in = True
    reads = ("source", "audio", "speaker_side")
    writes = per_role(Column("{role}_audio", "string", media=True))

    def process(self, clip):
        if clip.sounds is None:
            return {f"{role}_audio": None for role in ROLES}
        files = {}
        for role in ROLES:
            reader, channel = clip.own_sound(role)
            files[role] = clip.output(f"{role}.txt")
            files[role].write_text(reader.path.read_text() if channel is None else str(channel))
        return {f"{role}_audio": file for role, file in files.items()}
'''
LETTERS = '''"""What is heard, and a file of it."""
from pipeline.stage import Stage, Warned
from schemas.column import Column


class Letters(Stage):
    reads = ("audio", "num_frames")
    writes = (Column("letters", "string"), Column("note", "string", media=True))
    warnings = {"short": "one letter"}

    def process(self, clip):
        heard = clip.path("audio").read_text()
        note = clip.output("note.txt")
        note.write_text(heard)
        said = {"letters": heard, "note": note}
        return Warned(said, "short", heard) if len(heard) == 1 else said
'''
COUNT = '''"""Reads what a stage of sound found."""
from pipeline.stage import Stage
from schemas.column import Column


class Count(Stage):
    reads = ("letters",)
    writes = (Column("count", "int32", unit="1"),)

    def process(self, clip):
        return {"count": len(clip["letters"])}
'''
PLAIN, LEFT, RIGHT = "a,0,1,left,,,,train", "b,0,1,left,,,,train", "b,1,2,right,,,,test"
NAMES = [f"{role}{name}" for name in ("letters", "count") for role in ("", "speaker_", "listener_")]


class Sounding(ToyOfSources):
    """A film without sounds of people, and one with."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for name, text in {"mix": MIX, "sounds": SOUNDS, "letters": LETTERS, "count": COUNT}.items():
            self.add_stage(name, text)
        for name, text in {"left.txt": "to the left", "right.txt": "right"}.items():
            (folder / name).write_text(text)

    rows = (PLAIN, LEFT, RIGHT)
    sources = 'audio = "channels"\n'


@pytest.fixture
def project(tmp_path: Path) -> Sounding:
    return Sounding(tmp_path)


def heard(project: Sounding, out: str = "out") -> dict[str, list[object]]:
    """What stages found of both people, the speaker and the listener, by clip."""
    return {row["clip_id"]: [row[name] for name in NAMES] for row in read_clips(project.folder / out, NAMES)}


def test_a_stage_of_sound_is_asked_of_each_persons_own_and_finds_nothing_where_there_is_none(
    project: Sounding,
) -> None:
    report = project.build()
    data = project.folder / "out"
    assert not list(check_dataset(data))
    assert heard(project) == {
        "a_000000_000001": ["both", None, None, 4, None, None],
        "b_000000_000001": ["both", "0", "1", 4, 1, 1],
        "b_000001_000002": ["both", "1", "0", 4, 1, 1],  # the speaker sits right
    }
    notes = [row["listener_note"] for row in read_clips(data, ["listener_note"])]
    assert [note and (data / note).read_text() for note in notes] == [None, "1", "0"]
    assert "the speaker's own sound: 0" in str([rows.to_pylist() for rows in report.after.ledger])
    assert computed(project.build()) == {}


def test_files_of_ones_own_and_crossed_channels_go_to_whom_they_belong(project: Sounding) -> None:
    project.sources = 'audio = "crossed_channels"\n'
    project.build()
    assert heard(project)["b_000000_000001"][1:3] == ["1", "0"]
    project.sources = 'left_audio = "left.txt"\nright_audio = "right.txt"\n'
    assert computed(project.build()) == {"mix": 2, "sounds": 2, "letters": 2, "count": 2}
    assert heard(project)["b_000000_000001"][1:3] == ["to the left", "right"]
    assert heard(project)["b_000001_000002"][1:3] == ["right", "to the left"]
    (project.folder / "right.txt").write_text("another")  # the file is part of the source
    assert "sounds" in computed(project.build())


def test_another_manifest_of_the_same_film_says_the_same_of_its_sounds(project: Sounding) -> None:
    for source in (project.sources, 'left_audio = "left.txt"\nright_audio = "right.txt"\n'):
        project.sources = source
        keys = load_manifest(project.manifest).sources["b"].sound_keys(project.folder)
        assert "".join(f'{key} = "{value}"\n' for key, value in keys.items()) == source
    assert load_manifest(project.manifest).sources["a"].sound_keys(project.folder) == {}


def test_without_sounds_of_people_nothing_is_asked_twice_and_the_shards_are_as_they_were(project: Sounding) -> None:
    project.sources, project.rows = "", (PLAIN, LEFT)
    project.build("plain")
    assert not [
        name
        for name in read_description(project.folder / "plain").packed
        if name.startswith(("speaker_a", "listener_a", "speaker_l"))
    ]
    del project.stages["sounds"]  # as before there was such a stage
    assert computed(project.build("plain")) == {}
    project.build("before")
    assert shard_bytes(project.folder / "before") == shard_bytes(project.folder / "plain")


PAIR = 'speaker = "a.bin"\nlistener = "b.bin"\n'


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ('path = "b.bin"\naudio = "a.bin"\n', "allowed: one of path, url, youtube, or speaker"),
        ('path = "b.bin"\naudio = ["channels"]\n', "allowed: one of path, url, youtube, or speaker"),
        ('path = "b.bin"\nleft_audio = "left.txt"\n', "beside a film left_audio and right_audio, or audio = channels"),
        ('path = "b.bin"\nspeaker_channel = "left"\n', "beside a film left_audio and right_audio"),
        ('path = "b.bin"\naudio = "channels"\nportrait = "a.bin"\n', "none where people have a sound of their own"),
        ('path = "b.bin"\ncropped = false\n', "only in a source of speaker, listener and audio"),
        (
            PAIR + 'audio = "a.bin"\nspeaker_channel = "middle"\n',
            "speaker_channel: found 'middle', allowed: left, right",
        ),
        (PAIR + 'speaker_channel = "left"\n', "one of path, url, youtube, or speaker"),
        (PAIR + 'speaker_audio = "left.txt"\n', "speaker_audio and listener_audio, or speaker_channel with audio"),
        (PAIR + 'speaker_audio = "left.txt"\nlistener_audio = "no.txt"\n', "there is no .*no.txt"),
        ('speaker = "a.bin"\nportrait = "b.bin"\naudio = "a.bin"\ncropped = false\n', "or films that are cropped here"),
        (PAIR + 'audio = "a.bin"\ncropped = "no"\n', "cropped: found 'no', allowed: true or false"),
    ],
)
def test_a_manifest_that_leaves_open_whose_sound_it_is_is_refused(
    project: Sounding, source: str, complaint: str
) -> None:
    path = project.manifest
    path.write_text(path.read_text().replace(f'path = "b.bin"\n{project.sources}', source))
    with pytest.raises(UserError, match=complaint):
        load_manifest(path)
