"""Predicted motion to video: ``python -m jobs.render PRED --data DATA --out VIDEOS [--renderer mesh_warp|pirender]``.

Writes ``VIDEOS/<clip_id>.mp4``, as large as the data set's crops, at 30 fps and with the clip's sound, and beside them
the manifest from which ``python -m jobs.build VIDEOS/reextract.toml --out DIR`` extracts their coefficients anew
(jobs.reextract). Predictions with several samples give a folder each. Exit status: 0 or 2 (something does not fit).
"""

from __future__ import annotations

import argparse
import math
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
from schemas.column import LISTENER
from schemas.errors import UserError
from stages.evaluate.render.scene import ClipToRender, Renderer, Restoration, TurnedAway, clips_to_render

RENDERERS = {"mesh_warp": "landmark_gn", "pirender": "deep3d"}  # renderer -> the fitter whose coefficients it draws
SHARPENING = "sharpen"  # the embedded restoration; anything else is a file
PIRENDER_EXPRESSION = 64  # of the 73 numbers that its network takes


@dataclass(frozen=True)
class Choice:
    """Which renderer, the file that it loads, PCHG's tricks and what restores its frames: a method or a file."""

    name: str
    file: Path
    padding: str = "border"
    fusion: str = "ours"
    restoration: str = ""

    @property
    def most_turn_rad(self) -> float:
        """How far a head may be turned from the camera in the picture that is drawn from.

        PIRenderer was trained with profiles too, and the ViCo challenge gave it the first frame, whatever it showed.
        """
        from stages.evaluate.render.mesh_warp import MOST_TURN_RAD

        return MOST_TURN_RAD if self.name == "mesh_warp" else math.inf


def choose(name: str, data: Path, weights: str | None, **how: str) -> Choice:
    """The renderer for a data set; ``how`` are further fields of `Choice`.

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
        (exp,) = columns_of(data, ["listener_exp"]).values()  # the speaker's are as many
        if exp.axes[-1] != PIRENDER_EXPRESSION:
            raise UserError(
                f"{data}: pirender draws {PIRENDER_EXPRESSION} expression coefficients, found {exp.axes[-1]}; build "
                "the data set with the fitter that the checkpoint was trained with"
            )
        return Choice(name, find_weights(weights or "pirender").paths()[0], **how)
    if len(stages[STAGE].weights) != 1:
        raise UserError(f"{data}: names no basis that it was fitted with; expected what jobs.build wrote with {STAGE}")
    ((basis, sha256),) = stages[STAGE].weights.items()
    found = find_weights(basis)
    if found.sha256 != sha256:
        raise WeightsError(f"{data} was fitted with {basis} of sha256 {sha256}, {found.root()} has {found.sha256}")
    return Choice(name, found.paths()[0], **how)


@lru_cache(maxsize=1)
def load(choice: Choice) -> Renderer:
    """The renderer, ready; once a process."""
    if choice.name == "pirender":
        from stages.evaluate.render.pirender import PIRender

        return PIRender(choice.file, device(), padding=choice.padding, fusion=choice.fusion)
    from stages.evaluate.render.mesh_warp import MeshWarp
    from stages.morphable.basis import load_basis

    return MeshWarp(load_basis(choice.file))


@lru_cache(maxsize=1)
def restoration(choice: Choice) -> Restoration | None:
    """What restores the renderer's frames, ready; once a process."""
    if not choice.restoration:
        return None
    from stages.evaluate.render.restoration import Exported, Sharpening

    return Sharpening() if choice.restoration == SHARPENING else Exported(Path(choice.restoration), device())


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def render_clip(choice: Choice, clip: ClipToRender, path: Path) -> tuple[Path, int, float]:
    """Write one clip's video to ``path``; returns it, the number of frames and the seconds it took."""
    renderer, restored, start = load(choice), restoration(choice), time.perf_counter()
    scene = clip.scene(choice.most_turn_rad)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".tmp-") as scratch:
        silent, whole = Path(scratch) / "silent.mp4", Path(scratch) / "whole.mp4"
        with VideoWriter(silent, (scene.side_px, scene.side_px)) as writer:
            frames = renderer.render(scene)
            for frame in restored.restored(frames) if restored else frames:
                writer.write(frame)
        add_sound(silent, clip.sound, whole)
        whole.replace(path)
    return path, len(scene.closed), time.perf_counter() - start


def can_be_drawn(choice: Choice, clips: Mapping[Path, ClipToRender]) -> dict[Path, ClipToRender]:
    """The clips that show their listener from the front; says which others are left out, `TurnedAway` if all are."""
    drawn, refusals = {}, {}
    for path, clip in clips.items():
        try:
            clip.reference(choice.most_turn_rad)
            drawn[path] = clip
        except TurnedAway as refusal:
            refusals[path] = refusal
    if refusals and not drawn:
        raise next(iter(refusals.values()))
    for path, refusal in refusals.items():
        print(f"{path}: left out: {refusal}")
    return drawn


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
    option("--plain", action="store_true", help="pirender as published: --padding zeros --fusion none"),
    option("--padding", choices=("border", "zeros"), help="pirender: what lies beyond the picture (default: border)"),
    option("--fusion", choices=("ours", "paper", "none"), help="pirender: with the still background (default: ours)"),
    option("--restore", default="", metavar="HOW", help=f"{SHARPENING} frames, or the file of a network that does"),
    option("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)"),
)
def main(options: argparse.Namespace) -> None:
    """Render predicted listeners."""
    how = {"padding": options.padding or ("zeros" if options.plain else "border")}
    how |= {"fusion": options.fusion or ("none" if options.plain else "ours"), "restoration": options.restore}
    choice = choose(options.renderer, options.data, options.weights, **how)
    restoration(choice)  # a file that is none is said at once
    clips, role = {}, LISTENER
    for sample in sample_names(options.predictions) or [""]:
        out = options.out / sample
        found = clips_to_render(options.predictions / sample, options.data, options.split)
        clips |= {out / f"{clip.clip_id}.mp4": clip for clip in found}
        role = found[0].role
    clips = can_be_drawn(choice, clips)
    for path, frames, seconds in render_all(choice, clips, min(options.workers, len(clips))):
        print(f"{path}: {frames} frames, {1000 * seconds / frames:.0f} ms a frame", flush=True)
    for out in dict.fromkeys(path.parent for path in clips):
        print(f"their coefficients: python -m jobs.build {write_manifest(out, options.data, role)} --out DIR")
