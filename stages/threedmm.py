"""Stage ``threedmm``: coefficients of a 3D morphable model for every frame of both roles.

What listener models learn and the ViCo challenge scores (Zhou et al., ECCV 2022). Three fitters write columns of the
same names whose numbers do not mix: the data set records the fitter and the hash of what it loads, and
`schemas.coefficients.one_fitter` refuses data sets that differ. Models and mathematics are in `stages.morphable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pipeline.clip import Clip
from pipeline.media.encode import read_video
from pipeline.stage import Reject, Stage, answer, setting
from pipeline.weights import find_weights
from schemas.column import ROLES, Column, both
from stages.morphable.columns import columns_of

CROP_SIDE_PX = 384  # of the role videos, in whose pixels the landmarks are
OWN_WEIGHTS = {"landmark_gn": "basis_media_v1", "deep3d": "deep3d", "tddfa_v2": "3ddfa_v2"}

Fits = dict[str, dict[str, np.ndarray]]  # role -> column without its role -> values


class ThreeDMM(Stage):
    """3DMM coefficients: landmark_gn fits a linear morphable model to the landmarks (Gauss-Newton with PCA priors,
    Blanz and Vetter 1999); deep3d is Deep3DFaceRecon (Deng et al. 2019); tddfa_v2 is 3DDFA_V2 (Guo et al. 2020).
    """

    @dataclass(frozen=True)
    class Settings:
        fitter: str = setting("landmark_gn", "who fits", choices=tuple(OWN_WEIGHTS))
        weights: str = setting(
            "", "what it loads: an entry of weights.toml or, with a /, your own .npz basis or folder (empty: its own)"
        )
        min_valid: float = setting(0.9, "share of a clip's frames that must be fitted, for each role")
        max_error: float = setting(
            0.02, "landmark_gn: largest mean distance from the landmarks, of the face's diagonal, in a valid frame"
        )
        smoothness: float = setting(0.0, "landmark_gn: weight of steps of the expression against the expression itself")
        batch: int = setting(64, "deep3d, tddfa_v2: pictures that pass the network together", least=1)
        half: bool = setting(True, "deep3d: half precision where it runs on a GPU")

    rejects = {
        "face_not_seen": "a role has landmarks in fewer than min_valid of the frames",
        "fit_diverged": "the fit of a role is not finite, or lies beyond max_error in too many frames",
    }
    version = 2  # fitted in float64: landmark_gn's coefficients no longer depend on the order of a sum
    batches_on = ("cuda",)
    gpus = 0.25  # small networks: four copies keep a GPU busy while they decode

    def reads(self) -> tuple[str, ...]:
        names = ("{role}_landmarks", "{role}_landmarks_valid")
        return both(*names) if self.settings.fitter == "landmark_gn" else both(*names, "{role}_video")

    def writes(self) -> tuple[Column, ...]:
        return columns_of(self.settings.fitter)

    def weights(self) -> tuple[str, ...]:
        return (self.settings.weights or OWN_WEIGHTS[self.settings.fitter],)

    def setup(self, device: str) -> None:
        from stages.morphable.fitters import FITTERS, Options

        files = {path.name: path for path in find_weights(*self.weights()).paths()}
        options = Options(device, self.settings.smoothness, self.settings.batch, self.settings.half)
        self._fitter = FITTERS[self.settings.fitter](files, options)
        self._together = device != "cpu"  # on the CPU the bytes of a clip must not depend on its company

    def process_part(self, clips: list[Clip]) -> list[dict[str, Any] | Exception]:
        if not self._together:
            return super().process_part(clips)
        unusable = {clip.clip_id: self._unusable(clip) for clip in clips}
        usable = [clip for clip in clips if unusable[clip.clip_id] is None]
        fits = self._fit(usable) if usable else {}
        return [unusable[clip.clip_id] or answer(self._columns, clip, fits[clip.clip_id]) for clip in clips]

    def process(self, clip: Clip) -> dict[str, Any]:
        unusable = self._unusable(clip)
        if unusable:
            raise unusable
        return self._columns(clip, self._fit([clip])[clip.clip_id])

    def _columns(self, clip: Clip, fits: Fits) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for role, fit in fits.items():
            valid = self._valid(role, fit, clip[f"{role}_landmarks_valid"])
            for name, values in fit.items():
                columns[f"{role}_{name}"] = np.where(valid[:, None], values, np.nan) if values.ndim > 1 else values
            columns[f"{role}_coeffs_valid"] = valid
        return {column.name: columns[column.name] for column in self.writes()}

    def _unusable(self, clip: Clip) -> Reject | None:
        for role in ROLES:
            valid = clip[f"{role}_landmarks_valid"]
            if valid.mean() < self.settings.min_valid or not valid.any():
                found = f"{role}: landmarks in {valid.mean():.1%} of {len(valid)} frames"
                return Reject("face_not_seen", f"{found}, expected at least {self.settings.min_valid:.1%}")
        for role in ROLES:
            if not np.isfinite(clip[f"{role}_landmarks"][clip[f"{role}_landmarks_valid"]]).all():
                return Reject("fit_diverged", f"{role}: landmarks that are not finite in a frame that is valid")
        return None

    def _fit(self, clips: Sequence[Clip]) -> dict[str, Fits]:
        from stages.morphable.fitters import FilmedTrack, reproducible

        faces = []
        for clip in clips:
            for role in ROLES:
                video = f"{role}_video"
                frames = partial(read_video, clip.path(video)) if video in self.reads() else tuple
                points, valid = clip[f"{role}_landmarks"], clip[f"{role}_landmarks_valid"]
                faces.append(FilmedTrack(points, valid, CROP_SIDE_PX, frames))
        with reproducible():
            found = iter(self._fitter.fit(faces))
        return {clip.clip_id: {role: next(found) for role in ROLES} for clip in clips}

    def _valid(self, role: str, fit: dict[str, np.ndarray], seen: np.ndarray) -> np.ndarray:
        """Frames whose fit holds, bool (frame,)."""
        error = fit.pop("error", np.zeros(len(seen)))
        if not all(np.isfinite(values[seen] if values.ndim > 1 else values).all() for values in fit.values()):
            raise Reject("fit_diverged", f"{role}: numbers that are not finite")
        valid = seen & (error <= self.settings.max_error)
        if valid.mean() < self.settings.min_valid:
            share, worst = f"{valid.mean():.1%} of {len(valid)} frames", f"{error[seen].max():.1%}"
            limit = f"{self.settings.max_error:.1%} of the face's diagonal"
            raise Reject("fit_diverged", f"{role}: within {limit} of the landmarks in {share}, worst {worst}")
        return valid
