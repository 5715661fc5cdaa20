"""Training PIRenderer: its losses against their definitions, and a training that learns a clip, stops and goes on."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from jobs import train_renderer as command
from schemas.errors import UserError
from stages.evaluate.render.mesh_warp import MeshWarp
from stages.evaluate.render.pirender import PIRender, generator_weights
from stages.evaluate.render.pirender_net import Generator, Widths
from stages.evaluate.render.scene import Scene
from stages.train.loop import Worker
from stages.train_renderer.loop import RendererFolder, RendererTrainer, begin, go_on, train_renderer
from stages.train_renderer.losses import Identity, Perceptual, Vgg19, gram, load_features, pixels
from tests.labs import rendering
from tests.labs.interrupted import Sittings, damaged
from tests.labs.rendering import Sitter

CPU = Worker(torch.device("cpu"))
TINY = {"side_px": 64, "descriptor": 16, "warp_width": 8, "edit_width": 8, "most_width": 32, "scales": 2}
FRAMES = 24
FILM = "film_000000_000001"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that share small pictures wait for each other more than they compute; bits stay the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def sitter() -> Sitter:
    return Sitter.sit()


@pytest.fixture(scope="module")
def film(sitter: Sitter) -> tuple[Scene, list[np.ndarray]]:
    """A film of the portrait as the embedded renderer moves it."""
    scene = sitter.acting(FRAMES)
    return scene, list(MeshWarp(sitter.basis).render(scene))


@pytest.fixture(scope="module")
def data(film: tuple[Scene, list[np.ndarray]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    scene, frames = film
    return rendering.write_portraits(tmp_path_factory.mktemp("film") / "data", {FILM: scene}, frames)


def run(data: Path, out: Path, **settings: object) -> RendererFolder:
    folder = RendererFolder(out)
    begin([data], folder, {**TINY, "roles": "listener", **settings}, preset="small", clips=[FILM])
    return folder


def weights(folder: RendererFolder) -> dict[str, torch.Tensor]:
    return torch.load(folder.checkpoint, weights_only=True)["net_G_ema"]


def test_a_training_that_was_stopped_ends_with_the_same_weights_to_the_bit(data: Path, tmp_path: Path) -> None:
    whole = run(data, tmp_path / "whole", iterations=6, warp_only=3)
    train_renderer(whole, CPU)
    halves = run(data, tmp_path / "halves", iterations=4, warp_only=3)
    train_renderer(halves, CPU)
    go_on({"iterations": 6}, halves)
    train_renderer(halves, CPU)
    found = weights(halves)
    for name, value in weights(whole).items():
        assert torch.equal(value, found[name]), name
    with pytest.raises(UserError, match="seed is 0 in this run and stays so"):
        go_on({"seed": 3}, halves)


def test_warping_alone_is_trained_first(data: Path, tmp_path: Path) -> None:
    folder = run(data, tmp_path / "run", iterations=2, warp_only=2)
    fresh = folder.read().build().state_dict()
    train_renderer(folder, CPU)
    changed = {name.split(".")[0] for name, value in weights(folder).items() if not torch.equal(value, fresh[name])}
    assert changed == {"mapping_net", "warpping_net"}


@pytest.mark.shared
def test_a_checkpoint_has_the_published_names_and_shapes(shared: Path, data: Path, tmp_path: Path) -> None:
    import json

    published = json.loads((shared / "golden/threedmm/pirender_state_dict_keys.json").read_text())
    folder = RendererFolder(tmp_path / "run")
    begin([data], folder, {"features": "pixels", "iterations": 1, "batch_size": 1, "side_px": 64}, clips=[FILM])
    train_renderer(folder, CPU)
    stored = torch.load(folder.checkpoint, weights_only=True)
    assert {"net_G", "net_G_ema", "opt_G", "sch_G", "current_epoch", "current_iteration"} <= set(stored)
    for network in ("net_G", "net_G_ema"):
        assert {name: list(value.shape) for name, value in stored[network].items()} == published


def test_a_network_of_another_size_is_drawn_with_as_it_was_trained(
    film: tuple[Scene, list[np.ndarray]], data: Path, tmp_path: Path
) -> None:
    folder = run(data, tmp_path / "run", iterations=1, warp_only=0)
    train_renderer(folder, CPU)
    assert Widths.of(weights(folder)) == Widths(16, 8, 8, 32)
    (frame,) = list(PIRender(folder.checkpoint, padding="border", fusion="none").render(still(film[0])))
    assert frame.shape == (384, 384, 3)
    begun = RendererFolder(tmp_path / "again")
    begin([data], begun, {**TINY, "iterations": 1}, preset="small", start=str(folder.checkpoint), clips=[FILM])
    assert torch.equal(
        begun.read().build().state_dict()["mapping_net.first.0.bias"], weights(folder)["mapping_net.first.0.bias"]
    )


def still(scene: Scene) -> Scene:
    return Scene(scene.picture, scene.pose, scene.pose, np.zeros(1))


def l1_of(folder: RendererFolder, scene: Scene, frames: list[np.ndarray]) -> tuple[float, float]:
    """L1 in [-1, 1] of what a checkpoint draws from the film's first frame, and of showing that frame all the time."""
    side = folder.read().resolved().side_px
    wanted = np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in frames]) / 127.5 - 1
    renderer = PIRender(folder.checkpoint, padding="border", fusion="none")
    drawn = np.stack(list(renderer.drawn(frames[0], scene.motion)))
    return float(np.abs(drawn / 127.5 - 1 - wanted).mean()), float(np.abs(wanted - wanted[0]).mean())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_small_renderer_learns_a_clip_by_heart(
    film: tuple[Scene, list[np.ndarray]], data: Path, tmp_path: Path
) -> None:
    folder = run(data, tmp_path / "run", iterations=1, warp_only=0, learning_rate=2e-3)
    train_renderer(folder, CPU)
    first, copied = l1_of(folder, *film)
    folder = run(data, tmp_path / "learnt", iterations=400, warp_only=60, learning_rate=2e-3)
    train_renderer(folder, CPU)
    last, _ = l1_of(folder, *film)
    assert last < first / 5 and last < copied


