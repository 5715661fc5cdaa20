"""PIRenderer's generator: a face in a picture, edited by a window of 3DMM coefficients.

Ren et al., "PIRenderer: Controllable Portrait Image Generation via Semantic Neural Rendering", ICCV 2021, section 3, in
the sizes of the published checkpoint (``config/face.yaml``), whose parameters load by their own names, or in others.
Three networks:

* mapping: a window (73, 27) of coefficients becomes a descriptor (256) that steers the other two through AdaIN;
* warping: an hourglass finds a flow at a quarter of the picture's size and the source picture is warped along it;
* editing: an encoder and decoder repairs the warped picture beside the source.

Oddities of the published generator that its weights were trained with and that are kept: `grid_sample` reads a grid
that was normalised for ``align_corners=True`` with False, and a fine residual block uses only its second convolution.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

COEFFICIENTS = 73  # expression 64, angle 3, translation 3, crop 3
WINDOW_FRAMES = 27  # the frame and 13 on either side
SIDE_PX = 256  # that the published weights were trained with; any multiple of `SIDE_STEP_PX` will do
MAPPING_LAYERS, MAPPING_DILATION = 3, 3
WARP_DOWN, WARP_UP = 5, 3
SIDE_STEP_PX = 2**WARP_DOWN
UP_LEVELS = range(WARP_DOWN - 1, WARP_DOWN - 1 - WARP_UP, -1)
EDIT_LAYERS, EDIT_BLOCKS = 3, 2
STYLE_HIDDEN = 128  # of the networks that turn the descriptor into means and scales
SLOPE = 0.1  # of the leaky rectifiers
FIRST_AND_LAST = (
    "warpping_net.hourglass.encoder.input_layer",
    "editing_net.encoder.first.model.0",
    f"warpping_net.hourglass.encoder.encoder{WARP_DOWN - 1}.conv_1",
    f"editing_net.encoder.down{EDIT_LAYERS - 1}.model.0",
)  # layers whose outputs tell the widths

Padding = Literal["zeros", "border"]


@dataclass(frozen=True)
class Widths:
    """Channels of the three networks; the defaults are the published ones."""

    descriptor: int = 256
    warp: int = 32  # of the warping network's first layer; each step down doubles it, up to `most`
    edit: int = 64  # the same of the editing network
    most: int = 256

    @staticmethod
    def of(state: Mapping[str, Tensor]) -> Widths:
        """Those of a generator's parameters; the published ones where the parameters are not a generator's."""
        try:
            first = [state[f"{name}.weight"] for name in ("mapping_net.first.0", *FIRST_AND_LAST)]
        except KeyError:
            return Widths()
        descriptor, warp, edit, deepest, edited = (len(weight) for weight in first)
        return Widths(descriptor, warp, edit, max(deepest, edited))


@dataclass(frozen=True)
class Rendered:
    """What the generator makes of pictures, in [-1, 1] but for ``flow``, in cells of its grid."""

    picture: Tensor  # (picture, 3, side, side), the result
    warped: Tensor  # (picture, 3, side, side), the source along the flow
    flow: Tensor  # (picture, 2, side / 4, side / 4)


class Generator(nn.Module):
    """Pictures (n, 3, 256, 256) in [-1, 1] and windows (n, 73, 27) in, `Rendered` out.

    Beyond the picture the flow finds black (``zeros``), as published, or the picture's border, repeated, as in PCHG
    (Huang et al., ACM MM 2022, "Image Boundary Inpainting").
    """

    def __init__(self, padding: Padding = "zeros", widths: Widths = Widths()) -> None:
        super().__init__()
        self.mapping_net = _Mapping(widths)
        self.warpping_net = _Warping(padding, widths)  # so spelt in the checkpoint
        self.editing_net = _Editing(widths)

    def forward(self, source: Tensor, window: Tensor, warp_only: bool = False) -> Rendered:
        """With ``warp_only``, as its training begins, the warped picture is the result."""
        descriptor = self.mapping_net(window)
        flow, warped = self.warpping_net(source, descriptor)
        if warp_only:
            return Rendered(warped, warped, flow)
        return Rendered(self.editing_net(source, warped, descriptor), warped, flow)


class _Mapping(nn.Module):
    """Residual dilated convolutions over the window, none of them padded, then the mean over what is left of it."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        width = widths.descriptor
        self.first = nn.Sequential(nn.Conv1d(COEFFICIENTS, width, 7))
        for number in range(MAPPING_LAYERS):
            convolution = nn.Conv1d(width, width, 3, dilation=MAPPING_DILATION)
            self.add_module(f"encoder{number}", nn.Sequential(nn.LeakyReLU(SLOPE), convolution))

    def forward(self, window: Tensor) -> Tensor:
        x = self.first(window)
        for number in range(MAPPING_LAYERS):
            x = self.get_submodule(f"encoder{number}")(x) + x[..., MAPPING_DILATION:-MAPPING_DILATION]
        return x.mean(2)


