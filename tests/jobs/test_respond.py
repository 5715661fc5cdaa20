"""jobs.respond, and the challenge's clips without a listener's video: people of the demo, a quick run."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import ffmpeg
import numpy as np
import pytest
from PIL import Image

from jobs import evaluate, import_data, predict, render, respond, train
from jobs.demo.cast import CAST
from jobs.demo.conversation import SCENES, Turn
from jobs.demo.film import Actor, write_film, write_speaker
from jobs.study.random_set import Extent, write_random_set
from pipeline.build import Build, BuildOptions
from pipeline.clock import Span
from pipeline.dataset.check import check_dataset
from pipeline.dataset.read import read_clips
from pipeline.manifest.load import load_manifest
from pipeline.media.encode import read_video
from pipeline.media.reader import SourceReader
from pipeline.part import run_here
from pipeline.registry import find_stages
from pipeline.weights import find_weights
from tests.labs.media import Recipe, ffmpeg_binary, make_source
from tests.labs.trainer import described

FRAMES, BASIS = 30, "basis_media_v1"
H264 = {"vcodec": "libx264", "preset": "ultrafast", "pix_fmt": "yuv420p"}
AAC = {"acodec": "aac"}


class Studio:
    """Films, pictures and a run, made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.actors = {name: Actor(name) for name in ("ada", "dora")}
        turn = Turn(Span(Fraction(0), Fraction(1)), "left", "positive", "test")
        scene = replace(
            SCENES[0], people=("ada", "dora"), turns=(turn,), duration_s=Fraction(1), frame_rate=Fraction(30)
        )
        self.both = folder / "both.mkv"
        write_film(scene, self.actors, self.both)
        self.speaker = folder / "speaker.mp4"
        write_speaker(scene, turn, self.both, self.speaker)
        self.portrait = self.save("portrait.png", self.actors["dora"].face.portrait.picture)
        self.run = folder / "run"
        write_random_set(folder / "random", Extent(clips=12, frames=600, people=4))
        described(folder / "random", folder / "fitted", _as_if_fitted)
        words = [str(folder / "fitted"), "--listener", "vico_lstm", "--set", "epochs=1", "--num-workers", "0"]
        assert train.main([*words, "--out", str(self.run)]) == 0

    def save(self, name: str, picture: np.ndarray) -> Path:
        Image.fromarray(picture).save(self.folder / name)
        return self.folder / name

    def answer(self, *words: str | Path, out: Path | None = None) -> int:
        """The command's exit status."""
        out = out or self.folder / "unwritten.mp4"
        return respond.main([*map(str, words), "--run", str(self.run), "--attitude", "positive", "--out", str(out)])


def _as_if_fitted(description: dict[str, Any]) -> None:
    """The random numbers' maker as a build names it, so that a run that learned from them reads a build's."""
    description["stages"]["threedmm"]["weights"] = {BASIS: find_weights(BASIS).sha256}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(tmp_path_factory.mktemp("studio"))


@pytest.fixture(scope="module")
def answered(studio: Studio) -> Path:
    kept = studio.folder / "kept"
    assert (
        studio.answer(
            studio.speaker, "--listener", studio.portrait, "--samples", "2", "--data", kept, out=kept / "answer.mp4"
        )
        == 0
    )
    return kept


def test_an_answer_shows_the_speaker_and_every_sample_side_by_side_with_the_sound(answered: Path) -> None:
    with SourceReader(answered / "answer.mp4") as reader:
        info = reader.info()
        assert (info.width, info.height, len(reader.frame_times().pts)) == (3 * 384, 384, FRAMES)
        assert np.abs(reader.audio(Span(Fraction(0), Fraction(1)))).max() > 0.01
    (speaker,) = read_clips(answered / "data", ["speaker_video"])
    for shown, film in zip(
        read_video(answered / "answer.mp4"), read_video(answered / "data" / speaker["speaker_video"]), strict=True
    ):
        assert np.abs(shown[:, :384].astype(int) - film).mean() < 3


