"""How fast the stages are beside the published chain, and what Ray costs: the first tables of ``jobs.bench``.

The same clips are built in one process, by as many worker processes as `jobs.build` takes, with all stages and with
those of the published chain, and on Ray with one worker, all in processes that begin with nothing loaded.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from jobs.bench import reference_chain
from jobs.bench.timing import Times, shortest_s
from jobs.make_demo import make_demo
from pipeline import processes, run
from pipeline.build import Build, BuildOptions, Runner
from pipeline.clock import HOP_SAMPLES, Span, map_to_grid, seconds_of
from pipeline.manifest.clips_csv import CSV_COLUMNS
from pipeline.manifest.load import load_manifest
from pipeline.manifest.write import manifest_text, write_csv
from pipeline.media.encode import read_video, read_wav
from pipeline.media.reader import SourceReader
from pipeline.part import Done, Job, run_here
from pipeline.plan import Part, Pipeline
from pipeline.registry import find_stages
from pipeline.tables import aligned
from schemas.errors import UserError

FULL_HD = (1920, 1080)
FRAME_MS = 1000 * float(seconds_of(1))  # how long a frame is shown
REFERENCE_EVERY = 15  # of the clip's frames; the published chain is too slow to be run on all of them
REPLACES = {  # our stages -> the step of the published chain that they replace
    "MTCNN on every full frame": ("clip", "face"),
    "FaceMesh in static mode": ("landmarks", "blink"),
    "audio chunk by chunk": ("acoustic",),
}
PUBLISHED, ALL_STAGES = "published: all steps", "all stages, one process"  # names of times
ONE, BY_DEFAULT = "whole build, one process", "whole build, default workers"
CHAIN_BUILD = "the published chain's stages, default workers"
CHAIN = [stage for stages in REPLACES.values() for stage in stages]


@dataclass(frozen=True)
class Sample:
    """The video to measure and the clips cut from it."""

    video: Path
    spans: tuple[Span, ...]
    speaker_side: str

    def ms_a_frame(self, build: Stopwatch) -> float:
        """What a build of the clips took, for a frame of one of them."""
        return 1000 * build.seconds / sum(span.num_frames for span in self.spans)

    def write_manifest(self, folder: Path, stages: Sequence[str] = ()) -> Path:
        """A manifest of the sample's clips, for these stages or for all."""
        times = [(float(span.start_s), float(span.end_s)) for span in self.spans]
        people = (self.speaker_side, "", "p", "q", "train")
        rows = [("bench", *time, *people, f"bench-{number}") for number, time in enumerate(times)]
        write_csv(folder / "clips.csv", [*CSV_COLUMNS, "clip_id"], rows)
        path = folder / "bench.toml"
        source = {"id": "bench", "path": str(self.video), "licence": "none"}
        chosen = {"stages": list(stages)} if stages else {}
        path.write_text(manifest_text({"name": "bench", "clips": "clips.csv", **chosen}, [source]))
        return path


class Stopwatch:
    """A runner that times another one and keeps what was done."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.done: list[Done] = []
        self.seconds = 0.0

    def __call__(self, job: Job, pipeline: Pipeline, parts: Sequence[Part]) -> Iterator[list[Done]]:
        started = time.perf_counter()
        for done in self.runner(job, pipeline, parts):
            self.done += done
            yield done
        self.seconds = time.perf_counter() - started

    def ms_a_frame(self) -> dict[str, float]:
        """Stage -> milliseconds a frame, over the clips after the first, which warms caches up."""
        seconds: dict[str, float] = defaultdict(float)
        frames: dict[str, int] = defaultdict(int)
        warm = self.done[0].clip_id
        for entry in self.done:
            if entry.clip_id != warm:
                seconds[entry.stage] += entry.seconds
                frames[entry.stage] += entry.num_frames
        return {stage: 1000 * seconds[stage] / frames[stage] for stage in seconds}


def measure_build(
    sample: Sample,
    folder: Path,
    runner: Runner,
    stages: Sequence[str] = (),
    overrides: dict[str, dict[str, Any]] | None = None,
) -> Stopwatch:
    """Build the sample's clips into a folder."""
    folder.mkdir(parents=True)
    watch, options = Stopwatch(runner), BuildOptions(overrides or {})
    build = Build(load_manifest(sample.write_manifest(folder, stages)), folder / "out", find_stages(), options)
    report = build.run(build.survey(), watch)
    if report.after.missing:
        why = report.missing_lines()[0].strip()
        raise UserError(f"{sample.video}: cannot be built ({why}); give another --video, --start or --end")
    return watch