@pytest.mark.slow
def test_the_loss_of_identity_brings_pictures_closer_to_the_true_ones_for_the_network_that_it_asks(
    film: tuple[Scene, list[np.ndarray]], data: Path, tmp_path: Path
) -> None:
    scene, frames = film
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.InstanceNorm2d(outputs), nn.LeakyReLU(0.2)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, 64, bias=False))
    identity = Identity(network, lambda pictures: pictures / 127.5 - 1)
    wanted = np.stack([cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA) for frame in frames])
    far = []
    for weight in (0.0, 1.0):
        changed = {"iterations": 60, "warp_only": 0, "learning_rate": 2e-3, "batch_size": 2, "average": 0.9}
        folder = run(data, tmp_path / f"{weight}", identity_weight=weight, **changed)
        train_renderer(folder, CPU, identity)
        renderer = PIRender(folder.checkpoint, padding="border", fusion="none")
        drawn = np.stack(list(renderer.drawn(frames[0], scene.motion)))
        seen, true = (
            identity.embedding(torch.from_numpy(some).permute(0, 3, 1, 2) / 127.5 - 1) for some in (drawn, wanted)
        )
        far.append(1 - float(torch.cosine_similarity(seen, true).mean()))
    assert far[1] < 0.85 * far[0]  # .71, .72 and .66 of it with the seeds 0, 1 and 2


