"""Faces known by construction: landmarks projected from coefficients, and clips that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from pipeline.clip import Clip
from pipeline.clock import FPS, Span
from schemas.column import ROLES
from stages.morphable.basis import Basis, load_basis
from stages.morphable.rotation import rotation_matrix

SIDE_PX = 384
CORRELATION_FRAMES = 5  # an expression changes within about a third of a second


@dataclass(frozen=True)
class Truth:
    """A face that moves: coefficients, angle (frame, 3) in rad, scale_px (frame,), origin_px (frame, 2) with y down."""

    identity: np.ndarray
    expression: np.ndarray
    angle: np.ndarray
    scale_px: np.ndarray
    origin_px: np.ndarray

    def landmarks(self, basis: Basis, noise_px: float = 0.0, seed: int = 0) -> np.ndarray:
        """Points float32 (frame, 478, 3) as MediaPipe has them, by a scaled-orthographic camera."""
        shape = basis.shape(self.identity, self.expression)
        rotation = rotation_matrix(torch.from_numpy(self.angle)).numpy()
        points = np.einsum("tij,tvj->tvi", rotation, shape) * self.scale_px[:, None, None] * [1, -1, -1]
        points[..., :2] += self.origin_px[:, None]
        noise = np.random.default_rng(seed).normal(size=points.shape)
        return (points + noise_px * noise).astype(np.float32)


def moving_face(num_frames: int, seed: int = 0, basis: Basis | None = None) -> Truth:
    """A face of a person drawn from the basis whose expression wanders and whose head turns by up to 25 degrees."""
    basis = basis or load_basis()
    rng = np.random.default_rng(seed)
    kernel = np.exp(-0.5 * (np.arange(-15, 16) / CORRELATION_FRAMES) ** 2)
    steps = rng.normal(size=(num_frames + len(kernel) - 1, len(basis.expression_std)))
    wandering = np.stack([np.convolve(column, kernel / np.linalg.norm(kernel), "valid") for column in steps.T], 1)
    time_s = np.arange(num_frames) / FPS
    rates, phases = rng.uniform(0.5, 2, 6), rng.uniform(0, 6, 6)
    waves = [np.sin(rate * time_s + phase) for rate, phase in zip(rates, phases, strict=True)]
    return Truth(
        identity=rng.normal(size=len(basis.identity_std)) * basis.identity_std,
        expression=wandering * basis.expression_std,
        angle=np.stack([0.25 * waves[0], 0.43 * waves[1], 0.2 * waves[2]], 1),
        scale_px=130 * (1 + 0.1 * waves[3]),
        origin_px=SIDE_PX / 2 + 12 * np.stack([waves[4], waves[5]], 1),
    )


def rotation_error_deg(angle: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Angle between rotations (frame,), of (frame, 3) in rad each."""
    ours, theirs = (rotation_matrix(torch.from_numpy(a.astype(np.float64))).numpy() for a in (angle, truth))
    cosine = (np.einsum("tij,tij->t", ours, theirs) - 1) / 2
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


def clip_of(points: dict[str, np.ndarray], folder: Path, clip_id: str = "source_0_1") -> Clip:
    """A clip with these landmarks; frames whose points are not finite are not valid."""
    values: dict[str, object] = {"clip_id": clip_id, "source_damaged": np.zeros(len(points["speaker"]), bool)}
    for role in ROLES:
        values[f"{role}_landmarks"] = points[role]
        values[f"{role}_landmarks_valid"] = np.isfinite(points[role]).all(axis=(1, 2))
        values[f"{role}_video"] = f"{role}.mp4"
    span = Span(Fraction(0), Fraction(len(points["speaker"]), FPS))
    return Clip(values, span, folder / "source.mp4", folder, folder / "scratch")