def measure_reference(sample: Sample, built: Path) -> dict[str, float]:
    """Milliseconds a frame of every step of the published chain, on some frames of the sample's second clip."""
    span = sample.spans[1]
    with SourceReader(sample.video) as reader:
        pts = map_to_grid(span, reader.frame_times()).pts[::REFERENCE_EVERY]
        frames = [rgb for _, rgb in reader.frames(pts)]
    media = built / "out" / "media" / "bench-1"
    crops = [list(read_video(media / f"{role}.mp4"))[::REFERENCE_EVERY] for role in ("speaker", "listener")]
    samples, _ = read_wav(media / "audio.wav")
    steps: dict[str, tuple[Callable[[], object], int]] = {
        "MTCNN on every full frame": (lambda: reference_chain.mtcnn_every_frame(frames), len(frames)),
        "FaceMesh in static mode": (lambda: reference_chain.facemesh_static(crops[0] + crops[1]), len(crops[0])),
        "audio chunk by chunk": (lambda: reference_chain.chunkwise_audio(samples), span.num_frames),
    }
    reference_chain.mtcnn_every_frame(frames[:1])
    reference_chain.chunkwise_audio(samples[: 2 * HOP_SAMPLES])
    return {name: 1000 * shortest_s(step) / count for name, (step, count) in steps.items()}


def stage_table(ours: dict[str, float], reference: dict[str, float]) -> str:
    """Every stage, the steps that they replace, and the sums; speech has no counterpart in the published chain."""
    rows = [["stage", "ms a frame", "x real time"]]
    rows += [[name, f"{ms:.2f}", f"{FRAME_MS / ms:.1f}"] for name, ms in ours.items()]
    total, slow = sum(ours[stage] for stage in CHAIN), sum(reference.values())
    for name, ms in (("all stages", sum(ours.values())), ("those of the published chain", total)):
        rows.append([name, f"{ms:.2f}", f"{FRAME_MS / ms:.2f}"])
    steps = [["published chain", "ms a frame", "x real time", "ours is faster by"]]
    for name, ms in reference.items():
        own = sum(ours.get(stage, 0.0) for stage in REPLACES[name])
        steps.append([name, f"{ms:.2f}", f"{FRAME_MS / ms:.2f}", f"{ms / own:.1f}"])
    steps.append(["all steps", f"{slow:.2f}", f"{FRAME_MS / slow:.2f}", f"{slow / total:.1f}"])
    return aligned(rows) + "\n\n" + aligned(steps)


def demo_sample(folder: Path, clips: int) -> Sample:
    """The longest clip of the demo at 1920x1080, forth, back and forth: as long as clips of ViCo usually are."""
    import ffmpeg
    import imageio_ffmpeg

    manifest = load_manifest(make_demo(folder / "demo"))
    clip = max(manifest.clips, key=lambda clip: clip.span.num_frames)
    seconds = clip.span.end_s - clip.span.start_s
    film = ffmpeg.input(str(manifest.sources[clip.source_id].path), ss=float(clip.span.start_s), t=float(seconds))
    pictures = film.video.filter("scale", *FULL_HD).filter_multi_output("split", 3)
    sounds = film.audio.filter_multi_output("asplit", 3)
    takes = (pictures[0], sounds[0], pictures[1].filter("reverse"), sounds[1], pictures[2], sounds[2])
    both = ffmpeg.concat(*takes, v=1, a=1).node
    video = folder / "full_hd.mkv"
    copy = ffmpeg.output(both[0], both[1], str(video), vcodec="libx264", preset="veryfast", crf=18, acodec="pcm_s16le")
    copy.global_args("-nostdin", "-loglevel", "error").run(cmd=imageio_ffmpeg.get_ffmpeg_exe())
    return Sample(video, (Span(Fraction(0), 3 * seconds - 1),) * clips, clip.speaker_side)


def film_tables(sample: Sample, folder: Path) -> tuple[str, Times]:
    """Every stage beside the published chain, and whole builds without Ray; minutes."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        plain = fresh.submit(measure_build, sample, folder / "plain", run_here).result()
    stages, reference = plain.ms_a_frame(), measure_reference(sample, folder / "plain")
    workers = measure_build(sample, folder / "workers", processes.run_parts)
    chain = measure_build(sample, folder / "chain", processes.run_parts, CHAIN)
    times = stages | {f"published: {step}": ms for step, ms in reference.items()}
    times |= {PUBLISHED: sum(reference.values()), ALL_STAGES: sum(stages.values())}
    times |= {
        ONE: sample.ms_a_frame(plain),
        BY_DEFAULT: sample.ms_a_frame(workers),
        CHAIN_BUILD: sample.ms_a_frame(chain),
    }
    text = (
        f"{sample.video.name}: {len(sample.spans)} clips of {sample.spans[0].num_frames} frames\n\n"
        f"{stage_table(stages, reference)}\n\n"
        f"The published chain's stages by the default workers: {times[CHAIN_BUILD]:.2f} ms a frame with their start, "
        f"{times[PUBLISHED] / times[CHAIN_BUILD]:.1f} x as fast as the published programs in one process"
    )
    return text, times


def build_tables(sample: Sample, folder: Path) -> tuple[str, Times]:
    """The same and what Ray costs; everything of this file."""
    text, times = film_tables(sample, folder)
    connected_s = shortest_s(lambda: run.connect("local", 1))
    on_ray = measure_build(sample, folder / "ray", partial(run.run_parts, workers=1))
    run.disconnect()
    times |= {"whole build, Ray, one worker": sample.ms_a_frame(on_ray), "start of a private Ray": 1000 * connected_s}
    share = 1 - times[ONE] / sample.ms_a_frame(on_ray)
    ray = f"Ray's share of a build with one worker: {share:.1%}; a private Ray starts in {connected_s:.1f} s"
    return f"{text}\n{ray}", times
