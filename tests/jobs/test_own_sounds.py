"""A Seamless pair and a call of two channels from end to end: built, trained on, predicted and viewed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from jobs import import_data, predict, train
from jobs.demo.conversation import Scene, Turn, perform
from jobs.demo.film import Actor
from jobs.viewer.data import Answers
from jobs.viewer.opened import Opened
from pipeline.clock import Span
from pipeline.dataset.check import check_dataset
from pipeline.dataset.read import read_clips
from tests.labs.media import Recipe, make_source, remux
from tests.labs.toy_build import build_own_stages

LENGTH_S, RATE_HZ = 3, 16_000
PEOPLE = {"ada": "He began a confused complaint", "bea": "The horizon seems extremely distant"}  # who says what
X264 = {"vcodec": "libx264", "pix_fmt": "yuv420p", "preset": "ultrafast"}
CALL = '[[sources]]\nid = "call"\npath = "call.mkv"\nlicence = "none"\naudio = "channels"\n'


def write_conversation(folder: Path, speech: Path) -> Path:
    """Films of two people, one each with its own sound as Seamless names them, and one of both with a channel each."""
    span = Span(Fraction(0), Fraction(LENGTH_S))
    turns = (Turn(span, "left", "positive", "train"),)
    scene = Scene("film", "film.mkv", Fraction(30), RATE_HZ, Fraction(LENGTH_S), tuple(PEOPLE), turns, seed=3)
    place = folder / "seamless/train"
    place.mkdir(parents=True)
    (folder / "in").mkdir()
    _, sound = wavfile.read(speech)
    sound = sound[: LENGTH_S * RATE_HZ]
    panels = []
    for side, (name, channel) in zip(("left", "right"), zip(PEOPLE, sound.T, strict=True), strict=True):
        actor = Actor(name)
        panels.append([actor.draw(moment) for moment in perform(scene, side)])
        stem = place / f"V00_S0001_I00000001_P{name}"
        write_film(stem, panels[-1])
        wavfile.write(stem.with_suffix(".wav"), RATE_HZ, channel)
    write_film(folder / "both", [np.hstack(both) for both in zip(*panels, strict=True)])
    wavfile.write(folder / "both.wav", RATE_HZ, sound)
    return remux(folder / "both.mp4", folder / "in/call.mkv", "-i", str(folder / "both.wav"))


def write_film(path: Path, frames: list[np.ndarray]) -> None:
    height, width = frames[0].shape[:2]
    recipe = Recipe(".mp4", X264, fps=Fraction(30), num_frames=len(frames), size=(width, height))
    make_source(path, recipe, b"".join(frame.tobytes() for frame in frames))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_seamless_pair_and_a_call_of_two_channels_are_built_trained_on_and_viewed(
    shared: Path, tmp_path: Path
) -> None:
    write_conversation(tmp_path, shared / "media/c_speech/stereo_two_speakers.wav")
    words = [str(tmp_path / "seamless"), "--layout", "seamless", "--out", str(tmp_path / "in")]
    assert import_data.main(words) == 0
    manifest, clips = tmp_path / "in/seamless.toml", tmp_path / "in/clips.csv"
    stages = 'stages = ["threedmm", "acoustic", "asr", "voice", "sounds"]\n'
    manifest.write_text(manifest.read_text().replace("\n\n", f"\n{stages}\n", 1) + "\n" + CALL)
    clips.write_text(clips.read_text() + f"call,0,{LENGTH_S},right,,bea,ada,train,\n")

    data = tmp_path / "data"
    _, report = build_own_stages(manifest, data)
    assert {row["stage"]: row["ok"] for row in report.rows()} == dict.fromkeys(
        [row["stage"] for row in report.rows()], 3
    ), report.rows()
    found = list(check_dataset(data))
    assert len(found) == 2 and all("one film under two source ids" in str(one) for one in found)  # and that it is
    names = [f"{role}_{name}" for role in ("speaker", "listener") for name in ("transcript", "box", "acoustic")]
    for row in read_clips(data, names):
        speaker, listener = (row[f"{role}_id"].removeprefix("P") for role in ("speaker", "listener"))
        assert row["speaker_transcript"].startswith(PEOPLE[speaker]), row["clip_id"]
        assert row["listener_transcript"].startswith(PEOPLE[listener]), row["clip_id"]
        assert (np.ptp(row["speaker_box"][:, [0, 2]], axis=1) < 400).all()  # a face, not the whole film of 640 px

    few = ("epochs=1", "sound=own", "width=8", "hidden=8")
    run = [str(data), "--listener", "pchg", "--num-workers", "0", "--out", str(tmp_path / "run")]
    assert train.main([*run, *(word for setting in few for word in ("--set", setting))]) == 0
    asked = [str(tmp_path / "run"), str(data), "--split", "train", "--out", str(tmp_path / "said")]
    assert predict.main(asked) == 0

    answers = Answers(Opened(data), {"said": Opened(tmp_path / "said")})
    said = answers.clip("call_000000_000003")
    assert set(said["sounds"]) == {"speaker", "listener"}
    assert said["own_words"]["listener_words"][0]["text"] == "He" and said["own_words"]["speaker_words"]
    assert {"speaker_voice", "listener_voice", "voice"} <= {column["name"] for column in said["columns"]}
    assert any(column["of"] == "said" for column in said["columns"])
