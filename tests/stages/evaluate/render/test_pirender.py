"""PIRenderer against the published program's outputs for weights that a formula defines."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from schemas.errors import UserError
from stages.evaluate.render.pirender import PIRender, generator_weights, semantics, windows
from stages.evaluate.render.pirender_net import Generator, Rendered
from stages.evaluate.render.scene import Motion, Scene

KEYS = "pirender_state_dict_keys.json"


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden" / "threedmm"


@pytest.fixture(scope="module")
def wanted(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "pirender_io.npz") as stored:
        return dict(stored)


def by_formula(key: str, shape: list[int]) -> Tensor:
    """The weights that golden/README.md defines."""
    normal = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith("bias"):
        normal = 0.05 * normal
    elif len(shape) >= 2 and shape[1:] != [1, 1]:
        normal = normal / np.sqrt(np.prod(shape[1:]))
    else:
        normal = 1 + 0.1 * normal
    return torch.tensor(np.asarray(normal, np.float32))


@pytest.fixture(scope="module")
def checkpoint(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file laid out as the published one."""
    shapes = json.loads((golden / KEYS).read_text())
    path = tmp_path_factory.mktemp("pirender") / "epoch_00190_iteration_000400000_checkpoint.pt"
    average = {key: by_formula(key, shape) for key, shape in shapes.items()}
    latest = {key: torch.zeros(shape) for key, shape in shapes.items()}
    torch.save({"net_G": latest, "net_G_ema": average, "opt_G": {}, "sch_G": {}, "current_epoch": 190}, path)
    return path


@pytest.fixture(scope="module")
def picture(golden: Path) -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(str(golden / "pirender_source.png"))[..., ::-1])


def generated(checkpoint: Path, picture: np.ndarray, window: np.ndarray, padding: Any = "zeros") -> Rendered:
    network = Generator(padding).eval()
    network.load_state_dict(generator_weights(checkpoint))
    source = (torch.from_numpy(picture).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
    with torch.inference_mode():
        return network(source, torch.from_numpy(window)[None])


@pytest.mark.shared
def test_the_generator_is_that_of_the_published_program(
    golden: Path, wanted: dict[str, np.ndarray], checkpoint: Path, picture: np.ndarray
) -> None:
    made = generated(checkpoint, picture, wanted["window_network"])
    pictures = {"fake_image": made.picture, "warp_image": made.warped, "flow_field": made.flow}
    statistics = json.loads((golden / "pirender.json").read_text())["outputs"]
    y, x = wanted["pix_y"].astype(int), wanted["pix_x"].astype(int)
    for name, tolerance in (("fake_image", 1e-4), ("warp_image", 1e-4), ("flow_field", 5e-5)):
        values = pictures[name][0]
        at = (y // 4, x // 4) if name == "flow_field" else (y, x)
        np.testing.assert_allclose(values[:, at[0], at[1]], wanted[f"{name}_pixels"], atol=tolerance)
        pooled = torch.nn.functional.adaptive_avg_pool2d(values, 16)
        np.testing.assert_allclose(pooled, wanted[f"{name}_avgpool16"], atol=tolerance)
        assert float(values.std(correction=0)) == pytest.approx(statistics[name]["std"], abs=2 * tolerance)


@pytest.mark.shared
def test_the_descriptor_is_that_of_the_published_program(wanted: dict[str, np.ndarray], checkpoint: Path) -> None:
    network = Generator().eval()
    network.load_state_dict(generator_weights(checkpoint))
    with torch.inference_mode():
        found = network.mapping_net(torch.from_numpy(wanted["window_network"])[None])[0]
    np.testing.assert_allclose(found, wanted["descriptor"].ravel(), atol=1e-5)


@pytest.mark.shared
def test_windows_are_those_of_the_published_program(wanted: dict[str, np.ndarray]) -> None:
    vector = wanted["coeff260"]  # 257 numbers of Deep3DFaceRecon and the crop
    motion = Motion(vector[:, :80], vector[:, 80:144], vector[:, 224:227], vector[:, 254:257], vector[:, 257:])
    found = windows(semantics(motion, 256))
    for frame in (0, 20):
        np.testing.assert_allclose(found[frame], wanted[f"window_frame{frame}"], rtol=1e-6)


@pytest.mark.shared
def test_a_take_is_rendered_in_its_own_size_with_and_without_fusion(checkpoint: Path, picture: np.ndarray) -> None:
    side, count = 384, 1
    crop = np.tile([1.0, 190.0, 190.0], (count, 1))
    motion = Motion(np.zeros(80), np.zeros((count, 64)), np.zeros((count, 3)), np.zeros((count, 3)), crop)
    scene = Scene(cv2.resize(picture, (side, side)), motion, motion, np.zeros(count))
    plain, fused, paper = (
        list(PIRender(checkpoint, padding=padding, fusion=fusion).render(scene))
        for padding, fusion in (("zeros", "none"), ("border", "ours"), ("zeros", "paper"))
    )
    assert [frame.shape for frame in (*plain, *fused, *paper)] == [(side, side, 3)] * 3
    corner = np.s_[:40, :40]  # background: pasted from the reference
    for pasted in (fused, paper):
        assert np.abs(pasted[0][corner].astype(int) - scene.picture[corner]).max() <= 1
    assert np.abs(plain[0][corner].astype(int) - scene.picture[corner]).mean() > 20  # untrained weights paint over it


def test_a_crop_of_384_px_becomes_one_of_256_px() -> None:
    crop = np.array([[0.5, 191.5, 100.0]])  # 191.5 is the middle of 384 pixels
    motion = Motion(np.zeros(80), np.zeros((1, 64)), np.zeros((1, 3)), np.zeros((1, 3)), crop)
    s, x, y = semantics(motion, 384)[0, -3:]
    assert s == pytest.approx(0.75)
    assert x == pytest.approx(127.5)
    assert y == pytest.approx((100 + 0.5) / 1.5 - 0.5)


def test_border_padding_repeats_what_zeros_leave_black() -> None:
    network = {padding: Generator(padding).warpping_net for padding in ("zeros", "border")}
    for warping in network.values():
        warping.load_state_dict(network["zeros"].state_dict())
        torch.nn.init.constant_(warping.flow_out[2].bias, 40.0)  # everything comes from far to the right and below
        torch.nn.init.zeros_(warping.flow_out[2].weight)
    source, descriptor = torch.full((1, 3, 256, 256), 0.5), torch.zeros(1, 256)
    with torch.inference_mode():
        zeros, border = (warping(source, descriptor)[1] for warping in network.values())
    assert zeros[..., -1, -1].abs().max() == 0
    torch.testing.assert_close(border, source)


def test_a_checkpoint_of_another_layout_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="expected a dict with net_G_ema or net_G, found state_dict"):
        generator_weights(tmp_path / "x.pt")
    torch.save({"net_G": {"fc.weight": torch.zeros(1)}}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="x.pt: expected the weights of Generator, found others: .*Missing key"):
        PIRender(tmp_path / "x.pt")
