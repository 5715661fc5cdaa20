"""The networks, alignments, rotations and the camera of ``stages.morphable`` against other people's programs."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.media.encode import VideoWriter
from stages.morphable import camera, deep3d, rotation, tddfa
from stages.threedmm import ThreeDMM
from tests.labs.morphable import clip_of

pytestmark = pytest.mark.shared
CHECKPOINT = "epoch_20.pth"


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden" / "threedmm"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def pictures(paths: list[Path]) -> Tensor:
    """uint8 RGB (picture, 3, side, side)."""
    return torch.stack([torch.from_numpy(cv2.imread(str(p))[..., ::-1].copy()).permute(2, 0, 1) for p in paths])


def by_formula(key: str, shape: list[int]) -> Tensor:
    """The weights that golden/README.md defines."""
    normal = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith("num_batches_tracked"):
        normal = np.zeros(shape)
    elif key.endswith("running_var"):
        normal = 1 + 0.1 * np.abs(normal)
    elif key.endswith("running_mean"):
        normal = 0.1 * normal
    elif key.endswith("bias"):
        normal = 0.05 * normal
    elif len(shape) >= 2:
        normal = normal / np.sqrt(np.prod(shape[1:]))
    else:
        normal = 1 + 0.1 * normal
    return torch.tensor(np.asarray(normal, np.float32))


@pytest.fixture(scope="module")
def checkpoint(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file laid out as the published one."""
    shapes = read(golden / "d3_state_dict_keys.json")
    folder = tmp_path_factory.mktemp("deep3d")
    network = {key: by_formula(key, shape) for key, shape in shapes.items()}
    torch.save({"net_recon": network, "opt_00": {}, "sched_00": {}}, folder / CHECKPOINT)
    return folder / CHECKPOINT


def test_the_rotation_and_the_camera_are_those_of_deep3dfacerecon(golden: Path) -> None:
    wanted = read(golden / "rotation_camera.json")
    five = torch.tensor(read(golden / "pos_alignment.json")["lm3d_std_LE_RE_nose_LM_RM"])
    angle, trans = torch.tensor(wanted["angles_pitch_yaw_roll_rad"]), torch.tensor(wanted["trans"])
    row_wise = rotation.rotation_matrix(angle).mT
    np.testing.assert_allclose(row_wise, wanted["rotation_row_vector"], atol=1e-6)
    np.testing.assert_allclose(camera.to_camera(five, angle, trans), wanted["five_points_camera"], atol=1e-5)
    np.testing.assert_allclose(camera.to_window(five, angle, trans), wanted["five_points_image_y_up"], atol=1e-4)


@given(st.tuples(st.floats(-3, 3), st.floats(-1.5, 1.5), st.floats(-3, 3)))
def test_angles_come_back_from_their_matrix(angle: tuple[float, float, float]) -> None:
    wanted = torch.tensor([angle], dtype=torch.float64)
    found = rotation.angles_of(rotation.rotation_matrix(wanted))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_crop_and_trans_hold_the_whole_placement() -> None:
    rng = np.random.default_rng(0)
    scale, origin = torch.from_numpy(rng.uniform(100, 160, 50)), torch.from_numpy(rng.uniform(150, 230, (50, 2)))
    crop, trans = camera.crop_and_trans(camera.Placement(scale, origin), torch.ones(50, dtype=torch.bool))
    back = camera.placement_of(crop, trans)
    np.testing.assert_allclose(back.scale_px, scale, rtol=1e-9)
    np.testing.assert_allclose(back.origin_px, origin, rtol=1e-9)
    assert len(crop.unique(dim=0)) == 1


def test_deep3d_gives_the_golden_257_outputs(golden: Path, checkpoint: Path) -> None:
    network = deep3d.Deep3D(checkpoint)
    found = network.coefficients(pictures([golden / "d3_img" / f"face{k}.png" for k in range(3)]))
    np.testing.assert_allclose(found, np.load(golden / "d3_outputs.npz")["coeff"], atol=5e-5)


def test_five_points_align_as_in_the_published_code(golden: Path) -> None:
    sets = read(golden / "pos_alignment.json")["sets"]
    for entry in sets:
        points = torch.tensor(entry.get("five_points_y_up") or entry["points_y_up"], dtype=torch.float64)
        np.testing.assert_allclose(deep3d.crop_of(points[None])[0], entry["trans_params"][2:], rtol=1e-9)
    assert len(sets) == 5


def test_the_window_is_the_published_crop_to_a_grey_level(golden: Path, shared: Path) -> None:
    entry = read(golden / "pos_alignment.json")["sets"][0]
    (frame,) = pictures([shared / "media" / entry["source"]])
    found = deep3d.window(frame, torch.tensor(entry["trans_params"][2:])).int()
    difference = (found - pictures([golden / entry["crop_png"]])[0].int()).abs().float()
    assert difference.mean() < 0.3 and difference.max() <= 4


