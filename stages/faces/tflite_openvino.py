"""MediaPipe's networks in TensorFlow Lite's files, run by OpenVINO: on a CPU, in half of the time of MediaPipe's graph.

Convolutions, their activations and what is added to them become one step each. The three custom operators of Attention
Mesh (Grishchenko et al. 2020) are made of OpenVINO's own; matrices between them are pairs of axes (picture, 2, 2), a
row each, and an origin (picture, 1, 2), for places (picture, point, 2). Activations are (picture, channel, row, column)
here and (picture, row, column, channel) in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset1, opset13

from stages.faces.tflite import Graph, Operation

ON_ONE_CORE = {
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "ENABLE_CPU_PINNING": False,  # workers would all be tied to one core
    "INFERENCE_PRECISION_HINT": "f32",  # processors that have it would take bfloat16 of themselves
}
REGION_PX = 16  # side of the features that are cut out around lips and eyes
CHANNELS_LAST = (0, 2, 3, 1)

Node = Any  # of a model in the making; OpenVINO has no types for them


class OpenVinoNetwork:
    """A network on one core of a CPU, made for so many pictures a call, whose others change none of its numbers."""

    def __init__(self, path: Path, at_once: int) -> None:
        self._at_once = at_once
        self._request = _compiled(path, at_once).create_infer_request()

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
        """Outputs by name, (picture, ...) each, from uint8 RGB (height, width, 3)."""
        parts = [self._part(pictures[row : row + self._at_once]) for row in range(0, len(pictures), self._at_once)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _part(self, pictures: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
        none = np.zeros_like(pictures[0])
        given = np.stack([*pictures, *[none] * (self._at_once - len(pictures))])
        found = self._request.infer([given], share_inputs=True)
        return {output.get_any_name(): values[: len(pictures)] for output, values in found.items()}


@lru_cache(maxsize=8)
def _compiled(path: Path, at_once: int) -> Any:
    """For so many pictures: OpenVINO is faster where sizes do not vary."""
    model = _Builder(Graph(path), at_once).model()
    return openvino.Core().compile_model(model, "CPU", ON_ONE_CORE)


class _Builder:
    """Makes OpenVINO's model of a network."""

    def __init__(self, graph: Graph, num_pictures: int) -> None:
        self._graph, self._num_pictures = graph, num_pictures
        self._pictures = opset13.parameter([num_pictures, *graph.shapes[graph.input][1:]], np.uint8)
        channels_first = opset13.transpose(self._pictures, _whole_numbers(0, 3, 1, 2))
        levels = opset13.convert(channels_first, "f32")
        self._values: dict[int, Any] = {graph.input: opset13.divide(levels, np.float32(255))}
        for operation in graph.operations:
            self._values[operation.output] = self._made(operation)

    def model(self) -> Any:
        results = []
        for name, row in self._graph.outputs.items():
            node = self._values[row]
            node.output(0).set_names({name})
            results.append(opset13.result(node))
        return openvino.Model(results, [self._pictures])

    def _made(self, operation: Operation) -> Any:
        given = [self._values[row] for row in operation.inputs if row not in self._graph.constants]
        own = self._graph.taken(operation)
        makers = {
            "convolve": self._convolution,
            "convolve each": self._convolution,
            "pool": self._pooling,
            "reshape": self._reshape,
            "TransformTensorBilinear": self._sampled,
        }
        if operation.kind in makers:
            return makers[operation.kind](operation, *given, *own)
        if operation.kind in _MAKERS:
            return _MAKERS[operation.kind](operation.options, *given, *own)
        raise NotImplementedError(operation.kind)

    def _convolution(self, operation: Operation, x: Node, weight: NDArray[Any], bias: NDArray[Any]) -> Node:
        each = operation.kind == "convolve each"
        before, after = zip(*self._graph.margins(operation, weight.shape[1:3]), strict=True)
        if each:
            convolve, weight = opset13.group_convolution, weight.transpose(3, 0, 1, 2)[:, :, None]
        else:
            convolve, weight = opset13.convolution, weight.transpose(0, 3, 1, 2)
        strides = list(operation.options["strides"])
        found = convolve(x, np.ascontiguousarray(weight), strides, list(before), list(after), [1, 1])
        shifted = opset13.add(found, bias.reshape(1, -1, 1, 1))
        return opset13.relu(shifted) if operation.options["relu"] else shifted

    def _pooling(self, operation: Operation, x: Node) -> Node:
        kernel, strides = operation.options["kernel"], operation.options["strides"]
        before, after = zip(*self._graph.margins(operation, kernel), strict=True)
        return opset1.max_pool(x, list(strides), list(before), list(after), list(kernel))

    def _reshape(self, operation: Operation, x: Node, *shape: NDArray[Any]) -> Node:
        if len(self._graph.shapes[operation.inputs[0]]) == 4:
            x = opset13.transpose(x, _whole_numbers(*CHANNELS_LAST))
        sides = (self._num_pictures, *self._graph.shapes[operation.output][1:])
        return opset13.reshape(x, _whole_numbers(*sides), special_zero=False)

    def _sampled(self, operation: Operation, features: Node, matrix: tuple[Node, Node]) -> Node:
        """Features where a region's own picture looks, 0 outside."""
        axes, origin = matrix
        middles = np.arange(REGION_PX, dtype=np.float32) + np.float32(0.5)
        grid = np.stack(np.meshgrid(middles, middles), 2).reshape(1, -1, 2)
        places = opset13.add(_along(opset13.constant(grid), axes), origin)
        side = self._graph.shapes[operation.inputs[0]][1]
        shares = opset13.subtract(opset13.multiply(places, np.float32(2 / side)), np.float32(1))  # -1 to 1
        cells = opset13.reshape(shares, _whole_numbers(self._num_pictures, REGION_PX, REGION_PX, 2), False)
        return opset13.grid_sample(
            features, cells, {"align_corners": False, "mode": "bilinear", "padding_mode": "zeros"}
        )


