"""What the demo's films show, told frame by frame on the clips' 30 fps grid: the tests' ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.demo.conversation import Scene, Turn, perform
from jobs.demo.head import Head
from jobs.demo.portrait import PANEL_W_PX
from jobs.demo.sound import click_sample, mouth_opening
from schemas.clip import SIDES

CLOSED = 0.5  # closures drawn are 0, 0.25 and 1


def scene_truth(scene: Scene, heads: Mapping[str, Head]) -> dict[str, Any]:
    """One source and its clips as plain JSON. ``heads`` are the people's, by name."""
    return {
        "source": scene.source_id,
        "file": scene.file,
        "frame_rate": str(scene.frame_rate),
        "num_frames": scene.num_frames,
        "sample_rate_hz": scene.sample_rate_hz,
        "click_samples": [click_sample(moment, scene.sample_rate_hz) for moment in scene.clicks()],
        "cut_frame": next((frame for frame in range(scene.num_frames) if scene.swapped(frame)), None),
        "clips": [_clip_truth(scene, turn, heads) for turn in scene.turns],
    }


def _clip_truth(scene: Scene, turn: Turn, heads: Mapping[str, Head]) -> dict[str, Any]:
    span = turn.span
    times_s = [span.frame_time(k) for k in range(span.num_frames)]
    frames = [round(time_s * scene.frame_rate) for time_s in times_s]
    return {
        "start_s": float(span.start_s),
        "end_s": float(span.end_s),
        "num_frames": span.num_frames,
        "crosses_cut": scene.swapped(frames[-1]) and not scene.swapped(frames[0]),
        "source_frame": frames,  # the one nearest in time to each instant of the grid
        "click_frames": scene.click_frames(turn),
        "speech": [round(mouth_opening(scene.syllables, float(time_s)), 4) for time_s in times_s],
        "pauses_s": [[round(edge - float(span.start_s), 4) for edge in pause] for pause in scene.pauses(turn)],
        **{turn.role(side): _role_truth(scene, side, frames, heads[scene.person(side)]) for side in SIDES},
    }


def _role_truth(scene: Scene, side: str, frames: list[int], head: Head) -> dict[str, Any]:
    """What one person does in a clip. Pixels are the source's; eyes mean the line between the outer eye corners."""
    moments = perform(scene, side)
    shown = [moments[frame] for frame in frames]
    lines = [head.eye_line(moment.pose) for moment in shown]
    centres = [line.centre_px for line in lines]
    panel_px = [PANEL_W_PX * ((side == "right") != scene.swapped(frame)) for frame in frames]
    return {
        "person": scene.person(side),
        "side": side,
        "blink_frames": [k for k, moment in enumerate(shown) if moment.expression.lids > CLOSED],
        "eyes_px": [[round(x + left_px, 3), round(y, 3)] for (x, y), left_px in zip(centres, panel_px, strict=True)],
        "eyes_length_px": [round(line.length_px, 3) for line in lines],
        "eyes_angle_rad": [round(line.angle_rad, 5) for line in lines],
        "lids": [moment.expression.lids for moment in shown],  # as they were drawn, like the rest
        "mouth": [round(moment.expression.mouth, 4) for moment in shown],
        "nod_rad": [round(moment.pose.nod_rad, 5) for moment in shown],
        "turn_rad": [round(moment.pose.turn_rad, 5) for moment in shown],
    }
