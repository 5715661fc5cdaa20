"""A listener answers a film: ``python -m jobs.respond FILM --listener PICTURE --run RUN --out ANSWER.mp4``.

The protocol of the ViCo challenge (Zhou et al., ACM MM 2023, section 3.2): sound and video of the speaker and a picture
of the listener come in, the listener's motion goes out. The film passes the stages of a build whose columns the runs
read, with the settings that they learned from; the runs predict, and their answers are drawn beside the speaker, with
the sound. Exit status: 0, or 2 where film, picture or runs cannot be used.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs.command import command, option
from jobs.render import RENDERERS, choose, device, render_all
from pipeline.build import Build, BuildOptions
from pipeline.clock import frames_in, seconds_of
from pipeline.dataset.lock import locked
from pipeline.dataset.read import FILE, media_file, read_clips, read_description
from pipeline.manifest.clips_csv import CSV_COLUMNS
from pipeline.manifest.load import load_manifest
from pipeline.manifest.write import manifest_text, write_csv
from pipeline.media.encode import VideoWriter, add_sound, read_video
from pipeline.media.reader import MediaError, SourceReader
from pipeline.part import run_here
from pipeline.plan import select
from pipeline.registry import find_stages
from schemas.clip import ATTITUDES
from schemas.coefficients import STAGE
from schemas.column import LISTENER
from schemas.errors import UserError
from stages.evaluate.render.scene import MOTION, ClipToRender, clips_to_render, held, reference_frame
from stages.train.inputs import NO_LABEL
from stages.train.prediction import Draw, Predictor, Request, write_predictions
from stages.train.run_folder import Run, RunFolder

ANSWER, SPLIT = "answer", "test"  # id of the one clip and of its source, and where it stands
LONGEST_S = 600  # a clip is predicted in one piece
EASE_S = 1.0  # in which an answer leaves the picture that it begins with
IN_A_ROW = 3  # so many pictures stand side by side, more of them in a square


def build(film: Path, picture: Path, attitude: str, runs: Sequence[Run], folder: Path) -> Path:
    """The data set of a film and a picture, in ``folder``, with the columns that the runs and the renderers read.

    `UserError` with the reason where film and picture give none.
    """
    start_s, end_s = _span_s(film)
    wanted = sorted({STAGE, "blink", *(stage for run in runs for stage in run.inputs.makers)})
    settings = _settings(wanted, runs)
    settings["clip"] = {**settings.get("clip", {}), "max_s": LONGEST_S + 1.0}
    files = {"path": film, "portrait": picture}
    source = {"id": ANSWER, **{key: os.path.relpath(path.resolve(), folder) for key, path in files.items()}}
    dataset = {"name": ANSWER, "clips": "clips.csv", "stages": wanted}
    text = manifest_text(dataset, [{**source, "licence": "yours"}], settings)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "respond.toml").write_text(text, encoding="utf-8")
    times = (f"{float(time_s):.6f}" for time_s in (start_s, end_s))
    write_csv(folder / "clips.csv", [*CSV_COLUMNS, "clip_id"], [[ANSWER, *times, "", attitude, "", "", SPLIT, ANSWER]])
    data = folder / "data"
    with locked(data):
        job = Build(load_manifest(folder / "respond.toml"), data, find_stages(), BuildOptions())
        report = job.run(job.survey(), partial(run_here, device=device()))
    for stage, outcome in report.after.missing.values():
        why = ": ".join(filter(None, (outcome.reason, outcome.last_line())))
        raise UserError(f"{film} and {picture}: the stage {stage} says {why}; choose another film or picture")
    return data


def _settings(stages: Sequence[str], runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Settings of the stages and of those that they read, as of the data that the runs learned from."""
    learned = [read_description(root).stages for run in runs for root in run.roots if (root / FILE).is_file()]
    chosen = [code.name for code in select(find_stages(), stages, {})]
    return {name: dict(makers[name].settings) for makers in reversed(learned) for name in chosen if name in makers}


def _span_s(film: Path) -> tuple[Fraction, Fraction]:
    try:
        with SourceReader(film) as reader:
            times = reader.frame_times()
    except MediaError as error:
        raise UserError(f"{film}: {error}; expected a film of the speaker") from None
    start_s, end_s = max(times.time_s(0), Fraction(0)), times.time_s(-1) + seconds_of(1)
    if end_s - start_s > LONGEST_S:
        raise UserError(f"{film}: {float(end_s - start_s):.0f} s long, expected {LONGEST_S} s or less; cut out a part")
    return start_s, end_s


def answers(predictors: Sequence[Predictor], samples: int, seed: int, data: Path, out: Path) -> list[Path]:
    """Predictions of every run and sample, a data set each."""
    folders = []
    for (number, predictor), sample in product(enumerate(predictors), range(samples)):
        folders.append(out / f"{number:02d}_{predictor.folder.root.name}_{sample:02d}")
        write_predictions([predictor], Request(data, (SPLIT,), draw=Draw(seed, sample)), folders[-1])
    return folders