def test_the_window_outside_of_the_frame_is_black() -> None:
    frame = torch.full((3, 100, 100), 200, dtype=torch.uint8)
    found = deep3d.window(frame, torch.tensor([1.0, 99.0, 50.0]))
    assert found.shape == (3, 224, 224)
    assert found[:, 112, 20].tolist() == [200] * 3 and not found[:, :, 120:].any()


def network(shared: Path) -> tddfa.Tddfa:
    folder = shared / "models" / "3ddfa_v2"
    return tddfa.Tddfa(folder / "mb05_120x120.pth", folder / "param_mean_std_62d_120x120.npz")


def test_tddfa_v2_gives_the_golden_62_outputs_and_angles(golden: Path, shared: Path) -> None:
    crops = read(golden / "tddfa.json")["crops"]
    rgb, wanted = pictures([golden / crop["png"] for crop in crops]), np.load(golden / "tddfa_outputs.npz")
    np.testing.assert_allclose(network(shared).whitened(rgb), wanted["whitened"], atol=1e-4)
    coefficients = network(shared).coefficients(rgb)
    np.testing.assert_allclose(coefficients, wanted["dewhitened"], rtol=1e-3, atol=1e-4)
    pitch, yaw, roll = np.degrees(tddfa.pose_of(coefficients)[0].numpy()).T
    published = np.array([crop["yaw_pitch_roll_deg"] for crop in crops])
    np.testing.assert_allclose(np.stack([-yaw, pitch, roll], 1), published, atol=0.02)  # it counts yaw the other way


def test_tddfa_v2_cuts_the_golden_crop_from_the_golden_box(golden: Path, shared: Path) -> None:
    for entry in read(golden / "tddfa.json")["crops"]:
        if entry["frame"] is None:
            frame, wanted = pictures([shared / "media" / entry["source"]])[0], pictures([golden / entry["png"]])[0]
            corners = torch.tensor(entry["mtcnn_box"]).reshape(1, 2, 2)
            difference = (tddfa.cut(frame, tddfa.face_boxes(corners)[0]) - wanted).abs()
            assert difference.mean() < 0.6, entry["png"]


def moving_clip(golden: Path, folder: Path) -> Any:
    """Ten frames of a real face for each role, and landmarks that stand where its five points are."""
    entry = read(golden / "pos_alignment.json")["sets"][1]
    (picture,) = pictures([golden / "d3_img" / "face1.png"])
    frame = np.zeros((384, 384, 3), np.uint8)
    frame[80:304, 80:304] = picture.permute(1, 2, 0).numpy()
    points = np.random.default_rng(0).uniform(150, 230, (10, 478, 3)).astype(np.float32)
    points[:, :2, :2] = [[130, 110], [250, 290]]  # the box
    for (x, y), indices in zip(entry["lm_in_224_y_up"], deep3d.FIVE_POINTS, strict=True):
        points[:, list(indices), :2] = [80 + x, 80 + 223 - y]
    points[4] = np.nan
    for role in ("speaker", "listener"):
        with VideoWriter(folder / f"{role}.mp4", (384, 384), crf=1) as writer:
            for _ in range(10):
                writer.write(frame)
    return clip_of({"speaker": points, "listener": points}, folder)


@pytest.mark.parametrize("fitter", ["deep3d", "tddfa_v2"])
def test_a_network_fills_its_columns(fitter: str, golden: Path, shared: Path, checkpoint: Path, tmp_path: Path) -> None:
    weights = {"deep3d": checkpoint.parent, "tddfa_v2": shared / "models" / "3ddfa_v2"}[fitter]
    stage = ThreeDMM(ThreeDMM.Settings(fitter=fitter, weights=str(weights), batch=4))
    stage.setup("cpu")
    values = stage.process(moving_clip(golden, tmp_path))
    assert set(values) == {column.name for column in stage.writes()}
    for column in stage.writes():
        array = column.check(values[column.name], num_frames=10)
        if column.name.endswith(("_exp", "_angle", "_trans", "_crop", "_identity", "_tex", "_gamma")):
            assert np.isnan(array[4]).all() and np.isfinite(np.delete(array, 4, axis=0)).all()
    np.testing.assert_allclose(values["speaker_exp"][0], values["listener_exp"][0], atol=1e-5)
    if fitter == "deep3d":
        crop = deep3d.window(torch.zeros(3, 384, 384, dtype=torch.uint8), torch.from_numpy(values["speaker_crop"][0]))
        assert crop.shape == (3, 224, 224)
        assert values["speaker_crop"][0][0] == pytest.approx(1, abs=0.02)  # the face had that size already
