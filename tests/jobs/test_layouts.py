"""Other people's layouts: folders of their exact shape go in and out, and arrays are what their loaders read."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import wave
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import lmdb
import numpy as np
import pytest

from jobs import export_data, import_data
from jobs.layouts import find_layouts, layouts_in, layouts_out, staged
from jobs.layouts.motion.spaces import FACEVERSE, FLAME, WIDTHS, columns_in, maker_of
from pipeline.clock import HOP_SAMPLES, SAMPLE_RATE_HZ, frames_at
from pipeline.dataset.check import check_dataset
from pipeline.dataset.read import read_clips
from pipeline.dataset.write import write_dataset
from pipeline.manifest.load import load_manifest
from pipeline.media.encode import VideoWriter, write_wav
from schemas.column import FRAME_AXIS, Column, per_role
from schemas.dataset import RANDOM
from stages.coefficients import on_grid
from tests.labs.hub import stand_in_hub
from tests.labs.media import numbered_frame, read_number, reference_frames
from tests.labs.predictions import facts, moving_clip, write_data_set

AUDIO = Column("audio", "string", media=True)
COLUMNS = columns_in(FLAME)
FILMS = per_role(Column("{role}_video", "string", media=True))
TONE_HZ = 440


def write_flame_set(
    root: Path,
    frames: dict[str, int],
    change: Callable[[dict], object] = lambda row: None,
    more: Sequence[Column] = (),
) -> Path:
    """FLAME coefficients that grow by 1 a frame, beside a tone; ``change`` spoils a row, or adds columns to it."""
    rows = []
    for number, (clip_id, count) in enumerate(frames.items()):
        folder = root / "media" / clip_id
        folder.mkdir(parents=True)
        time_s = np.arange(count * HOP_SAMPLES) / SAMPLE_RATE_HZ
        write_wav(folder / "audio.wav", 0.3 * np.sin(2 * np.pi * TONE_HZ * time_s))
        row = facts(clip_id, count, split="train" if number % 2 else "test", audio=f"media/{clip_id}/audio.wav")
        for place, column in enumerate(COLUMNS):
            grow = np.arange(count, dtype=np.float32)[:, None] + np.arange(column.axes[1]) / 100
            row[column.name] = (grow + 1000 * place).astype(np.float32)
        change(row)
        rows.append(row)
    write_dataset(root, rows, [AUDIO, *COLUMNS, *more], name="flame", kind=RANDOM, stages=maker_of(FLAME))
    return root


def export(layout: str, data: Path, out: Path) -> int:
    return export_data.main([str(data), "--layout", layout, "--out", str(out)])


def test_every_layout_says_what_it_is_and_the_commands_list_them(capsys) -> None:
    for command, layouts in ((import_data, layouts_in()), (export_data, layouts_out())):
        with pytest.raises(SystemExit):
            command.main(["--help"])
        told = capsys.readouterr().out
        assert layouts and all(f"\n{name} " in told for name in layouts)
    assert all(layout.__doc__ and (layout.reads or layout.writes) for layout in find_layouts().values())


def test_dualtalk_gets_coefficients_and_sound_at_25_fps_under_its_names(tmp_path: Path) -> None:
    data = write_flame_set(tmp_path / "data", {"a": 90, "b": 61})
    assert export("dualtalk", data, tmp_path / "out") == 0
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    assert files == sorted(f"{s}_speaker{n}.{e}" for s in ("test/a", "train/b") for n in (1, 2) for e in ("npz", "wav"))
    for name, count, expected in (("test/a", 90, 75), ("train/b", 61, 51)):
        for number, first in ((1, 0), (2, 2000)):
            arrays = np.load(tmp_path / "out" / f"{name}_speaker{number}.npz")
            assert sorted(arrays) == ["exp", "pose"]
            assert arrays["exp"].shape == (expected, 50) and arrays["exp"].dtype == np.float32
            assert arrays["pose"].shape == (expected, 6) and arrays["pose"].dtype == np.float32
            shown = arrays["exp"][:, 0] - first
            nearest = [
                min(range(count), key=lambda i, k=k: (abs(Fraction(i, 30) - Fraction(k, 25)), i))
                for k in range(expected)
            ]
            assert shown.tolist() == nearest
            np.testing.assert_array_equal(arrays["pose"][:, 0] - first - 1000, nearest)
            with wave.open(str(tmp_path / "out" / f"{name}_speaker{number}.wav")) as sound:
                assert sound.getframerate() == 16_000 and sound.getnchannels() == 1
                assert sound.getnframes() == expected * 640
                samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
            spectrum = np.abs(np.fft.rfft(samples))
            if number == 1:
                assert np.fft.rfftfreq(len(samples), 1 / 16_000)[spectrum.argmax()] == pytest.approx(TONE_HZ, abs=1)
            else:
                assert not samples.any()


def test_unils_gets_a_value_a_person_and_who_speaks_at_25_fps(tmp_path: Path, capsys) -> None:
    def turns(row: dict) -> None:
        for role, sign in (("speaker", 1), ("listener", -1)):
            row[f"{role}_speaking"] = np.where(np.arange(row["num_frames"]) < 30, sign, -sign).astype(np.float32)
            row[f"{role}_pose"][3] = np.nan if row["clip_id"] == "lost" else 0

    speaking = per_role(Column("{role}_speaking", "float32", (FRAME_AXIS,)))
    data = write_flame_set(tmp_path / "data", {"a": 90, "b": 61, "lost": 40}, turns, speaking)
    assert export("unils", data, tmp_path / "out") == 1
    assert "lost: speaker_pose: expected numbers" in capsys.readouterr().out
    pairs = json.loads((tmp_path / "out/seamless_interaction_pairs.json").read_text())
    assert pairs == {"test": {"a": ["a_speaker", "a_listener", 75]}, "train": {"b": ["b_speaker", "b_listener", 51]}}
    with (
        lmdb.open(str(tmp_path / "out/seamless_interaction_lmdb"), readonly=True, lock=False) as people,
        people.begin() as held,
    ):
        assert [bytes(key) for key, _ in held.cursor()] == [b"a_listener", b"a_speaker", b"b_listener", b"b_speaker"]
        for role, first, heard in (("speaker", 0, True), ("listener", 2000, False)):
            value = np.load(io.BytesIO(held.get(f"a_{role}".encode())))
            assert sorted(value) == ["audio", "motioncode", "speech_mask"]
            assert value["motioncode"].shape == (75, 56) and value["motioncode"].dtype == np.float32
            nearest = np.array([min(range(90), key=lambda i, k=k: (abs(i * 25 - k * 30), i)) for k in range(75)])
            np.testing.assert_array_equal(value["motioncode"][:, 0], nearest + first)
            jaw = value["motioncode"][:, 53] - np.float32(0.03)
            np.testing.assert_allclose(jaw, np.where(nearest == 3, -0.03, nearest + first + 1000), rtol=1e-6)
            assert value["speech_mask"].tolist() == ((nearest < 30) == heard).tolist()
            assert value["audio"].shape == (75 * 640,) and value["audio"].any() == heard


def test_unils_is_refused_a_data_set_in_which_nobody_knows_who_speaks(tmp_path: Path, capsys) -> None:
    assert export("unils", write_flame_set(tmp_path / "data", {"a": 90}), tmp_path / "out") == 2
    assert "build the data set with the stage speaking" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", [name for name, layout in layouts_out().items() if layout.space == "flame"])
def test_coefficients_of_another_space_are_refused(layout: str, tmp_path: Path, capsys) -> None:
    data = write_data_set(tmp_path / "data", [moving_clip("a", 80, 0)])
    assert export(layout, data, tmp_path / "out") == 2
    assert "means coefficients of flame, found those of lab" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_clip_with_frames_that_are_no_numbers_is_named_and_leaves_nothing_half_written(
    tmp_path: Path, capsys
) -> None:
    def spoil(row: dict) -> None:
        if row["clip_id"] == "a":
            row["listener_pose"][7:9] = np.nan

    data = write_flame_set(tmp_path / "data", {"a": 90, "b": 90}, spoil)
    assert export("dualtalk", data, tmp_path / "out") == 1
    assert (
        "a: listener_pose: expected numbers in all 90 frames, found none in 2, the first frame 7"
        in capsys.readouterr().out
    )
    assert {path.name[0] for path in (tmp_path / "out").rglob("*.*")} == {"b"}


def write_l2l(folder: Path, windows: int = 3) -> Path:
    """Learning2Listen's folder: whoever speaks, both splits."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        for speaker, listener in ((0, 1), (1, 0)):
            faces = rng.normal(size=(2, windows, 64, 184)).astype(np.float32)
            np.save(folder / split / f"p{speaker}_speak_faces_clean_deca.npy", faces[0])
            np.save(folder / split / f"p{listener}_list_faces_clean_deca.npy", faces[1])
            audio = rng.normal(size=(windows, 256, 128)).astype(np.float32)
            np.save(folder / split / f"p{speaker}_speak_audio_clean_deca.npy", audio)
            np.save(
                folder / split / f"p{speaker}_speak_files_clean_deca.npy",
                rng.integers(9, size=(windows, 64, 3)).astype(str),
            )
    return folder


