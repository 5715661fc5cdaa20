"""SyncNet: the published checkpoint's layout, its streams place by place, its crops, and offsets that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from schemas.errors import UserError
from stages.evaluate.metrics.lip_sync import confidence, distances_by_shift, offset
from stages.faces.detector import FaceDetector
from stages.speakers.mfcc import mfcc
from stages.speakers.syncnet import CROP_PX, EMBEDDING, Network, SyncNet, face_boxes, squares
from tests.labs.rendering import SIDE_PX, portrait
from tests.stages.evaluate.metrics.test_embeddings import by_formula

FRAMES = 9
PUBLISHED = {  # of syncnet_v2.model: the convolutions, by their place in the streams, and the linear layers
    "netcnnaud": {0: (64, 1, 3, 3), 4: (192, 64, 3, 3), 8: (384, 192, 3, 3), 11: (256, 384, 3, 3)}
    | {14: (256, 256, 3, 3), 18: (512, 256, 5, 4)},
    "netcnnlip": {0: (96, 3, 5, 7, 7), 4: (256, 96, 1, 5, 5), 8: (256, 256, 1, 3, 3), 11: (256, 256, 1, 3, 3)}
    | {14: (256, 256, 1, 3, 3), 18: (512, 256, 1, 6, 6)},
    "netfcaud": {0: (512, 512), 3: (1024, 512)},
    "netfclip": {0: (512, 512), 3: (1024, 512)},
}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Weights of the published layout, as torch of 2017 stored them: norms do not count their batches."""
    return {name: value for name, value in by_formula(Network).state_dict().items() if "num_batches" not in name}


@pytest.fixture(scope="module")
def checkpoint(state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("syncnet") / "syncnet_v2.model"
    torch.save(state, file, _use_new_zipfile_serialization=False)
    return file


def test_parameters_have_the_names_and_sizes_of_the_published_checkpoint(state: dict[str, torch.Tensor]) -> None:
    found = {name: tuple(value.shape) for name, value in state.items() if value.ndim > 1}
    assert found == {f"{part}.{at}.weight": size for part, sizes in PUBLISHED.items() for at, size in sizes.items()}


def test_places_are_those_that_the_published_loop_cuts_out_one_by_one(
    checkpoint: Path, state: dict[str, torch.Tensor]
) -> None:
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (FRAMES, CROP_PX, CROP_PX, 3), np.uint8)
    sound = 0.1 * rng.standard_normal(FRAMES * 640)
    found = SyncNet(checkpoint).embeddings(iter(faces), FRAMES, sound)
    assert found.shape == (FRAMES - 5, 2 * EMBEDDING)
    coefficients = torch.from_numpy(mfcc(sound).T).float()
    pictures = torch.from_numpy(faces[..., ::-1].copy()).permute(3, 0, 1, 2).float()  # B, G, R
    for place in (0, FRAMES - 6):
        seen = _lips(pictures[None, :, place : place + 5], state)
        heard = _sound(coefficients[None, None, :, 4 * place : 4 * place + 20], state)
        np.testing.assert_allclose(found[place], torch.cat([seen, heard], dim=1)[0].numpy(), rtol=1e-3, atol=1e-4)


def _normed(x: torch.Tensor, state: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    part, _, number = name.rpartition(".")
    at = f"{part}.{int(number) + 1}"
    keys = ("running_mean", "running_var", "weight", "bias")
    return functional.relu(functional.batch_norm(x, *(state[f"{at}.{key}"] for key in keys)))


def _end(x: torch.Tensor, state: dict[str, torch.Tensor], part: str) -> torch.Tensor:
    first = functional.linear(x.flatten(1), state[f"{part}.0.weight"], state[f"{part}.0.bias"])
    return functional.linear(_normed(first, state, f"{part}.0"), state[f"{part}.3.weight"], state[f"{part}.3.bias"])


def _lips(x: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    """Picture by picture after the first layer: (1, 3, 5, 224, 224) to (1, 1024)."""
    name = "netcnnlip.0"
    x = functional.conv3d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=(1, 2, 2))
    x = functional.max_pool2d(_normed(x, state, name)[:, :, 0], 3, 2)
    for at, step, padding in ((4, 2, 1), (8, 1, 1), (11, 1, 1), (14, 1, 1), (18, 1, 0)):
        name = f"netcnnlip.{at}"
        x = functional.conv2d(x, state[f"{name}.weight"][:, :, 0], state[f"{name}.bias"], step, padding)
        x = _normed(x, state, name)
        x = functional.max_pool2d(x, 3, 2, padding=int(at == 4)) if at in (4, 14) else x
    return _end(x, state, "netfclip")


def _sound(x: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    for at, padding in ((0, 1), (4, 1), (8, 1), (11, 1), (14, 1), (18, 0)):
        name = f"netcnnaud.{at}"
        x = _normed(functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], 1, padding), state, name)
        x = functional.max_pool2d(x, 3, {4: (1, 2), 14: (2, 2)}[at]) if at in (4, 14) else x
    return _end(x, state, "netfcaud")