def test_an_answer_begins_as_the_picture_and_leaves_it_without_a_jump(studio: Studio, answered: Path) -> None:
    (row,) = read_clips(answered / "data", ["listener_video", "listener_crop_box"], portraits="take")
    (picture,) = read_video(answered / "data" / row["listener_video"])
    x1, y1, x2, y2 = row["listener_crop_box"].astype(int)
    own = cv2.resize(
        studio.actors["dora"].face.portrait.picture[y1:y2, x1:x2], (384, 384), interpolation=cv2.INTER_AREA
    )
    assert np.abs(picture.astype(int) - own).mean() < 4
    frames = np.array([frame[:, 384:768] for frame in read_video(answered / "answer.mp4")]).astype(int)
    assert np.abs(frames[0] - picture).mean() < 3
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    assert steps[0] < 2 * np.median(steps[1:])


def test_the_coefficients_that_are_kept_are_data_sets(answered: Path) -> None:
    assert not list(check_dataset(answered / "data"))
    samples = sorted((answered / "predicted").iterdir())
    (first,), (second,) = (list(read_clips(sample, ["listener_exp", "listener_angle"])) for sample in samples)
    assert first["listener_exp"].shape == (FRAMES, 64) and first["attitude"] == "positive"
    assert second["listener_angle"].shape == (FRAMES, 3)


def drawing() -> np.ndarray:
    picture = np.full((480, 480, 3), 255, np.uint8)
    cv2.circle(picture, (240, 240), 150, (0, 0, 0), 4)
    for x in (190, 290):
        cv2.circle(picture, (x, 200), 14, (0, 0, 0), -1)
    cv2.ellipse(picture, (240, 290), (70, 40), 0, 0, 180, (0, 0, 0), 4)
    return picture


def test_a_picture_that_shows_no_listener_is_told_in_a_sentence(studio: Studio, capsys) -> None:
    both = np.hstack([studio.actors[name].face.portrait.picture for name in studio.actors])
    for name, picture, complaint in (
        ("drawing.png", drawing(), "no_face: found none in 1 frames, expected the listener alone"),
        ("two.jpg", both, "not_one_person: found 2 ("),
    ):
        assert studio.answer(studio.speaker, "--listener", studio.save(name, picture)) == 2
        (message,) = capsys.readouterr().err.splitlines()
        assert complaint in message, message


@pytest.mark.slow
@pytest.mark.shared
def test_a_profile_is_refused_as_a_picture_and_so_are_two_people(studio: Studio, shared: Path, capsys) -> None:
    with av.open(str(shared / "media/a_dyadic/debate_ca_trudeau_singh.avi")) as film:
        left = next(film.decode(video=0)).to_ndarray(format="rgb24")[:, :640]
    for picture, complaint in (
        (studio.save("debate.png", left), "expected a head turned by less than 20 degrees from the camera"),
        (shared / "media/c_faces/two_people_obama_biden.jpg", "not_one_person: found 2 ("),
    ):
        assert studio.answer(studio.speaker, "--listener", picture) == 2
        assert complaint in capsys.readouterr().err


def test_a_film_that_shows_no_speaker_is_told_in_a_sentence(studio: Studio, capsys) -> None:
    nobody = make_source(studio.folder / "nobody", Recipe(".mp4", H264, AAC, num_frames=40))
    endless = make_source(
        studio.folder / "endless", Recipe(".mp4", H264, fps=Fraction(1), num_frames=602, size=(32, 16))
    )
    silent = studio.folder / "silent.mp4"
    ffmpeg.input(str(studio.speaker)).video.output(str(silent), vcodec="copy").run(cmd=ffmpeg_binary(), quiet=True)
    films = {
        nobody: "no_face: found none in 11 frames, expected the speaker alone",
        studio.both: "not_one_person: found 2 (",
        silent: "no_audio: the source has no sound track",
        endless: "601 s long, expected 600 s or less",
        studio.portrait: "expected",  # a picture in place of the film
    }
    for film, complaint in films.items():
        assert studio.answer(film, "--listener", studio.portrait) == 2
        (message,) = capsys.readouterr().err.splitlines()
        assert complaint in message, message


def test_a_run_that_wants_an_attitude_asks_for_one_before_the_film_is_read(studio: Studio, capsys) -> None:
    words = [str(studio.both), "--listener", str(studio.portrait), "--run", str(studio.run), "--out", "x.mp4"]
    assert respond.main(words) == 2
    assert "it knows the attitudes positive, neutral, negative; name one with --attitude" in capsys.readouterr().err