def test_learning2listens_folder_comes_in_and_goes_out_equal(tmp_path: Path) -> None:
    theirs = write_l2l(tmp_path / "conan")
    assert import_data.main([str(theirs), "--layout", "l2l", "--out", str(tmp_path / "data")]) == 0
    assert not list(check_dataset(tmp_path / "data"))
    row = next(iter(read_clips(tmp_path / "data", ["listener_exp"])))
    assert row["num_frames"] == 64 and row["listener_exp"].shape == (64, 50)
    assert export("l2l", tmp_path / "data", tmp_path / "out") == 0
    for path in theirs.rglob("*.npy"):
        before, after = np.load(path), np.load(tmp_path / "out" / path.relative_to(theirs))
        assert before.shape == after.shape and after.dtype.kind == before.dtype.kind
        np.testing.assert_array_equal(before, after)


def test_a_clip_goes_to_learning2listen_in_windows_with_a_mel_row_every_120th_of_a_second(
    tmp_path: Path, capsys
) -> None:
    data = write_flame_set(tmp_path / "data", {"a": 150, "short": 63})
    assert export("l2l", data, tmp_path / "out") == 1
    assert "short: expected 64 frames or more, found 63" in capsys.readouterr().out
    faces = np.load(tmp_path / "out/test/p0_speak_faces_clean_deca.npy")  # the lab's speaker sits left
    assert faces.shape == (2, 64, 184) and faces[1, 0, 0] == 64 and faces[1, 0, 50] == 1064
    assert np.load(tmp_path / "out/test/p1_list_faces_clean_deca.npy")[0, 3, 0] == 2003
    audio = np.load(tmp_path / "out/test/p0_speak_audio_clean_deca.npy")
    assert audio.shape == (2, 256, 128) and audio.dtype == np.float32
    assert len(set(audio[0].argmax(axis=1)[4:])) == 1  # a steady tone stays in one band
    assert np.load(tmp_path / "out/test/p0_speak_files_clean_deca.npy")[1, 2].tolist() == ["a", "lab", "66"]


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("p1_list_faces", None, "No such file"),
        ("p0_speak_faces", np.zeros((3, 64, 56), np.float32), r"expected floats (window, 64, 184)"),
        (
            "p0_speak_faces",
            np.zeros((2, 64, 184), np.float32),
            "expected as many windows of faces and audio, found 2, 3, 3",
        ),
        ("p0_speak_faces", np.full((3, 64, 184), np.nan, np.float32), "values are no numbers"),
        ("p0_speak_audio", np.array([{}], object), "save it without pickle"),
        ("p0_speak_audio", b"\x93NUMPY cut off", "expected an array of numbers"),
    ],
    ids=["half a pair", "another width", "another count", "no numbers", "a pickle", "cut off"],
)
def test_a_pair_of_learning2listen_that_is_wrong_is_named_and_the_others_come_in(
    name: str, values, told: str, tmp_path: Path, capsys
) -> None:
    theirs = write_l2l(tmp_path / "conan")
    path = theirs / "train" / f"{name}_clean_deca.npy"
    path.unlink()
    if isinstance(values, bytes):
        path.write_bytes(values)
    elif values is not None:
        np.save(path, values)
    assert import_data.main([str(theirs), "--layout", "l2l", "--out", str(tmp_path / "data")]) == 1
    assert told in capsys.readouterr().out
    assert len(list(read_clips(tmp_path / "data"))) == 9