def test_what_does_not_last_five_frames_has_no_place(checkpoint: Path) -> None:
    faces = np.zeros((5, CROP_PX, CROP_PX, 3), np.uint8)
    assert SyncNet(checkpoint).embeddings(iter(faces), 5, np.zeros(16_000)).shape == (0, 2 * EMBEDDING)


def test_another_networks_checkpoint_is_refused_with_the_file_named(tmp_path: Path) -> None:
    file = tmp_path / "other.model"
    torch.save({"netcnnaud.0.weight": torch.zeros(64, 1, 3, 3)}, file)
    with pytest.raises(UserError, match=r"other\.model.*expected the weights of Network"):
        SyncNet(file)


@pytest.mark.parametrize("early", [-7, 0, 4, 15])
def test_the_offset_of_sound_that_was_moved_is_how_far_it_was_moved(early: int) -> None:
    """Sound that says the same as the lips so many frames before them: positive, as the published program has it."""
    rng = np.random.default_rng(1)
    said = rng.standard_normal((80, EMBEDDING))
    seen, heard = said[20:60], said[20 + early : 60 + early] + 0.1 * rng.standard_normal((40, EMBEDDING))
    both = np.hstack([seen, heard])
    assert offset(both) == early
    assert confidence(both) > 5 * confidence(np.hstack([seen, rng.standard_normal((40, EMBEDDING))]))


def test_distances_are_those_of_the_published_loop() -> None:
    """A window of 31 rows of the padded sound for every place of the lips, torch's distance with its small number."""
    rng = np.random.default_rng(2)
    both = rng.standard_normal((33, 2 * EMBEDDING))
    seen, heard = torch.from_numpy(both).split(EMBEDDING, dim=1)
    padded = functional.pad(heard, (0, 0, 15, 15))
    rows = [functional.pairwise_distance(seen[[i]].repeat(31, 1), padded[i : i + 31]) for i in range(len(seen))]
    expected = torch.stack(rows, 1).mean(1)
    np.testing.assert_allclose(distances_by_shift(both), expected.numpy(), rtol=1e-12)
    assert confidence(both) == pytest.approx(float(expected.median() - expected.min()), abs=1e-12)


def test_a_square_reaches_from_a_half_above_the_face_to_almost_two_below() -> None:
    """White where the published square lies around a box, black outside of it: all that is seen is white."""
    picture = np.zeros((400, 400, 3), np.uint8)
    x, y, half = 210, 160, 50
    picture[y - half : y + 90, x - 70 : x + 70] = 255
    boxes = np.tile([x - half, y - 0.8 * half, x + half, y + 0.8 * half], (3, 1)).astype(float)
    found = list(squares([picture] * 3, boxes))
    assert [one.shape for one in found] == [(CROP_PX, CROP_PX, 3)] * 3
    assert found[0].min() == 255
    shifted = next(squares([picture], boxes[:1] + [4, 0, 4, 0]))
    assert shifted[:, -1].max() == 0 and shifted[:, 0].min() == 255


def test_a_face_beyond_the_picture_is_seen_on_grey() -> None:
    found = next(squares([np.zeros((100, 100, 3), np.uint8)], np.array([[0.0, 30.0, 80.0, 110.0]])))
    assert found[-1, CROP_PX // 2].tolist() == [110] * 3 and found[20, CROP_PX // 2].tolist() == [0] * 3


def test_where_no_face_is_found_in_a_frame_the_box_lies_between_its_neighbours() -> None:
    face, blank, detector = portrait(), np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8), FaceDetector()
    moved = np.roll(face, 12, axis=1)
    boxes = face_boxes([blank, face, blank, moved], detector)
    assert (boxes[0] == boxes[1]).all()
    np.testing.assert_allclose(boxes[2], (boxes[1] + boxes[3]) / 2)
    assert boxes[3, 0] - boxes[1, 0] == pytest.approx(12, abs=4)
    assert np.isnan(face_boxes([blank] * 2, detector)).all()