def _whole_numbers(*numbers: int) -> Node:
    return opset13.constant(np.array(numbers, np.int64))


def _region_matrix(options: dict[str, Any], points: Node) -> tuple[Node, Node]:
    """Landmarks2TransformMatrix: from a region's own picture to the network's."""
    along = _whole_numbers(1)
    flat = opset13.slice(points, _whole_numbers(0), _whole_numbers(2), along, _whole_numbers(2))  # x, y
    first, last = (
        opset13.gather(flat, _whole_numbers(int(options[end])), along)
        for end in ("left_rotation_idx", "right_rotation_idx")
    )
    across = opset13.subtract(last, first)  # (picture, 1, 2)
    length = opset13.sqrt(opset13.reduce_sum(opset13.multiply(across, across), _whole_numbers(2), True))
    right = opset13.divide(across, length)
    swapped = opset13.gather(right, _whole_numbers(1, 0), _whole_numbers(2))
    down = opset13.multiply(swapped, np.array([[[-1, 1]]], np.float32))
    turn = opset13.concat([right, down], 1)
    region = opset13.gather(flat, _whole_numbers(*options["subset_idxs"].tolist()), along)
    level = _along(region, opset13.transpose(turn, _whole_numbers(0, 2, 1)))  # turned back
    low, high = opset13.reduce_min(level, along, True), opset13.reduce_max(level, along, True)
    step = opset13.multiply(opset13.subtract(high, low), np.float32(options["scale_x"] / options["output_width"]))
    axes = opset13.multiply(turn, opset13.transpose(step, _whole_numbers(0, 2, 1)))
    middle = opset13.multiply(opset13.add(low, high), np.float32(0.5))  # of the region, turned back
    corner = opset13.subtract(middle, opset13.multiply(step, np.float32(options["output_width"] / 2)))
    return axes, _along(corner, turn)


def _scaled(options: dict[str, Any], x: Any, factors: NDArray[Any]) -> Any:
    """A product of numbers, or of a matrix (4, 4) entry by entry."""
    if not isinstance(x, tuple):
        return opset13.multiply(x, factors.astype(np.float32))
    (axes, origin), (by,) = x, factors.astype(np.float32)
    of_axes = opset13.multiply(axes, np.ascontiguousarray(by[:2, :2].T[None]))
    return of_axes, opset13.multiply(origin, np.ascontiguousarray(by[None, None, :2, 3]))


def _placed(options: dict[str, Any], points: Node, matrix: tuple[Node, Node]) -> Node:
    """TransformLandmarks: points of a region's own picture in the network's."""
    axes, origin = matrix
    return opset13.add(_along(points, axes), origin)


def _along(points: Node, axes: Node) -> Node:
    """Points (picture, point, 2) along axes, written out: OpenVINO 2026.4 gets some products wrong without AVX2."""
    each = opset13.multiply(opset13.unsqueeze(points, _whole_numbers(3)), opset13.unsqueeze(axes, _whole_numbers(1)))
    return opset13.reduce_sum(each, _whole_numbers(2), False)


def _padded(options: dict[str, Any], x: Node, margins: NDArray[Any]) -> Node:
    pictures, rows, columns, channels = margins.tolist()
    before, after = zip(pictures, channels, rows, columns, strict=True)
    return opset13.pad(x, _whole_numbers(*before), _whole_numbers(*after), "constant", np.float32(0))


_MAKERS: dict[str, Any] = {
    "add": lambda options, *terms: opset13.add(*terms),
    "join": lambda options, *parts: opset13.concat(list(parts), options["axis"]),
    "relu": lambda options, x: opset13.relu(x),
    "whole": lambda options, x, *all_of_it: x,
    "prelu": lambda options, x, slope: opset13.prelu(x, slope.astype(np.float32).flatten()),
    "pad": _padded,
    "multiply": _scaled,
    "Landmarks2TransformMatrix": _region_matrix,
    "TransformLandmarks": _placed,
}