def test_vgg_has_torchvisions_names_and_gives_the_five_maps_that_pirenderer_compares(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    channels = [3, 64, 64, 128, 128, *[256] * 4, *[512] * 5]  # to conv5_1
    numbers = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28]  # of torchvision's `features`
    stored = {"classifier.0.bias": torch.zeros(4096), "features.34.bias": torch.zeros(512)}
    for number, inputs, outputs in zip(numbers, channels[:-1], channels[1:], strict=True):
        scale = (2 / (9 * inputs)) ** 0.5
        stored[f"features.{number}.weight"] = scale * torch.randn(outputs, inputs, 3, 3, generator=generator)
        stored[f"features.{number}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
    torch.save(stored, tmp_path / "vgg19.pth")
    network = load_features(str(tmp_path / "vgg19.pth"))
    assert isinstance(network, Vgg19) and not any(parameter.requires_grad for parameter in network.parameters())
    picture = torch.rand(1, 3, 32, 32, generator=generator)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x, expected = (picture - mean) / std, []
    for number in numbers:
        if number in (5, 10, 19, 28):
            x = functional.max_pool2d(x, 2)
        weights = stored[f"features.{number}.weight"], stored[f"features.{number}.bias"]
        x = functional.relu(functional.conv2d(x, *weights, padding=1))
        if number in (0, 5, 10, 19, 28):  # relu_1_1 to relu_5_1
            expected.append(x)
    for found, wanted in zip(network(2 * picture - 1), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_features_are_compared_at_every_scale_and_gram_matrices_at_the_first() -> None:
    found, wanted = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    content, style = Perceptual(pixels, 2)(found, wanted, style=True)
    coarse = [functional.avg_pool2d(pictures, 2) for pictures in (found, wanted)]
    torch.testing.assert_close(content, (found - wanted).abs().mean() + (coarse[0] - coarse[1]).abs().mean())
    by_hand = torch.einsum("bcij,bdij->bcd", found, found) / found[0].numel()
    torch.testing.assert_close(gram(found), by_hand)
    torch.testing.assert_close(style, (by_hand - gram(wanted)).abs().mean())
    assert Perceptual(pixels, 2)(found, wanted, style=False)[1] == 0


def test_the_loss_of_identity_is_the_l1_norm_of_unit_embeddings_and_moves_pictures_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 5))
    identity = Identity(network, lambda pictures: pictures / 255)
    found, wanted = (torch.rand(2, 3, 4, 4) * 2 - 1 for _ in range(2))
    found.requires_grad_(True)
    loss = identity(found, wanted)
    seen, true = (network((pictures + 1) / 2) for pictures in (found, wanted))
    seen, true = (said / said.square().sum(1, keepdim=True).sqrt() for said in (seen, true))
    expected = (seen - true).abs().sum(1).mean()  # a norm sums over the numbers; pictures are a mean
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert found.grad.abs().sum() > 0 and network[1].weight.grad is None


def test_the_generator_is_the_same_whether_its_widths_are_told_or_read() -> None:
    widths = Widths(descriptor=24, warp=8, edit=4, most=48)
    assert Widths.of(Generator(widths=widths).state_dict()) == widths
    assert Widths.of(Generator().state_dict()) == Widths() == Widths.of({})


def test_the_command_trains_goes_on_and_says_what_does_not_fit(data: Path, tmp_path: Path, capsys) -> None:
    tiny = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    words = [str(data), "--out", str(tmp_path / "run"), "--preset", "small", "--clips", FILM, *tiny]
    words += ["--set", "iterations=1"]
    assert command.main(words) == 0
    assert "--renderer pirender --weights" in capsys.readouterr().out
    assert command.main(words) == 2
    assert "holds a run already; add --resume" in capsys.readouterr().err
    assert command.main([str(data), "--out", str(tmp_path / "run"), "--resume", "--set", "iterations=2"]) == 0
    assert torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["current_iteration"] == 2
    for wrong, said in (
        (["--set", "side_px=50"], "expected a multiple of 32 from twice that on, found 50"),
        (["--set", "identity=dlib"], "allowed: 'none', 'arcface', 'vggface2'"),
        (["--preset", "large"], "unknown preset 'large'; known: paper, small"),
        (
            ["--preset", "small", "--clips", "nobody"],
            "expected faces with coefficients of the clips nobody, found none",
        ),
        (["--preset", "small"], "expected faces with coefficients in the splits train, val, found none"),
        (["--clips", FILM], "vgg19"),
    ):
        assert command.main([str(data), "--out", str(tmp_path / "new"), *wrong]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "new" / "run.json").exists()


# --- killed, damaged, withdrawn