class _AdaIn(nn.Module):
    """Instance normalisation with mean and scale out of the descriptor (Huang and Belongie, ICCV 2017)."""

    def __init__(self, channels: int, widths: Widths) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Linear(widths.descriptor, STYLE_HIDDEN), nn.ReLU())
        self.mlp_gamma = nn.Linear(STYLE_HIDDEN, channels)
        self.mlp_beta = nn.Linear(STYLE_HIDDEN, channels)

    def forward(self, x: Tensor, descriptor: Tensor) -> Tensor:
        style = self.mlp_shared(descriptor)
        scale, mean = (part[..., None, None] for part in (self.mlp_gamma(style), self.mlp_beta(style)))
        return functional.instance_norm(x) * (1 + scale) + mean


class _LayerNorm(nn.Module):
    """Normalisation over a whole picture, with a scale and a mean a channel (Ba et al., 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[1:]) * self.weight + self.bias


class _WarpDown(nn.Module):
    """Halves the size."""

    def __init__(self, inputs: int, outputs: int, widths: Widths) -> None:
        super().__init__()
        self.norm_0, self.conv_0 = _AdaIn(inputs, widths), nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
        self.norm_1, self.conv_1 = _AdaIn(outputs, widths), nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor, descriptor: Tensor) -> Tensor:
        x = self.conv_0(_active(self.norm_0(x, descriptor)))
        return self.conv_1(_active(self.norm_1(x, descriptor)))


class _WarpUp(nn.Module):
    """Doubles the size, with a shortcut that does so too."""

    def __init__(self, inputs: int, outputs: int, widths: Widths) -> None:
        super().__init__()
        doubling = {"stride": 2, "padding": 1, "output_padding": 1}
        self.norm_0, self.conv_0 = _AdaIn(inputs, widths), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm_1, self.conv_1 = _AdaIn(outputs, widths), nn.ConvTranspose2d(outputs, outputs, 3, **doubling)
        self.norm_s, self.conv_s = _AdaIn(inputs, widths), nn.ConvTranspose2d(inputs, outputs, 3, **doubling)

    def forward(self, x: Tensor, descriptor: Tensor) -> Tensor:
        shortcut = self.conv_s(_active(self.norm_s(x, descriptor)))
        x = self.conv_0(_active(self.norm_0(x, descriptor)))
        return shortcut + self.conv_1(_active(self.norm_1(x, descriptor)))


class _Hourglass(nn.Module):
    """The warping network's trunk: five steps down, three up, each beside what it had on the way down."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        steps = [min(widths.warp * 2**level, widths.most) for level in range(WARP_DOWN + 1)]
        self.encoder, self.decoder = nn.ModuleDict(), nn.ModuleDict()
        self.encoder["input_layer"] = nn.Conv2d(3, steps[0], 7, padding=3)
        for level in range(WARP_DOWN):
            self.encoder[f"encoder{level}"] = _WarpDown(steps[level], steps[level + 1], widths)
        for level in UP_LEVELS:
            inputs = steps[level + 1] * (1 if level == WARP_DOWN - 1 else 2)
            self.decoder[f"decoder{level}"] = _WarpUp(inputs, steps[level], widths)
        self.channels = 2 * steps[WARP_DOWN - WARP_UP]

    def forward(self, picture: Tensor, descriptor: Tensor) -> Tensor:
        levels = [self.encoder["input_layer"](picture)]
        for level in range(WARP_DOWN):
            levels.append(self.encoder[f"encoder{level}"](levels[-1], descriptor))
        x = levels.pop()
        for level in UP_LEVELS:
            x = torch.cat([self.decoder[f"decoder{level}"](x, descriptor), levels.pop()], 1)
        return x


