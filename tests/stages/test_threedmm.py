"""Stage ``threedmm``: faces known by construction, bad input, and what the data set says of its numbers."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.attempt import ask
from pipeline.plan import Pipeline
from pipeline.pools import Node, pool_sizes
from pipeline.registry import find_stages
from pipeline.stage import Reject
from schemas.column import ROLES
from stages.morphable.basis import load_basis
from stages.morphable.camera import placement_of
from stages.morphable.fitters import reproducible
from stages.morphable.landmark_gn import LandmarkFitter, Track, filled
from stages.threedmm import ThreeDMM
from tests.labs.morphable import SIDE_PX, Truth, clip_of, moving_face, rotation_error_deg

ROOT = Path(__file__).resolve().parents[2]


def made(**settings: object) -> ThreeDMM:
    stage = ThreeDMM(ThreeDMM.Settings(**settings))
    stage.setup("cpu")
    return stage


@pytest.fixture(scope="module")
def stage() -> ThreeDMM:
    return made()


def points_of(truth: Truth, noise_px: float = 0.0, missing: float = 0.0) -> np.ndarray:
    points = truth.landmarks(load_basis(), noise_px)
    points[np.random.default_rng(1).random(len(points)) < missing] = np.nan
    return points


@pytest.mark.parametrize(("noise_px", "missing"), [(0.0, 0.0), (1.0, 0.0), (0.0, 0.2), (1.0, 0.2)])
@pytest.mark.parametrize("seed", range(3))
def test_a_projected_face_gives_its_parameters_back(noise_px: float, missing: float, seed: int, tmp_path: Path) -> None:
    truth = moving_face(300, seed)
    points = points_of(truth, noise_px, missing)
    values = made(min_valid=0.7).process(clip_of({role: points for role in ROLES}, tmp_path))
    valid = values["speaker_coeffs_valid"]
    np.testing.assert_array_equal(valid, np.isfinite(points).all(axis=(1, 2)))
    assert rotation_error_deg(values["speaker_angle"][valid], truth.angle[valid]).max() <= 1
    place = placement_of(*(torch.from_numpy(values[f"speaker_{name}"][valid]) for name in ("crop", "trans")))
    assert np.abs(place.scale_px.numpy() / truth.scale_px[valid] - 1).max() <= 0.01
    y_up = SIDE_PX - 1 - truth.origin_px[valid, 1]
    np.testing.assert_allclose(place.origin_px.numpy()[:, 1], y_up, atol=0.5)
    np.testing.assert_allclose(place.origin_px.numpy()[:, 0], truth.origin_px[valid, 0], atol=0.5)
    expression = values["speaker_exp"][valid]
    assert np.corrcoef(expression.ravel(), truth.expression[valid].ravel())[0, 1] >= 0.95
    assert np.corrcoef(values["speaker_identity"], truth.identity)[0, 1] >= 0.95


SIGNS = (
    lambda points: 2 * points[4, 1] - points[168, 1] - points[152, 1],  # the nose's tip sinks between root and chin
    lambda points: 2 * points[4, 0] - points[33, 0] - points[263, 0],  # and turns to the right of the picture
    lambda points: points[33, 1] - points[263, 1],  # the line of the eyes rises to the right of the picture
)


def test_signs_are_those_that_the_columns_promise(stage: ThreeDMM, tmp_path: Path) -> None:
    still = moving_face(40)
    for axis, sign_of in enumerate(SIGNS):
        angle = np.zeros((40, 3))
        angle[:, axis] = np.linspace(-0.3, 0.3, 40)
        rest = {"scale_px": np.full(40, 130.0), "origin_px": np.full((40, 2), 192.0)}
        points = points_of(Truth(still.identity, np.zeros_like(still.expression), angle, **rest))
        found = stage.process(clip_of({role: points for role in ROLES}, tmp_path))["speaker_angle"][:, axis]
        assert found[0] < -0.25 and found[-1] > 0.25
        assert sign_of(points[-1]) > sign_of(points[0]) + 20


def test_every_column_has_its_declared_type_and_shape(stage: ThreeDMM, tmp_path: Path) -> None:
    points = {role: points_of(moving_face(12, seed)) for seed, role in enumerate(ROLES)}
    values = stage.process(clip_of(points, tmp_path))
    assert list(values) == [column.name for column in stage.writes()]
    for column in stage.writes():
        column.check(values[column.name], num_frames=12)


@pytest.mark.parametrize("fitter", ["landmark_gn", "deep3d", "tddfa_v2"])
def test_a_fitter_declares_only_what_it_has(fitter: str) -> None:
    columns = {column.name: column for column in ThreeDMM(ThreeDMM.Settings(fitter=fitter)).writes()}
    assert columns["listener_exp"].axes[1] == (10 if fitter == "tddfa_v2" else 64)
    assert ("listener_tex" in columns) == ("speaker_gamma" in columns) == (fitter == "deep3d")
    identity = {"landmark_gn": (80,), "deep3d": ("frame", 80), "tddfa_v2": ("frame", 40)}
    assert columns["speaker_identity"].axes == identity[fitter]
    assert all(column.meaning for column in columns.values())


def test_frames_without_landmarks_hold_no_numbers_and_change_no_others(tmp_path: Path) -> None:
    points, holes = (points_of(moving_face(60)) for _ in ROLES)
    holes[[0, 1, 20, 21, 22, 59]] = np.nan
    values = made(min_valid=0.5).process(clip_of({"speaker": points, "listener": holes}, tmp_path))
    missing = ~values["listener_coeffs_valid"]
    assert np.flatnonzero(missing).tolist() == [0, 1, 20, 21, 22, 59]
    for name in ("exp", "angle", "trans", "crop"):
        assert np.isnan(values[f"listener_{name}"][missing]).all()
        assert np.isfinite(values[f"listener_{name}"][~missing]).all()
    np.testing.assert_allclose(values["listener_angle"][~missing], values["speaker_angle"][~missing], atol=2e-3)


def test_missing_frames_are_interpolated_for_the_solver() -> None:
    points = np.arange(6, dtype=np.float32)[:, None, None] * np.ones((1, 478, 3), np.float32)
    points[[0, 2, 3, 5]] = np.nan
    found = filled(Track(points, np.isfinite(points).all(axis=(1, 2))))
    np.testing.assert_allclose(found[:, 0, 0], [1, 1, 2, 3, 4, 4])


def test_a_clip_with_too_few_landmarks_is_rejected_with_the_share(stage: ThreeDMM, tmp_path: Path) -> None:
    points, holes = (points_of(moving_face(20)) for _ in ROLES)
    holes[:3] = np.nan
    with pytest.raises(Reject) as rejected:
        stage.process(clip_of({"speaker": points, "listener": holes}, tmp_path))
    assert rejected.value.reason == "face_not_seen"
    assert rejected.value.detail == "listener: landmarks in 85.0% of 20 frames, expected at least 90.0%"


CLOUD = np.random.default_rng(0).normal(192, 60, (20, 478, 3)).astype(np.float32)
FAR = r": speaker: within 2\.0% of the face's diagonal of the landmarks in 0\.0%"


@pytest.mark.parametrize(("points", "detail"), [(0 * CLOUD, ""), (np.full_like(CLOUD, np.inf), ""), (CLOUD, FAR)])
def test_points_that_are_no_face_are_rejected(points: np.ndarray, detail: str, stage: ThreeDMM, tmp_path: Path) -> None:
    clip = clip_of({role: points for role in ROLES}, tmp_path)
    clip.values |= {f"{role}_landmarks_valid": np.ones(20, bool) for role in ROLES}
    with pytest.raises(Reject, match=f"^fit_diverged{detail}"):
        stage.process(clip)


def test_frames_far_from_any_face_are_not_valid(stage: ThreeDMM, tmp_path: Path) -> None:
    points = points_of(moving_face(40))
    points[7] = np.random.default_rng(0).normal(192, 60, (478, 3))
    values = stage.process(clip_of({role: points for role in ROLES}, tmp_path))
    assert np.flatnonzero(~values["speaker_coeffs_valid"]).tolist() == [7]


def test_the_bytes_of_a_clip_depend_neither_on_its_company_nor_on_the_number_of_threads(tmp_path: Path) -> None:
    faces = [points_of(moving_face(30 + 10 * seed, seed), noise_px=0.5) for seed in range(3)]
    clips = [clip_of({role: face for role in ROLES}, tmp_path, f"clip-{k}") for k, face in enumerate(faces)]
    alone = [made().process(clip) for clip in clips]
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    together = made().process_part(clips[::-1])[::-1]
    torch.set_num_threads(threads)
    for one, other in zip(alone, together, strict=True):
        assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def test_clips_fitted_as_on_a_gpu_give_the_same_numbers_and_a_bad_one_costs_none(
    stage: ThreeDMM, tmp_path: Path
) -> None:
    faces = [points_of(moving_face(30 + 10 * seed, seed)) for seed in range(3)]
    clips = [clip_of({role: face for role in ROLES}, tmp_path, f"clip-{k}") for k, face in enumerate(faces)]
    bad = clip_of({role: np.full_like(faces[0], np.nan) for role in ROLES}, tmp_path, "bad")
    batched = made()
    batched._together = True
    *answers, rejected = batched.process_part([*clips, bad])
    assert isinstance(rejected, Reject)
    for clip, answer in zip(clips, answers, strict=True):
        assert isinstance(answer, dict)
        alone = stage.process(clip)
        for name in ("speaker_angle", "speaker_exp", "listener_trans", "listener_identity"):
            np.testing.assert_allclose(answer[name], alone[name], rtol=1e-6, atol=1e-6)  # float32's last digit


def test_a_batch_that_fails_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batched = made()
    batched._together = True
    clips = [clip_of({role: points_of(moving_face(20)) for role in ROLES}, tmp_path, f"clip-{k}") for k in range(2)]
    fit = batched._fitter.fit
    monkeypatch.setattr(batched._fitter, "fit", lambda faces: fit(faces) if len(faces) == 2 else 1 // 0)
    with pytest.raises(ZeroDivisionError):
        batched.process_part(clips)
    answers = ask(batched, clips)
    assert all(isinstance(answer.said, dict) and isinstance(answer.batch, ZeroDivisionError) for answer in answers)


def test_smoothness_calms_noise_and_0_is_each_frame_by_itself() -> None:
    basis = load_basis()
    truth = moving_face(120)
    track = Track(truth.landmarks(basis, noise_px=1.0), np.ones(120, bool))
    rough, smooth = (LandmarkFitter(basis, smoothness=s).fit([track])[0].expression.numpy() for s in (0.0, 20.0))
    errors = [(found - truth.expression) / basis.expression_std for found in (rough, smooth)]
    rough_steps, smooth_steps = (np.square(np.diff(error, axis=0)).mean() for error in errors)
    assert smooth_steps < 0.5 * rough_steps
    rough_error, smooth_error = (np.square(error - error.mean(axis=0)).mean() for error in errors)
    assert smooth_error < rough_error


def test_a_frame_takes_a_millisecond_at_most_on_one_core() -> None:
    fitter, track = LandmarkFitter(load_basis()), Track(points_of(moving_face(300)), np.ones(300, bool))
    seconds = []
    with reproducible():
        for _ in range(5):
            start = time.process_time()
            fitter.fit([track])
            seconds.append(time.process_time() - start)
    assert 1000 * min(seconds) / 300 <= 1


def test_on_gpus_the_stage_has_a_pool_of_its_own_with_a_fraction_of_one() -> None:
    pipeline = Pipeline(find_stages(), {})
    groups = pipeline.groups(with_gpus=True)
    group = next(group for group in groups if "threedmm" in group.stages)
    assert 0 < group.gpus < 1
    sizes = pool_sizes(groups, [Node(16, 2)], 100, None)
    assert sum(size.copies for size in sizes if "threedmm" in size.group.stages) > 1
    (plain,) = [group for group in pipeline.groups(with_gpus=False) if "threedmm" in group.stages]
    assert plain.gpus == 0


def test_the_models_import_with_torch_and_numpy_alone() -> None:
    program = """
import sys
for name in ("ray", "mediapipe", "cv2", "av", "pyarrow", "scipy", "PIL", "facenet_pytorch", "torchvision"):
    sys.modules[name] = None
import stages.morphable.fitters, stages.morphable.learning
from stages.morphable.basis import load_basis
print(load_basis().name)
"""
    output = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "media_v1"
