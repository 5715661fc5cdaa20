"""Predicted motion to video: ``python -m jobs.render PRED --data DATA --out VIDEOS [--renderer mesh_warp|pirender]``.

Writes ``VIDEOS/<clip_id>.mp4``, as large as the data set's crops, at 30 fps and with the clip's sound, and beside them
the manifest from which ``python -m jobs.build VIDEOS/reextract.toml --out DIR`` extracts their coefficients anew
(jobs.reextract). Predictions with several samples give a folder each. Exit status: 0 or 2 (something does not fit).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

from jobs.command import command, option
from jobs.reextract import write_manifest
from pipeline.dataset.read import columns_of, provenance_of, read_description, sample_names
from pipeline.media.encode import VideoWriter, add_sound
from pipeline.weights import WeightsError, find_weights
from schemas.clip import SPLITS
from schemas.coefficients import STAGE
from schemas.errors import UserError
from stages.evaluate.render.scene import ClipToRender, Renderer, clips_to_render

RENDERERS = {"mesh_warp": "landmark_gn", "pirender": "deep3d"}  # renderer -> the fitter whose coefficients it draws
PIRENDER_EXPRESSION = 64  # of the 73 numbers that its network takes


@dataclass(frozen=True)
class Choice:
    """Which renderer, and the file that it loads."""

    name: str
    file: Path
    plain: bool = False


def choose(name: str, data: Path, weights: str | None, *, plain: bool) -> Choice:
    """The renderer for a data set.

    Parameters
    ----------
    weights : for `pirender`, what it loads: an entry of weights.toml or, with a /, a checkpoint of one's own, which may
        have been trained with coefficients of any fitter.

    Raises
    ------
    UserError : it does not draw the data set's coefficients. WeightsError : its weights are missing.
    """
    stages = read_description(data).stages
    made = provenance_of(data)
    own = weights is not None and "/" in weights
    if made.fitter != RENDERERS[name] and not (name == "pirender" and own):
        others = [renderer for renderer, fitter in RENDERERS.items() if fitter == made.fitter]
        remedy = f"choose --renderer {others[0]}" if others else f"build it with threedmm.fitter={RENDERERS[name]}"
        raise UserError(f"{data}: {name} draws coefficients of {RENDERERS[name]}, found {made}; {remedy}")
    if name == "pirender":
        (exp,) = columns_of(data, ["listener_exp"]).values()
        if exp.axes[-1] != PIRENDER_EXPRESSION:
            raise UserError(
                f"{data}: pirender draws {PIRENDER_EXPRESSION} expression coefficients, found {exp.axes[-1]}; build "
                "the data set with the fitter that the checkpoint was trained with"
            )
        return Choice(name, find_weights(weights or "pirender").paths()[0], plain)
    if len(stages[STAGE].weights) != 1:
        raise UserError(f"{data}: names no basis that it was fitted with; expected what jobs.build wrote with {STAGE}")
    ((basis, sha256),) = stages[STAGE].weights.items()
    found = find_weights(basis)
    if found.sha256 != sha256:
        raise WeightsError(f"{data} was fitted with {basis} of sha256 {sha256}, {found.root()} has {found.sha256}")
    return Choice(name, found.paths()[0])


@lru_cache(maxsize=1)
def load(choice: Choice) -> Renderer:
    """The renderer, ready; once a process."""
    if choice.name == "pirender":
        import torch

        from stages.evaluate.render.pirender import PIRender

        return PIRender(choice.file, "cuda" if torch.cuda.is_available() else "cpu", plain=choice.plain)
    from stages.evaluate.render.mesh_warp import MeshWarp
    from stages.morphable.basis import load_basis

    return MeshWarp(load_basis(choice.file))


def render_clip(choice: Choice, clip: ClipToRender, path: Path) -> tuple[Path, int, float]:
    """Write one clip's video to ``path``; returns it, the number of frames and the seconds it took."""
    renderer, start = load(choice), time.perf_counter()
    scene = clip.scene()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".tmp-") as scratch:
        silent, whole = Path(scratch) / "silent.mp4", Path(scratch) / "whole.mp4"
        with VideoWriter(silent, (scene.side_px, scene.side_px)) as writer:
            for frame in renderer.render(scene):
                writer.write(frame)
        add_sound(silent, clip.sound, whole)
        whole.replace(path)
    return path, len(scene.closed), time.perf_counter() - start


def render_all(choice: Choice, clips: Mapping[Path, ClipToRender], workers: int) -> Iterator[tuple[Path, int, float]]:
    """`render_clip` for every path and its clip, in order, by this process or by several."""
    task = partial(render_clip, choice)
    if workers == 1:
        yield from map(task, clips.values(), clips)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_one_thread) as pool:
        yield from pool.map(task, clips.values(), clips)


def _one_thread() -> None:
    """As many workers as cores, a thread each."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


@command(
    option("predictions", type=Path, help="the folder that jobs.predict wrote"),
    option("--data", type=Path, required=True, help="the data set that was predicted from"),
    option("--out", type=Path, required=True, help="where the videos go"),
    option("--renderer", choices=tuple(RENDERERS), default="mesh_warp"),
    option("--split", choices=SPLITS, help="only the clips of that split"),
    option("--weights", help="pirender: an entry of weights.toml or, with a /, your own checkpoint"),
    option("--plain", action="store_true", help="pirender: no border padding, no background fusion"),
    option("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)"),
)
def main(options: argparse.Namespace) -> None:
    """Render predicted listeners."""
    choice = choose(options.renderer, options.data, options.weights, plain=options.plain)
    clips = {}
    for sample in sample_names(options.predictions) or [""]:
        out = options.out / sample
        found = clips_to_render(options.predictions / sample, options.data, options.split)
        clips |= {out / f"{clip.clip_id}.mp4": clip for clip in found}
    for path, frames, seconds in render_all(choice, clips, min(options.workers, len(clips))):
        print(f"{path}: {frames} frames, {1000 * seconds / frames:.0f} ms a frame", flush=True)
    for out in dict.fromkeys(path.parent for path in clips):
        print(f"their coefficients: python -m jobs.build {write_manifest(out, options.data)} --out DIR")
