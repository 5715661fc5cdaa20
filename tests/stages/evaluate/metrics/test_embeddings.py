"""The networks against other implementations of them, with weights by formula, and what is said without weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from jobs.bench.facenet import import_facenet
from pipeline.weights import CACHE_VARIABLE, WeightsError, find_weights
from stages.evaluate.evaluation import no_weights
from stages.evaluate.metrics.definition import Quantity
from stages.evaluate.metrics.embeddings import NETWORKS, Embedding
from stages.evaluate.metrics.networks import arcface, hopenet, inception, vggface2
from stages.evaluate.metrics.registry import definitions
from stages.morphable.resnet50 import ResNet50


def by_formula(make: Callable[[], nn.Module]) -> nn.Module:
    """A network with random weights under which numbers neither vanish nor explode."""
    with torch.device("meta"):  # does not spend seconds on weights that are then replaced
        network = make()
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for name, values in network.state_dict().items():
        normal = torch.randn(values.shape, generator=generator)
        if name.endswith("running_var"):
            values.copy_(1 + 0.1 * normal.abs())
        elif values.ndim >= 2:
            values.copy_(normal / values[0].numel() ** 0.5)
        elif values.is_floating_point():
            values.copy_(1 + 0.1 * normal if name.endswith("weight") else 0.05 * normal)
        else:
            values.zero_()
    return network.eval()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def torchvision() -> object:
    import_facenet()  # makes torchvision importable beside any torch
    import torchvision

    return torchvision


def test_the_network_of_vggface2_is_facenet_pytorchs_and_its_checkpoint_loads(tmp_path: Path, monkeypatch) -> None:
    theirs = by_formula(import_facenet().InceptionResnetV1)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    weights = find_weights("facenet_vggface2")
    (file,) = weights.files
    weights.root().mkdir()
    stored = {**theirs.state_dict(), "logits.weight": torch.zeros(3, 512), "logits.bias": torch.zeros(3)}
    torch.save(stored, weights.root() / file)
    frames = np.random.default_rng(0).integers(0, 256, (2, 96, 120, 3), np.uint8)
    found = Embedding.load(Quantity.VGGFACE2, "cpu")(frames)
    pictures = functional.interpolate(torch.from_numpy(frames).permute(0, 3, 1, 2).float(), (160, 160), mode="bilinear")
    np.testing.assert_allclose(found, theirs((pictures - 127.5) / 128), atol=1e-6)
    assert no_weights(definitions()["csim_vggface2"]) == ""


def test_the_trunk_of_hopenet_and_deep3d_is_torchvisions_resnet(torchvision) -> None:
    theirs = by_formula(torchvision.models.resnet50)
    theirs.fc = nn.Identity()
    ours = by_formula(ResNet50)
    ours.load_state_dict(theirs.state_dict())
    pictures = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(pictures), theirs(pictures))


def test_inception_is_torchvisions_but_for_its_averages(torchvision, monkeypatch: pytest.MonkeyPatch) -> None:
    """FID's variant leaves padding out of averages, and has a maximum in the ninth and last of them."""
    ours = by_formula(inception.Inception)
    shape = {"aux_logits": False, "num_classes": inception.CLASSES, "init_weights": False}
    theirs = by_formula(partial(torchvision.models.inception_v3, **shape))
    theirs.load_state_dict(ours.state_dict())
    theirs.fc = nn.Identity()
    pictures = torch.rand(1, 3, 100, 80, generator=torch.Generator().manual_seed(1)) * 255
    prepared = inception.prepare(pictures)
    assert prepared.shape == (1, 3, 299, 299) and prepared.min() >= -1 and prepared.max() <= 1
    found = ours(prepared)
    average, calls = functional.avg_pool2d, []

    def fids(x: Tensor, kernel_size: int, stride: int, padding: int) -> Tensor:
        calls.append(x.shape)
        if len(calls) == 9:
            return functional.max_pool2d(x, kernel_size, stride, padding)
        return average(x, kernel_size, stride, padding, count_include_pad=False)

    monkeypatch.setattr(functional, "avg_pool2d", fids)
    torch.testing.assert_close(found, theirs(prepared))
    assert len(calls) == 9 and found.shape == (1, 2048)


def test_arcface_has_the_parameters_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        state = arcface.ArcFace().state_dict()
    learnt = [values for name, values in state.items() if "running" not in name and "num_batches" not in name]
    assert sum(values.numel() for values in learnt) == 65_156_160  # ResNet-100 of the model zoo: 65.2 million
    assert {"layer3.29.bn3.weight", "layer1.0.downsample.1.running_var", "features.bias"} <= set(state)
    assert "layer3.30.bn1.weight" not in state and state["fc.weight"].shape == (512, 512 * 7 * 7)


def test_arcface_embeds_whole_frames_of_any_size() -> None:
    network = by_formula(arcface.ArcFace)
    embedding = Embedding(Quantity.ARCFACE, network, "cpu")
    frames = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), np.uint8)
    found = embedding(frames)
    assert found.shape == (2, Quantity.ARCFACE.value.width) and np.isfinite(found).all() and found.std() > 0.01
    assert embedding(frames[:0]).shape == (0, 512)
    with pytest.raises(ValueError, match="uint8"):
        embedding(frames / 255)


@pytest.mark.parametrize("quantity", NETWORKS, ids=str)
def test_without_its_weights_a_metric_says_what_to_do(quantity: Quantity, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    name = quantity.value.network
    metrics = [metric for metric in definitions().values() if metric.weights == name]
    assert metrics
    for metric in metrics:
        text = no_weights(metric)
        assert text.startswith(f"weights `{name}` missing, get them with: ")
        assert find_weights(name).remedy() in text and str(tmp_path) in text
    with pytest.raises(WeightsError, match=name):
        Embedding.load(quantity, "cpu")


def test_a_metric_without_a_network_can_always_be_computed() -> None:
    assert no_weights(definitions()["psnr_piq"]) == ""


def test_networks_expect_pictures_as_they_were_trained() -> None:
    white, black = torch.full((1, 3, 20, 30), 255.0), torch.zeros(1, 3, 20, 30)
    found = vggface2.prepare(white).mean(), vggface2.prepare(black).mean()
    assert found == pytest.approx((127.5 / 128, -127.5 / 128))
    assert (arcface.prepare(white).mean(), arcface.prepare(black).mean()) == pytest.approx((1, -1))
    expected = (1 - np.array(hopenet.IMAGENET_MEAN)) / hopenet.IMAGENET_STD
    np.testing.assert_allclose(hopenet.prepare(white).mean((0, 2, 3)), expected, rtol=1e-5)
