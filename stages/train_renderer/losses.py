"""What PIRenderer is trained with: distances of pictures by the features of a network, and by who is seen.

Ren et al., ICCV 2021, equations 6 to 8: L1 between VGG-19's features (Johnson et al., ECCV 2016) of the warped and of
the final picture, and between their Gram matrices, with the weights of the published ``config/face.yaml``. MFR-Net
(P004, equation 6) adds the L1 norm of what features differ by of a network that tells people apart.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.weights import find_weights
from stages.evaluate.metrics.networks import arcface, vggface2
from stages.morphable.checkpoint import filled, read_checkpoint

VGG19 = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 1))  # channels and convolutions between poolings, to relu_5_1
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IDENTITIES = {"arcface": (arcface, "arcface_r100_ms1mv3"), "vggface2": (vggface2, "facenet_vggface2")}

Features = Callable[[Tensor], list[Tensor]]
"""Maps (picture, channel, height, width) of pictures (picture, 3, side, side) in [-1, 1], from fine to coarse."""


class Vgg19(nn.Module):
    """The first ReLU of each of VGG-19's five levels (Simonyan and Zisserman, ICLR 2015), in torchvision's names."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self._wanted = []
        inputs = 3
        for channels, count in VGG19:
            layers += [nn.MaxPool2d(2)] if layers else []
            self._wanted.append(len(layers) + 1)
            for _ in range(count):
                layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU()]
                inputs = channels
        self.features = nn.Sequential(*layers)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        mean, std = (pictures.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        x, found = ((pictures + 1) / 2 - mean) / std, []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self._wanted:
                found.append(x)
        return found


def pixels(pictures: Tensor) -> list[Tensor]:
    """The picture itself: stands in for VGG-19 where its weights are not at hand."""
    return [pictures]


def load_features(name: str) -> Features:
    """`pixels`, or VGG-19 with torchvision's weights: an entry of weights.toml or, with a /, a file of one's own."""
    if name == "pixels":
        return pixels
    network = Vgg19()
    (path,) = find_weights(name).paths()
    stored = {key: value for key, value in read_checkpoint(path).items() if key in network.state_dict()}
    return filled(network, stored, path).eval().requires_grad_(False)


class Perceptual(nn.Module):
    """L1 between features at the picture's size and its halvings; and between Gram matrices, at its size."""

    def __init__(self, features: Features, scales: int) -> None:
        super().__init__()
        self.features, self.scales = features, scales

    def forward(self, found: Tensor, wanted: Tensor, style: bool) -> tuple[Tensor, Tensor]:
        """The two distances; that of style is 0 where it is not asked for."""
        content = styles = found.new_zeros(())
        for scale in range(self.scales):
            if scale:
                found, wanted = (_halved(pictures) for pictures in (found, wanted))
            with torch.no_grad():
                aims = self.features(wanted)
            for of_found, aim in zip(self.features(found), aims, strict=True):
                content = content + functional.l1_loss(of_found, aim)
                if style and scale == 0:
                    styles = styles + functional.l1_loss(gram(of_found), gram(aim))
        return content, styles


def gram(features: Tensor) -> Tensor:
    """Products of channels, means over the whole map: (picture, channel, channel), in float32."""
    flat = features.float().flatten(2)
    return flat @ flat.mT / flat[0].numel()


def _halved(pictures: Tensor) -> Tensor:
    return functional.interpolate(pictures, scale_factor=0.5, mode="bilinear", align_corners=False)


class Identity(nn.Module):
    """The L1 norm of the difference of what a network says of who is seen, the mean over pictures.

    ``network`` takes what ``prepare`` makes of pictures (picture, 3, side, side) in 0 to 255. Its answers are brought
    to length 1, since networks tell people apart by the angle. The norm is the equation's, a sum: the mean over 512
    numbers would weigh 512 times less.
    """

    def __init__(self, network: nn.Module, prepare: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.prepare = network.eval().requires_grad_(False), prepare

    def embedding(self, pictures: Tensor) -> Tensor:
        """(picture, number), of length 1, of pictures in [-1, 1]."""
        return functional.normalize(self.network(self.prepare((pictures + 1) * 127.5)).float())

    def forward(self, found: Tensor, wanted: Tensor) -> Tensor:
        with torch.no_grad():
            aim = self.embedding(wanted)
        return torch.linalg.vector_norm(self.embedding(found) - aim, ord=1, dim=1).mean()


def load_identity(name: str, file: str = "") -> Identity | None:
    """One of `IDENTITIES` with its registered weights or those of a ``file``; nothing for ``none``."""
    if name == "none":
        return None
    module, entry = IDENTITIES[name]
    path = Path(file) if file else find_weights(entry).paths()[0]
    stored = {key: value for key, value in read_checkpoint(path).items() if not key.startswith(module.UNUSED)}
    return Identity(filled(module.NETWORK(), stored, path), module.prepare)