@pytest.fixture(scope="module")
def challenge(studio: Studio) -> Path:
    """A challenge's layout: of one clip the listener's first frame, of another person's a picture, of one nothing."""
    folder = studio.folder / "listening_head"
    for name in ("videos", "audios", "first_frames", "ref_images"):
        (folder / name).mkdir(parents=True)
    source = ffmpeg.input(str(studio.speaker))
    head = source.video.filter("crop", 440, 440, 100, 60).filter("scale", 256, 256)
    for name in ("seen", "known", "lost"):
        for output in (
            head.output(str(folder / "videos" / f"{name}.speaker.mp4"), **H264),
            source.audio.output(str(folder / "audios" / f"{name}.wav"), ac=1, ar=44100),
        ):
            output.run(cmd=ffmpeg_binary(), quiet=True)
    x, y = (int(middle) for middle in CAST["dora"].head_px)
    square = studio.actors["dora"].face.portrait.picture[max(y - 240, 0) : y + 260, x - 250 : x + 250]
    Image.fromarray(square).save(folder / "first_frames/seen.listener.jpg", quality=95)
    Image.fromarray(square).save(folder / "ref_images/7.jpg", quality=95)
    rows = ("v,seen,1,2,positive", "v,known,1,7,neutral", "v,lost,1,9,neutral")
    (folder / "test.csv").write_text("\n".join(["video_id,uuid,speaker_id,listener_id,attitude", *rows]) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_challenges_clips_without_a_listeners_video_are_imported_built_predicted_rendered_and_scored(
    studio: Studio, challenge: Path, capsys
) -> None:
    words = ["--layout", "vico_challenge", "--out", str(studio.folder / "imported")]
    assert import_data.main([str(challenge), *words]) == 1
    assert "lost: no listener file" in capsys.readouterr().out
    stages = ("clip", "face", "landmarks", "blink", "threedmm", "acoustic")
    codes = [code for code in find_stages() if code.name in stages]
    data, predicted, videos = (studio.folder / f"challenge_{name}" for name in ("data", "predicted", "videos"))
    build = Build(load_manifest(studio.folder / "imported/vico.toml"), data, codes, BuildOptions())
    report = build.run(build.survey(), run_here)
    assert not report.after.missing and not list(check_dataset(data))
    known, seen = read_clips(data, ["listener_exp", "listener_blink", "speaker_exp"], portraits="take")
    assert (known["clip_id"], seen["attitude"]) == ("known", "positive")
    assert seen["listener_exp"].shape == (1, 64) and len(seen["speaker_exp"]) == seen["num_frames"] == FRAMES
    assert predict.main([str(studio.run), str(data), "--out", str(predicted), "--samples", "2"]) == 0
    assert render.main([str(predicted / "sample-00"), "--data", str(data), "--out", str(videos), "--workers", "1"]) == 0
    assert len(list(read_video(videos / "seen.mp4"))) == FRAMES
    capsys.readouterr()
    scored = ["--reference", str(data), "--predicted", f"own={predicted}", "--address", "none"]
    assert evaluate.main([*scored, "--out", str(studio.folder / "scores")]) == 0
    said = capsys.readouterr().out
    assert "known has a picture of its listener and no video to compare with" in said
    assert any(line.startswith("variance") or "diversity" in line for line in said.splitlines()), said


def test_training_on_clips_without_a_listeners_video_is_refused_in_a_sentence(
    studio: Studio, answered: Path, capsys
) -> None:
    data = answered / "data"
    text = (answered / "clips.csv").read_text().replace(",test,", ",train,")
    (answered / "clips.csv").write_text(text)
    build = Build(load_manifest(answered / "respond.toml"), data, find_stages(), BuildOptions())
    build.run(build.survey(), run_here)
    assert (
        train.main([str(data), "--listener", "vico_lstm", "--num-workers", "0", "--out", str(studio.folder / "no")])
        == 2
    )
    assert "clip answer has a picture of its listener and no video, expected a video" in capsys.readouterr().err