def eased(clip: ClipToRender) -> ClipToRender:
    """The clip with a prediction that leaves the picture smoothly, whatever the run says of the frame after it.

    A run goes to what listeners of its data look like at once; to the eye that is a cut.
    """
    passed = np.minimum(np.arange(clip.truth["num_frames"]) / frames_in(EASE_S), 1)
    share = (1 + np.cos(np.pi * passed)) / 2
    motion = {}
    for name in (name for part in (*MOTION, "crop") if (name := f"{LISTENER}_{part}") in clip.predicted):
        values, first = held(clip.predicted[name]), clip.truth[name][reference_frame(clip.truth)]
        motion[name] = values + share[:, None] * (first - values[min(1, len(values) - 1)])
        motion[name][0] = first
    return replace(clip, predicted={**clip.predicted, **motion})


def show(videos: Sequence[Path], sound: Path, out: Path) -> None:
    """Write the videos beside each other, with the sound; the first is the speaker's."""
    columns = len(videos) if len(videos) <= IN_A_ROW else math.ceil(math.sqrt(len(videos)))
    rows = math.ceil(len(videos) / columns)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".tmp-") as scratch:
        silent, whole = Path(scratch) / "silent.mp4", Path(scratch) / "whole.mp4"
        frames = _side_by_side(videos, columns, rows)
        first = next(frames)
        with VideoWriter(silent, (first.shape[1], first.shape[0])) as writer:
            writer.write(first)
            for frame in frames:
                writer.write(frame)
        add_sound(silent, sound, whole)
        whole.replace(out)


def _side_by_side(videos: Sequence[Path], columns: int, rows: int) -> Iterator[np.ndarray]:
    for pictures in zip(*map(read_video, videos), strict=True):
        empty = [np.zeros_like(pictures[0])] * (columns * rows - len(pictures))
        tiles = [*pictures, *empty]
        yield np.vstack([np.hstack(tiles[row * columns : (row + 1) * columns]) for row in range(rows)])


@command(
    option("film", type=Path, help="the speaker, alone in the picture, with sound"),
    option("--listener", type=Path, required=True, metavar="PICTURE", help="who answers: PNG, JPEG or WebP, one face"),
    option("--run", type=Path, action="append", required=True, help="of jobs.train; several give several answers"),
    option("--out", type=Path, required=True, metavar="ANSWER.mp4", help="the film that is written"),
    option("--samples", type=int, default=1, help="answers of each run"),
    option("--attitude", choices=ATTITUDES, default="", help="the listener's"),
    option("--seed", type=int, default=0, help="of the listeners' draws"),
    option("--renderer", choices=tuple(RENDERERS), default="mesh_warp"),
    option("--weights", help="pirender: an entry of weights.toml or, with a /, your own checkpoint"),
    option("--data", type=Path, metavar="DIR", help="keep the coefficients: DIR/data, DIR/predicted, DIR/videos"),
)
def main(options: argparse.Namespace) -> None:
    """Let a listener of whom there is a picture answer a film."""
    for file in (options.film, options.listener):
        if not file.is_file():
            raise UserError(f"{file}: no such file; expected the speaker's film and then --listener PICTURE")
    if options.samples < 1:
        raise UserError(f"--samples {options.samples}: expected 1 or more")
    predictors = [Predictor(RunFolder(run.resolve()), torch.device(device())) for run in options.run]
    for predictor in predictors:
        if predictor.run.inputs.role != LISTENER:
            raise UserError(f"{predictor.folder.root}: it says what the speaker does; choose a listener's run")
        if (options.attitude or NO_LABEL) not in predictor.run.vocabulary:
            known = ", ".join(predictor.run.vocabulary)
            raise UserError(f"{predictor.folder.root}: it knows the attitudes {known}; name one with --attitude")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() if options.data is None else nullcontext(options.data) as name:
        folder = Path(name).resolve()
        data = build(options.film, options.listener, options.attitude, [one.run for one in predictors], folder)
        choice = choose(options.renderer, data, options.weights)
        clips = {}
        for predicted in answers(predictors, options.samples, options.seed, data, folder / "predicted"):
            (clip,) = clips_to_render(predicted, data, SPLIT)
            clips[folder / "videos" / predicted.name / f"{ANSWER}.mp4"] = eased(clip)
        videos = [path for path, _, _ in render_all(choice, clips, min(os.cpu_count() or 1, len(clips)))]
        (speaker,) = read_clips(data, ["speaker_video", "audio"])
        show([media_file(data, speaker["speaker_video"]), *videos], media_file(data, speaker["audio"]), options.out)
    told = "; ".join(path.parent.name for path in videos)
    print(f"{options.out}: the speaker and {len(videos)} answers of {speaker['num_frames']} frames: {told}")