def test_webdatasets_tars_hold_every_column_under_one_name_a_clip(tmp_path: Path) -> None:
    data = write_flame_set(tmp_path / "data", {"a": 30, "b": 40, "c": 35})
    assert export("webdataset", data, tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["test-000000.tar", "train-000000.tar"]
    found: dict[str, dict[str, bytes]] = {}
    for path in (tmp_path / "out").iterdir():
        with tarfile.open(path) as tar:
            names = [member.name.partition(".")[0] for member in tar]
            assert names == sorted(names)  # a clip's files follow each other
            for member in tar:
                key, _, ending = member.name.partition(".")
                found.setdefault(key, {})[ending] = tar.extractfile(member).read()
    for row in read_clips(data, ["audio", *(column.name for column in COLUMNS)]):
        files = found[row["clip_id"]]
        assert json.loads(files["json"])["num_frames"] == row["num_frames"]
        assert files["audio.wav"] == (data / row["audio"]).read_bytes()
        for column in COLUMNS:
            np.testing.assert_array_equal(np.load(io.BytesIO(files[f"{column.name}.npy"])), row[column.name])
    before = [path.read_bytes() for path in sorted((tmp_path / "out").iterdir())]
    export("webdataset", data, tmp_path / "again")
    assert before == [path.read_bytes() for path in sorted((tmp_path / "again").iterdir())]


def test_a_clip_whose_sound_is_gone_is_named_and_the_others_go_out(tmp_path: Path, capsys) -> None:
    for layout in ("dualtalk", "webdataset"):
        data = write_flame_set(tmp_path / layout, {"a": 70, "b": 70})
        (data / "media/a/audio.wav").unlink()
        assert export(layout, data, tmp_path / "out" / layout) == 1
        assert "a: " in capsys.readouterr().out
        assert any((tmp_path / "out" / layout).rglob("*.*"))


def test_of_what_fails_in_the_middle_no_file_is_left(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged(tmp_path / "out") as folder:
        (folder / "a").write_text("half")
        raise RuntimeError
    assert not list((tmp_path / "out").iterdir())


def write_film_set(root: Path, frames: dict[str, int], space: str = "") -> Path:
    """A data set with films whose frames say their number, a tone, and coefficients of a space."""
    rows, columns = [], [AUDIO, *FILMS, *(columns_in(space) if space else [])]
    for clip_id, count in frames.items():
        folder = root / "media" / clip_id
        folder.mkdir(parents=True)
        row = facts(clip_id, count, split="train", audio=f"media/{clip_id}/audio.wav")
        for shift, role in ((0, "speaker"), (100, "listener")):
            row[f"{role}_video"] = f"media/{clip_id}/{role}.mp4"
            with VideoWriter(root / row[f"{role}_video"], (384, 384)) as writer:
                for number in range(count):
                    writer.write(numbered_frame(number + shift, (384, 384)))
        write_wav(folder / "audio.wav", np.full(count * HOP_SAMPLES, 0.25))
        for column in columns[3:]:
            row[column.name] = np.repeat(np.arange(count, dtype=np.float32)[:, None], column.axes[1], axis=1)
        rows.append(row)
    write_dataset(root, rows, columns, name="films", kind=RANDOM, stages=maker_of(space) if space else {})
    return root


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips with films and sound and no coefficients, to be read."""
    return write_film_set(tmp_path_factory.mktemp("films") / "data", {"x": 32, "y": 31})


def test_react2026_gets_crops_sound_and_coefficients_at_25_fps_and_comes_in_again(tmp_path: Path) -> None:
    data = write_film_set(tmp_path / "data", {"session3_x": 32, "y": 31}, FACEVERSE)
    assert export("react2026", data, tmp_path / "out") == 0
    shown = [min(range(32), key=lambda i, k=k: (abs(Fraction(i, 30) - Fraction(k, 25)), i)) for k in range(27)]
    for shift, role in ((0, "speaker"), (100, "listener")):
        times, frames = reference_frames(tmp_path / f"out/train/video-face-crop/{role}/session3/x.mp4")
        assert times == [Fraction(k, 25) for k in range(27)]
        assert frames.shape[1:] == (384, 384, 3)
        assert [read_number(frame) - shift for frame in frames] == shown
        coefficients = np.load(tmp_path / f"out/train/coefficients/{role}/session3/x.npy")
        assert coefficients.shape == (27, 58) and coefficients.dtype == np.float32
        assert coefficients[:, 0].tolist() == coefficients[:, 57].tolist() == shown
        with wave.open(str(tmp_path / f"out/train/audio/{role}/session3/x.wav")) as sound:
            assert (sound.getframerate(), sound.getnframes()) == (44_100, 27 * 1764)
    words = [str(tmp_path / "out"), "--layout", "react2026", "--out", str(tmp_path / "again")]
    assert import_data.main(words) == 0
    manifest = load_manifest(tmp_path / "again/react.toml")
    tracked = dict(manifest.settings["coefficients"])
    back = np.load(Path(tracked.pop("folder")) / "session3_x_speaker.npy")
    np.testing.assert_array_equal(back, np.load(tmp_path / "out/train/coefficients/speaker/session3/x.npy"))
    assert tracked == {"space": "faceverse", "fps": 25}
    assert frames_at(32, 25)[: len(back)].tolist() == back[:, 0].tolist()
    np.testing.assert_array_equal(on_grid(back, 32, Fraction(25))[frames_at(32, 25)], back)  # a build, and out again
    sounds = manifest.sources["session3_x"].sounds
    assert [file.parent.parent.name for file in sounds.files] == ["speaker", "listener"]
    assert {clip.clip_id: clip.span.num_frames for clip in manifest.clips} == {"session3_x": 32, "y": 31}
    assert {clip.split for clip in manifest.clips} == {"train"}
    assert sum(WIDTHS[FACEVERSE].values()) == 58
    (tmp_path / "out/train/video-face-crop/listener/session0/y.mp4").unlink()
    assert import_data.main([*words[:-1], str(tmp_path / "half")]) == 1
    assert [clip.clip_id for clip in load_manifest(tmp_path / "half/react.toml").clips] == ["session3_x"]


def test_react2026_refuses_coefficients_of_others_and_takes_films_without_any(
    films: Path, tmp_path: Path, capsys
) -> None:
    assert export("react2026", write_flame_set(tmp_path / "flame", {"y": 31}), tmp_path / "no") == 2
    assert "means coefficients of faceverse, found those of flame" in capsys.readouterr().err
    data = Path(shutil.copytree(films, tmp_path / "cut"))
    cut = data / "media/x/listener.mp4"
    cut.write_bytes(cut.read_bytes()[:3000])
    assert export("react2026", data, tmp_path / "out") == 1
    assert {path.name for path in (tmp_path / "out").rglob("*.*")} == {"y.mp4", "y.wav"}


def test_a_plain_folder_of_pairs_goes_out_and_comes_in_with_its_labels(films: Path, tmp_path: Path, capsys) -> None:
    assert export("pairs", films, tmp_path / "out") == 0
    assert (tmp_path / "out/x.speaker.mp4").read_bytes() == (films / "media/x/speaker.mp4").read_bytes()
    words = ["--layout", "pairs", "--licence", "CC0", "--out"]
    assert import_data.main([str(tmp_path / "out"), *words, str(tmp_path / "again")]) == 0
    manifest = load_manifest(tmp_path / "again/pairs.toml")
    for before, after in zip(read_clips(films), manifest.clips, strict=True):
        named = ("clip_id", "attitude", "speaker_id", "listener_id", "split", "num_frames")
        assert [after.columns()[name] for name in named] == [before[name] for name in named]
    assert {source.licence for source in manifest.sources.values()} == {"CC0"}
    for name, other in (("z.speaker.mp4", "x.speaker.mp4"), ("z.listener.mp4", "y.listener.mp4"), ("z.wav", "x.wav")):
        shutil.copy(tmp_path / "out" / other, tmp_path / "out" / name)  # one has a frame less, and no label
    (tmp_path / "out/z.wav").rename(tmp_path / "out/z.WAV")  # as cameras and recorders name them
    (tmp_path / "out/z.speaker.mp4").rename(tmp_path / "out/z.speaker.MP4")
    assert import_data.main([str(tmp_path / "out"), *words, str(tmp_path / "more")]) == 0
    clip = load_manifest(tmp_path / "more/pairs.toml").clips[-1]
    assert (clip.clip_id, clip.span.num_frames, clip.split, clip.speaker_id) == ("z", 31, "train", None)
    (tmp_path / "out/x.wav").unlink()
    (tmp_path / "out/y.wav").write_bytes(b"RIFF")
    (tmp_path / "out/..name.wav").write_bytes(b"RIFF")
    capsys.readouterr()
    import_data.main([str(tmp_path / "out"), *words, str(tmp_path / "bad")])
    told = capsys.readouterr().out
    assert "x: no audio file" in told and "y: a file cannot be read" in told and "clip_id '..name'" in told


def write_seamless(folder: Path, data: Path) -> Path:
    """Two people of one interaction as Seamless Interaction names their files, and a third without a partner."""
    place = folder / "improvised/dev/0000/0001"
    place.mkdir(parents=True)
    for role, person in (("speaker", "P0947"), ("listener", "P0948A")):
        stem = place / f"V00_S0809_I00000582_{person}"
        shutil.copy(data / f"media/x/{role}.mp4", stem.with_suffix(".mp4" if role == "speaker" else ".MP4"))
        shutil.copy(data / "media/x/audio.wav", stem.with_suffix(".wav" if role == "speaker" else ".WAV"))
        said = {"id": stem.name, "metadata:transcript": [{"words": person}], "metadata:vad": [{"start": 0, "end": 1}]}
        stem.with_suffix(".json").write_text(json.dumps(said))
    shutil.copy(data / "media/x/speaker.mp4", place / "V00_S0809_I00000583_P0947.mp4")
    return folder


def test_two_files_of_seamless_are_two_clips_with_each_persons_own_sound_and_words(
    films: Path, tmp_path: Path, capsys
) -> None:
    theirs = write_seamless(tmp_path / "seamless", films)
    assert import_data.main([str(theirs), "--layout", "seamless", "--out", str(tmp_path / "in")]) == 1
    assert "V00_S0809_I00000583: expected the films of two people" in capsys.readouterr().out
    manifest = load_manifest(tmp_path / "in/seamless.toml")
    found = {(clip.clip_id[-5:], clip.speaker_id, clip.listener_id, clip.split) for clip in manifest.clips}
    assert found == {("P0947", "P0947", "P0948A", "val"), ("0948A", "P0948A", "P0947", "val")}
    for clip in manifest.clips:
        pair, sounds = manifest.sources[clip.source_id].pair, manifest.sources[clip.source_id].sounds
        assert pair.audio.stem == pair.speaker.stem == clip.clip_id and pair.listener.stem.endswith(clip.listener_id)
        assert [sound.stem for sound in sounds.files] == [pair.speaker.stem, pair.listener.stem] and not sounds.mixed
        assert not pair.cropped
        assert manifest.sources[clip.source_id].video == "V00_S0809_I00000582"
        said = json.loads((tmp_path / f"in/annotations/{clip.clip_id}.json").read_text())
        assert said["speaker"]["metadata:transcript"] == [{"words": clip.speaker_id}]
        assert said["listener"]["metadata:transcript"] == [{"words": clip.listener_id}]
        assert said["speaker"]["metadata:vad"] == [{"start": 0, "end": 1}]


def test_two_people_of_a_react2024_chat_are_two_clips_and_what_is_no_pair_is_named(
    films: Path, tmp_path: Path, capsys
) -> None:
    theirs, chat = tmp_path / "react", "NoXI/010_2016-03-25_Paris"
    for role, person in (("speaker", "Expert_video"), ("listener", "Novice_video")):
        for kind, source, name in (("Video_files", f"{role}.mp4", "1.mp4"), ("Audio_files", "audio.wav", "1.wav")):
            (theirs / "val" / kind / chat / person).mkdir(parents=True)
            shutil.copy(films / "media/x" / source, theirs / "val" / kind / chat / person / name)
        (theirs / "val/3D_FV_files" / chat / person).mkdir(parents=True)
        rows = np.full((27, 1, 58), len(person), np.float32) if role == "speaker" else np.array([{}], object)
        np.save(theirs / "val/3D_FV_files" / chat / person / "1.npy", rows, allow_pickle=True)
    (theirs / "train/Video_files/RECOLA/group-1/P25/1").mkdir(parents=True)
    shutil.copy(films / "media/x/speaker.mp4", theirs / "train/Video_files/RECOLA/group-1/P25/2.mp4")
    assert import_data.main([str(theirs), "--layout", "react2024", "--out", str(tmp_path / "in")]) == 1
    told = capsys.readouterr().out
    assert "expected a film, found a folder; first: ffmpeg -framerate 25" in told
    assert "2.mp4: expected films of two people, found P25" in told
    assert "Novice_video_1: expected the speaker's coefficients in" in told  # a pickle, which is not run
    manifest = load_manifest(tmp_path / "in/react.toml")
    name = "NoXI_010_2016-03-25_Paris"
    assert [clip.clip_id for clip in manifest.clips] == [f"{name}_Expert_video_1", f"{name}_Novice_video_1"]
    pair = manifest.sources[f"{name}_Novice_video_1"].pair
    assert [path.parent.name for path in pair.files] == ["Novice_video", "Expert_video", "Novice_video"]
    sounds = manifest.sources[f"{name}_Novice_video_1"].sounds
    assert [file.parent.name for file in sounds.files] == ["Novice_video", "Expert_video"]
    kept = tmp_path / "in/coefficients"
    assert manifest.settings["coefficients"] == {"folder": str(kept), "space": "faceverse", "fps": 25}
    assert sorted(path.stem for path in kept.iterdir()) == [
        f"{name}_Expert_video_1_speaker",
        f"{name}_Novice_video_1_listener",
    ]
    assert np.load(kept / f"{name}_Expert_video_1_speaker.npy").shape == (27, 58)
    assert {(clip.split, clip.span.num_frames) for clip in manifest.clips} == {("val", 32)}


def test_a_push_to_the_hub_that_was_interrupted_goes_on_and_what_is_gone_here_goes_there(
    films: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    data = Path(shutil.copytree(films, tmp_path / "data"))
    (data / "README.md").write_text("---\nlicense: other\n---\n")
    monkeypatch.setattr("jobs.layouts.hub.COMMIT_FILES", 3)
    wanted = {str(path.relative_to(data)) for path in data.glob("media/*/*")} | {"README.md", "dataset.json"}
    wanted |= {str(path.relative_to(data)) for path in data.glob("shards/*")}
    with stand_in_hub() as hub:
        words = [str(data), "--layout", "hub", "--repo", "u/n", "--endpoint", hub.endpoint]
        assert export_data.main([*words, "--dry-run"]) == 0
        assert f"dry run: {len(wanted)} files" in capsys.readouterr().out and not hub.commits
        hub.commits_left = 1
        assert export_data.main(words) == 2
        assert "the Hub refused" in (told := capsys.readouterr().err) and "run the same command again" in told
        assert len(hub.files) == 3 and "dataset.json" not in hub.files
        hub.commits_left, hub.files["media/withdrawn/speaker.mp4"] = 100, b"gone"
        assert export_data.main(words) == 0
        assert {name: (data / name).read_bytes() for name in wanted} == hub.files
        names = [name for commit in hub.commits for name in commit]
        assert sorted(names) == sorted([*wanted, "media/withdrawn/speaker.mp4"])  # each went up once
        assert set(hub.commits[-2]) == {"README.md", "dataset.json"}
        assert export_data.main(words) == 0 and "0 of" in capsys.readouterr().out.splitlines()[-1]
        (data / "takedown.txt").write_text("x\n")
        assert export_data.main(words) == 2
        assert "names 1 clips that its shards still hold" in capsys.readouterr().err


def test_hugging_faces_reader_of_webdatasets_gives_the_same_numbers(tmp_path: Path) -> None:
    import datasets

    data = write_data_set(tmp_path / "data", [moving_clip("a", 30, 0), moving_clip("b", 35, 1)])
    assert export("webdataset", data, tmp_path / "out") == 0
    files = [str(tmp_path / "out/test-000000.tar")]
    found = datasets.load_dataset("webdataset", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    for row, example in zip(read_clips(data, ["listener_exp", "listener_blink"]), found, strict=True):
        assert example["__key__"] == row["clip_id"] and example["json"]["num_frames"] == row["num_frames"]
        np.testing.assert_array_equal(np.float32(example["listener_exp.npy"]), row["listener_exp"])
        assert example["listener_blink.npy"] == row["listener_blink"].tolist()
