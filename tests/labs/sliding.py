"""A generator of PIRenderer's own shape whose weights a formula gives: it slides the picture by the crop's place.

The published weights stand behind a form. Of these one knows what they draw: the descriptor is the crop's (tx, ty), the
mean of three frames; the flow is their distance from a place, the same everywhere; and the picture is what was warped,
its contrast as `tanh` leaves it. So a head is where the coefficients say, or it is not.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from stages.evaluate.render.pirender_net import SLOPE, Generator, Widths

TX, TY = 71, 72  # of PIRenderer's 73 numbers
LEVEL = 1000.0  # keeps rectifiers on one side and normalisations at one scale
PX_A_CELL = 4  # of the flow
NARROW = Widths(warp=8, edit=8, most=32)  # what the weights below need: a tenth of the time
TWICE = 1 + SLOPE  # what a leaky rectifier makes of x and of -x together: 1.1 x


def sliding_weights(home_px: tuple[float, float]) -> dict[str, torch.Tensor]:
    """Weights that show the source as it is where the crop's place is ``home_px``, in pixels of 256, y up."""
    network = Generator(widths=NARROW)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        _describe(network)
        _flow(network, home_px)
        _pass_through(network)
    return network.state_dict()


def _describe(network: Generator) -> None:
    """Descriptor 0 and 1: tx and ty of the frame in the middle, mean over the three that are left of the window."""
    first = network.mapping_net.first[0]
    first.weight[0, TX, 3] = first.weight[1, TY, 3] = 1


def _flow(network: Generator, home_px: tuple[float, float]) -> None:
    """Through the style of a layer of the way down, which the hourglass ends with: the same in every pixel."""
    layer = network.warpping_net.hourglass.encoder["encoder1"]
    style, gamma, beta = layer.norm_1.mlp_shared[0], layer.norm_1.mlp_gamma, layer.norm_1.mlp_beta
    gamma.bias.fill_(-1)  # nothing of the picture
    for axis, home in enumerate(home_px):
        style.weight[axis, axis], style.bias[axis] = 1, LEVEL - home
        for sign in (1, -1):
            channel = 2 * axis + (sign < 0)
            beta.weight[channel, axis], beta.bias[channel] = sign, -sign * LEVEL
        layer.conv_1.weight[2 * axis, 2 * axis, 1, 1] = layer.conv_1.weight[2 * axis + 1, 2 * axis + 1, 1, 1] = (
            1 / TWICE
        )
        layer.conv_1.weight[2 * axis, 2 * axis + 1, 1, 1] = layer.conv_1.weight[2 * axis + 1, 2 * axis, 1, 1] = (
            -1 / TWICE
        )
    layer.conv_1.bias[4], layer.conv_1.bias[5] = LEVEL, -LEVEL  # so that the normalisation divides by a constant
    norm, _, out = network.warpping_net.flow_out
    norm.weight.fill_(1)
    channels = network.warpping_net.hourglass.channels
    scale = LEVEL * (2 / channels) ** 0.5 / TWICE / PX_A_CELL
    own = channels // 2  # behind what comes up from below
    for axis, sign in enumerate((-1, 1)):  # a picture slides to the right where it is read further left; y is up
        out.weight[axis, own + 2 * axis, 3, 3], out.weight[axis, own + 2 * axis + 1, 3, 3] = sign * scale, -sign * scale


def _pass_through(network: Generator) -> None:
    """The warped picture along the topmost jump, as red, -red, green ... and two levels that keep the scale."""
    editing = network.editing_net
    colours = [(colour, sign) for colour in range(3) for sign in (1, -1)]
    for stack, inputs, size in ((editing.encoder["first"], 3, 7), (editing.decoder["jump0"], 0, 3)):
        convolution, norm, _ = stack.model
        for channel, (colour, sign) in enumerate(colours):
            if inputs:  # the warped picture's channels stand behind the source's
                convolution.weight[channel, inputs + colour, size // 2, size // 2] = sign
            else:
                _both(convolution, channel, colour, sign, size // 2)
        _levels(convolution, norm)
    final: nn.Conv2d = editing.decoder["final"].model[0]
    for colour in range(3):
        _both(final, colour, colour, 1, 3)


def _both(convolution: nn.Conv2d, channel: int, number: int, sign: int, middle: int) -> None:
    """A channel out of the two in which a rectifier left a number and its negative."""
    convolution.weight[channel, 2 * number, middle, middle] = sign / TWICE
    convolution.weight[channel, 2 * number + 1, middle, middle] = -sign / TWICE


def _levels(convolution: nn.Conv2d, norm: nn.Module) -> None:
    """Two channels of a constant, and a scale that takes the normalisation back."""
    convolution.bias[6], convolution.bias[7] = LEVEL, -LEVEL
    norm.weight.fill_(LEVEL * (2 / convolution.out_channels) ** 0.5)


def write_sliding(path: Path, home_px: tuple[float, float]) -> Path:
    """A file laid out as the published checkpoint, of a narrower generator."""
    torch.save({"net_G_ema": sliding_weights(home_px)}, path)
    return path