def test_of_100_random_damages_each_is_refused_by_who_goes_on_and_by_who_draws(data: Path, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance, folder = random.Random(seed), run(data, tmp_path / "run", iterations=1)
    train_renderer(folder, CPU)
    trainer, kept = RendererTrainer(folder.read(), CPU, None), folder.checkpoint.read_bytes()
    for _ in range(50):
        folder.checkpoint.write_bytes(damaged(kept, chance))
        for read in (trainer.restore, generator_weights):
            with pytest.raises(UserError, match="checkpoint.pt: expected a checkpoint of torch"):
                read(folder.checkpoint)
    kept = folder.description.read_bytes()
    for _ in range(50):
        folder.description.write_bytes(damaged(kept, chance))
        with pytest.raises(UserError, match="run.json: (describes no run|not UTF-8)"):
            folder.read()


def test_a_damaged_checkpoint_is_gone_behind_and_the_weights_are_the_same(data: Path, tmp_path: Path) -> None:
    whole = run(data, tmp_path / "whole", iterations=6, save_every=2)
    train_renderer(whole, CPU)
    halves = run(data, tmp_path / "halves", iterations=4, save_every=2)
    train_renderer(halves, CPU)
    halves.checkpoint.write_bytes(damaged(halves.checkpoint.read_bytes(), random.Random(0)))
    go_on({"iterations": 6}, halves)
    train_renderer(halves, CPU)
    found = weights(halves)
    assert all(torch.equal(value, found[name]) for name, value in weights(whole).items())
    other = run(data, tmp_path / "other", iterations=1, seed=1)
    train_renderer(other, CPU)
    for state in (halves.checkpoint, halves.previous):
        shutil.copy(other.checkpoint, state)
    with pytest.raises(UserError, match="previous.pt: another run's"):
        train_renderer(halves, CPU)


def test_pictures_that_are_damaged_while_it_trains_are_not_learnt_from(data: Path, tmp_path: Path) -> None:
    folder = run(data, tmp_path / "run", iterations=40)
    with folder.pictures.open("r+b") as file:
        file.seek(-30_000, 2)
        file.write(bytes(30_000))  # of 24 pictures the last two and a half
    with pytest.raises(UserError, match=r"listener\.mp4: its picture 2[1-3] is not what was decoded.*--resume"):
        train_renderer(folder, CPU)
    folder.pictures.write_bytes(folder.pictures.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"pictures\.npy: is not what was decoded"):
        train_renderer(folder, CPU)
    go_on({"iterations": 1}, folder)
    train_renderer(folder, CPU)


def test_a_clip_that_is_withdrawn_is_not_learnt_from_any_more(data: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(data, tmp_path / "own"))
    folder = run(own, tmp_path / "run", iterations=2, save_every=1)
    train_renderer(folder, CPU)
    kept = folder.checkpoint.read_bytes()
    (own / "takedown.txt").write_text(f"{FILM}\n")
    with pytest.raises(UserError, match=rf"clips {FILM}: they were withdrawn since .*jobs.train_renderer"):
        go_on({"iterations": 3}, folder)
    assert folder.checkpoint.read_bytes() == kept


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_15_kills_at_random_moments_change_no_weight(data: Path, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    settings = {**TINY, "roles": "listener", "iterations": 12, "warp_only": 4, "save_every": 2}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    words = [str(data), "--preset", "small", "--clips", FILM, *words]
    calm = Sittings("train_renderer", words, tmp_path / "calm")
    chance, kills, span_s = random.Random(seed), 0, calm.measured_s()
    while kills < 15:
        killed = Sittings("train_renderer", words, tmp_path / f"after-{kills}")
        while killed.kills < 8 and not killed.sit(within_s=chance.uniform(0, 0.7 * span_s)):
            pass
        assert killed.sit()
        kills += killed.kills
        expected, found = (weights(RendererFolder(one.out)) for one in (calm, killed))
        assert all(torch.equal(value, found[name]) for name, value in expected.items())
        assert {path.name for path in killed.out.iterdir()} == {path.name for path in calm.out.iterdir()}
