"""Networks of TensorFlow Lite's files, run by torch: in batches, on any device.

Activations are (picture, channel, row, column) here and (picture, row, column, channel) in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stages.faces.tflite import Graph, Operation

Operator = Callable[..., Tensor]


class TorchNetwork:
    """A network on a device; ``custom`` makes its custom operators from their options."""

    def __init__(
        self, graph: Graph, device: str, custom: Mapping[str, Callable[[dict[str, Any]], Operator]] | None = None
    ) -> None:
        self._graph = graph
        self._steps: list[tuple[Operator, list[int], int]] = []
        for operation in graph.operations:
            if custom and operation.kind in custom:
                step = custom[operation.kind](operation.options)
            else:
                own = [torch.from_numpy(constant.copy()).to(device) for constant in graph.taken(operation)]
                step = _MAKERS[operation.kind](graph, operation, own)
            given = [row for row in operation.inputs if row not in graph.constants]
            self._steps.append((step, given, operation.output))
        self._last_use = {row: at for at, (_, given, _) in enumerate(self._steps) for row in given}

    def __call__(self, pictures: Tensor) -> dict[str, Tensor]:
        """Outputs by name from float32 (picture, 3, height, width)."""
        values, kept = {self._graph.input: pictures}, set(self._graph.outputs.values())
        for at, (step, given, output) in enumerate(self._steps):
            values[output] = step(*(values[row] for row in given))
            for row in given:
                if self._last_use[row] == at and row not in kept:
                    values.pop(row, None)
        return {name: values[row] for name, row in self._graph.outputs.items()}


def _convolution(graph: Graph, operation: Operation, own: list[Tensor]) -> Operator:
    weight, bias = own
    each = operation.kind == "convolve each"
    groups = len(bias) if each else 1
    weight = weight.permute(3, 0, 1, 2).contiguous() if each else weight.permute(0, 3, 1, 2).contiguous()
    pad = _padding(graph, operation, weight.shape[2:], 0.0)

    def convolve(x: Tensor) -> Tensor:
        found = functional.conv2d(pad(x), weight, bias, operation.options["strides"], groups=groups)
        return found.relu() if operation.options["relu"] else found

    return convolve


def _padding(graph: Graph, operation: Operation, kernel: Any, value: float) -> Operator:
    (above, below), (left, right) = graph.margins(operation, kernel)
    pads = [left, right, above, below]
    return lambda x: functional.pad(x, pads, value=value) if any(pads) else x


def _pooling(graph: Graph, operation: Operation, own: list[Tensor]) -> Operator:
    kernel, strides = operation.options["kernel"], operation.options["strides"]
    pad = _padding(graph, operation, kernel, -torch.inf)
    return lambda x: functional.max_pool2d(pad(x), kernel, strides)


def _sum(graph: Graph, operation: Operation, own: list[Tensor]) -> Operator:
    return torch.add if not own else lambda x: x + own[0]


def _product(graph: Graph, operation: Operation, own: list[Tensor]) -> Operator:
    return torch.mul if not own else lambda x: x * own[0]


def _prelu(graph: Graph, operation: Operation, own: list[Tensor]) -> Operator:
    return lambda x: functional.prelu(x, own[0].flatten())


def _pad(graph: Graph, operation: Operation, own: list[Tensor]) -> Operator:
    (_, rows, columns, channels) = own[0].tolist()
    return lambda x: functional.pad(x, [*columns, *rows, *channels])


def _reshape(graph: Graph, operation: Operation, own: list[Tensor]) -> Operator:
    """Only to rows of numbers, (picture, ...), from what has channels last there."""
    shape = graph.shapes[operation.output]

    def reshape(x: Tensor) -> Tensor:
        last = x.movedim(1, -1) if x.ndim == 4 else x
        return last.reshape(len(x), *shape[1:])

    return reshape


def _joined(graph: Graph, operation: Operation, own: list[Tensor]) -> Operator:
    return lambda *parts: torch.cat(parts, operation.options["axis"])


def _relu(graph: Graph, operation: Operation, own: list[Tensor]) -> Operator:
    return torch.relu


def _whole(graph: Graph, operation: Operation, own: list[Tensor]) -> Operator:
    """STRIDED_SLICE, where it takes all there is."""
    return lambda x: x


_MAKERS: dict[str, Callable[[Graph, Operation, list[Tensor]], Operator]] = {
    "add": _sum, "join": _joined, "convolve": _convolution, "convolve each": _convolution, "pool": _pooling,
    "multiply": _product, "relu": _relu, "reshape": _reshape, "pad": _pad, "whole": _whole, "prelu": _prelu,
}  # fmt: skip