class _Warping(nn.Module):
    """The flow and the source picture along it."""

    def __init__(self, padding: Padding, widths: Widths) -> None:
        super().__init__()
        self.padding = padding
        self.hourglass = _Hourglass(widths)
        channels = self.hourglass.channels
        self.flow_out = nn.Sequential(_LayerNorm(channels), nn.LeakyReLU(SLOPE), nn.Conv2d(channels, 2, 7, padding=3))

    def forward(self, picture: Tensor, descriptor: Tensor) -> tuple[Tensor, Tensor]:
        flow = self.flow_out(self.hourglass(picture, descriptor))
        height, width = flow.shape[-2:]
        steps = torch.tensor([2 / (width - 1), 2 / (height - 1)], device=flow.device)
        y, x = torch.meshgrid(*(torch.linspace(-1, 1, n, device=flow.device) for n in (height, width)), indexing="ij")
        places = (torch.stack([x, y], -1) + flow.permute(0, 2, 3, 1) * steps).permute(0, 3, 1, 2)
        places = functional.interpolate(places, picture.shape[-2:], mode="bilinear", align_corners=False)
        grid = places.permute(0, 2, 3, 1)
        return flow, functional.grid_sample(picture, grid, padding_mode=self.padding, align_corners=False)


class _Fine(nn.Module):
    """A fine residual block. Its first convolution and normalisation have weights that nothing uses."""

    def __init__(self, channels: int, widths: Widths) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1), _AdaIn(channels, widths)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1), _AdaIn(channels, widths)

    def forward(self, x: Tensor, descriptor: Tensor) -> Tensor:
        return x + self.norm2(self.conv2(x), descriptor)


def _stack(*layers: nn.Module) -> nn.Sequential:
    """Layers in a row under the name ``model``, as the checkpoint has them."""
    return nn.Sequential(OrderedDict(model=nn.Sequential(*layers)))


class _Editing(nn.Module):
    """Three steps down from source and warped picture, three up by the descriptor, each beside a jump across."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        steps = [min(widths.edit * 2**level, widths.most) for level in range(EDIT_LAYERS + 1)]
        self.encoder, self.decoder = nn.ModuleDict(), nn.ModuleDict()
        self.encoder["first"] = _stack(*_convolved(6, steps[0], 7))
        for level in range(EDIT_LAYERS):
            outer, inner = steps[level : level + 2]
            self.encoder[f"down{level}"] = _stack(*_convolved(outer, inner), nn.AvgPool2d(2))
            blocks = {f"res{block}": _Fine(inner, widths) for block in range(EDIT_BLOCKS)}
            self.decoder[f"res{level}"] = nn.ModuleDict(blocks)
            self.decoder[f"up{level}"] = _stack(*_convolved(inner, outer))
            self.decoder[f"jump{level}"] = _stack(*_convolved(outer, outer))
        self.decoder["final"] = _stack(nn.Conv2d(steps[0], 3, 7, padding=3), nn.Tanh())

    def forward(self, source: Tensor, warped: Tensor, descriptor: Tensor) -> Tensor:
        levels = [self.encoder["first"](torch.cat([source, warped], 1))]
        for level in range(EDIT_LAYERS):
            levels.append(self.encoder[f"down{level}"](levels[-1]))
        x = levels.pop()
        for level in reversed(range(EDIT_LAYERS)):
            for block in self.decoder[f"res{level}"].values():
                x = block(x, descriptor)
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = self.decoder[f"up{level}"](x) + self.decoder[f"jump{level}"](levels.pop())
        return self.decoder["final"](x)


def _convolved(inputs: int, outputs: int, size: int = 3) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, size, padding=size // 2), _LayerNorm(outputs), nn.LeakyReLU(SLOPE)]


def _active(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, SLOPE)
