"""Networks in TensorFlow Lite's files, run by torch: in batches, on any device.

The file is a FlatBuffer (https://flatbuffers.dev/internals, schema: tensorflow/lite/schema/schema.fbs), options of
custom operators are FlexBuffers. Of the operators those are here that MediaPipe's face networks use. Activations are
(picture, channel, row, column) here and (picture, row, column, channel) there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from schemas.errors import UserError

TYPES = {0: "<f4", 1: "<f2", 2: "<i4"}  # of tensors
SAME = 0  # padding; 1 is none
RELU = 1  # fused activation; 0 is none
CUSTOM = 32

Operator = Callable[..., Tensor]


class _Table:
    """A table of a FlatBuffer: fields by number."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - struct.unpack_from("<i", data, at)[0]

    def number(self, field: int, kind: str = "i") -> Any:
        at = self._place(field)
        return struct.unpack_from(f"<{kind}", self._data, at)[0] if at else 0

    def table(self, field: int) -> _Table:
        return _Table(self._data, self._follow(self._place(field)))

    def tables(self, field: int) -> list[_Table]:
        start = self._follow(self._place(field)) + 4
        count = struct.unpack_from("<I", self._data, start - 4)[0]
        return [_Table(self._data, self._follow(start + 4 * row)) for row in range(count)]

    def array(self, field: int, kind: str) -> np.ndarray:
        at = self._place(field)
        if not at:
            return np.empty(0, kind)
        start = self._follow(at)
        return np.frombuffer(self._data, kind, struct.unpack_from("<I", self._data, start)[0], start + 4)

    def text(self, field: int) -> str:
        return self.array(field, "u1").tobytes().decode()

    def _place(self, field: int) -> int:
        entry = 4 + 2 * field
        if entry >= struct.unpack_from("<H", self._data, self._fields)[0]:
            return 0
        offset = struct.unpack_from("<H", self._data, self._fields + entry)[0]
        return self._at + offset if offset else 0

    def _follow(self, at: int) -> int:
        return int(at + struct.unpack_from("<I", self._data, at)[0])


def flex_map(data: bytes) -> dict[str, Any]:
    """A FlexBuffer that holds a map of numbers and of rows of whole numbers."""

    def number(at: int, width: int, kind: str) -> Any:
        return np.frombuffer(data, f"<{kind}{width}", 1, at)[0].item()

    def target(at: int, width: int) -> int:
        return int(at - number(at, width, "u"))

    if not data:
        return {}
    root, width = len(data) - 2 - data[-1], 1 << (data[-2] & 3)
    start = target(root, data[-1])
    count = number(start - width, width, "u")
    keys, key_width = target(start - 3 * width, width), number(start - 2 * width, width, "u")
    found: dict[str, Any] = {}
    for row in range(count):
        key = target(keys + row * key_width, key_width)
        name = data[key : data.index(0, key)].decode()
        kind, inner = data[start + count * width + row] >> 2, 1 << (data[start + count * width + row] & 3)
        at = start + row * width
        if kind in (1, 2, 3):
            found[name] = number(at, width, " iuf"[kind])
        elif kind in (6, 7, 8):  # the number stands elsewhere
            found[name] = number(target(at, width), inner, "iuf"[kind - 6])
        elif kind in (11, 12):
            first = target(at, width)
            found[name] = np.frombuffer(data, f"<{'iu'[kind - 11]}{inner}", number(first - inner, inner, "u"), first)
        else:
            raise ValueError(f"FlexBuffer: {name!r} is of type {kind}")
    return found


class TfLite:
    """A network out of a .tflite file on a device; ``custom`` makes its custom operators from their options."""

    def __init__(
        self, path: Path, device: str, custom: dict[str, Callable[[dict[str, Any]], Operator]] | None = None
    ) -> None:
        data = path.read_bytes()
        if data[4:8] != b"TFL3":
            raise UserError(f"{path}: expected a TensorFlow Lite file, found {data[4:8]!r}")
        model = _Table(data, struct.unpack_from("<I", data, 0)[0])
        graph, buffers = model.tables(2)[0], model.tables(4)
        self._tensors = graph.tables(0)
        codes = [(max(code.number(0, "b"), code.number(3)), code.text(1)) for code in model.tables(1)]
        self.input = int(graph.array(1, "<i4")[0])
        self.outputs = {self._tensors[row].text(3): int(row) for row in graph.array(2, "<i4")}
        self._constants: dict[int, np.ndarray] = {}
        for row, tensor in enumerate(self._tensors):
            raw = buffers[tensor.number(2, "I")].array(0, "u1")
            if len(raw):
                shape = tensor.array(0, "<i4")
                self._constants[row] = raw.view(TYPES[tensor.number(1, "b")]).reshape(shape)
        self._device, self._custom = device, custom or {}
        self._steps: list[tuple[Operator, list[int], int]] = []
        for operator in graph.tables(3):
            kind, name = codes[operator.number(0, "I")]
            inputs, (output,) = [int(row) for row in operator.array(1, "<i4")], operator.array(2, "<i4")
            step, given = self._made(kind, name, operator, inputs, int(output))
            if step is not None:
                self._steps.append((step, given, int(output)))
        self._last_use = {row: at for at, (_, given, _) in enumerate(self._steps) for row in given}

    def __call__(self, pictures: Tensor) -> dict[str, Tensor]:
        """Outputs by name from float32 (picture, 3, height, width)."""
        values, kept = {self.input: pictures}, set(self.outputs.values())
        for at, (step, given, output) in enumerate(self._steps):
            values[output] = step(*(values[row] for row in given))
            for row in given:
                if self._last_use[row] == at and row not in kept:
                    values.pop(row, None)
        return {name: values[row] for name, row in self.outputs.items()}

    def _made(
        self, kind: int, name: str, operator: _Table, inputs: list[int], output: int
    ) -> tuple[Operator | None, list[int]]:
        """An operator with its constants inside, and the tensors that it is given; none for a constant's other form."""
        if kind == 6:  # DEQUANTIZE, of weights stored as halves
            self._constants[output] = self._constants[inputs[0]].astype(np.float32)
            return None, []
        given = [row for row in inputs if row not in self._constants]
        own = [torch.from_numpy(self._constants[row].copy()) for row in inputs if row in self._constants]
        if kind == CUSTOM:
            return self._custom[name](flex_map(operator.array(5, "u1").tobytes())), given
        maker = _MAKERS.get(kind)
        if maker is None:
            raise UserError(f"operator {kind} of TensorFlow Lite is not known here")
        options = operator.table(4) if operator.number(3, "B") else None
        shape = [int(side) for side in self._tensors[output].array(0, "<i4")]
        return maker(options, [constant.to(self._device) for constant in own], shape), given


def _convolution(options: _Table, own: list[Tensor], shape: list[int]) -> Operator:
    weight, bias = own
    return _convolved(options, weight.permute(0, 3, 1, 2), bias, 1, options.number(3, "b"))


def _depthwise(options: _Table, own: list[Tensor], shape: list[int]) -> Operator:
    weight, bias = own
    return _convolved(options, weight.permute(3, 0, 1, 2), bias, len(bias), options.number(4, "b"))


def _convolved(options: _Table, weight: Tensor, bias: Tensor, groups: int, activation: int) -> Operator:
    strides, kernel = (options.number(2), options.number(1)), weight.shape[2:]
    weight = weight.contiguous()

    def convolve(x: Tensor) -> Tensor:
        padded = _padded(x, kernel, strides) if options.number(0, "b") == SAME else x
        found = functional.conv2d(padded, weight, bias, strides, groups=groups)
        return found.relu() if activation == RELU else found

    return convolve


def _padded(x: Tensor, kernel: Sequence[int], strides: Sequence[int], value: float = 0.0) -> Tensor:
    """TensorFlow's padding, whose odd pixel lies behind."""
    pads: list[int] = []
    for side, size, stride in zip(x.shape[:1:-1], kernel[::-1], strides[::-1], strict=True):  # the last axis first
        lacking = max((-(-side // stride) - 1) * stride + size - side, 0)
        pads += [lacking // 2, lacking - lacking // 2]
    return functional.pad(x, pads, value=value) if any(pads) else x


def _pooling(options: _Table, own: list[Tensor], shape: list[int]) -> Operator:
    strides, kernel = (options.number(2), options.number(1)), (options.number(4), options.number(3))

    def pool(x: Tensor) -> Tensor:
        padded = _padded(x, kernel, strides, -torch.inf) if options.number(0, "b") == SAME else x
        return functional.max_pool2d(padded, kernel, strides)

    return pool


def _sum(options: _Table, own: list[Tensor], shape: list[int]) -> Operator:
    return torch.add if not own else lambda x: x + own[0]


def _product(options: _Table, own: list[Tensor], shape: list[int]) -> Operator:
    return torch.mul if not own else lambda x: x * own[0]


def _prelu(options: _Table, own: list[Tensor], shape: list[int]) -> Operator:
    return lambda x: functional.prelu(x, own[0].flatten())


def _pad(options: _Table, own: list[Tensor], shape: list[int]) -> Operator:
    (_, rows, columns, channels) = own[0].tolist()
    return lambda x: functional.pad(x, [*columns, *rows, *channels])


def _reshape(options: _Table, own: list[Tensor], shape: list[int]) -> Operator:
    """Only to rows of numbers, (picture, ...), from what has channels last there."""

    def reshape(x: Tensor) -> Tensor:
        last = x.movedim(1, -1) if x.ndim == 4 else x
        return last.reshape(len(x), *shape[1:])

    return reshape


def _joined(options: _Table, own: list[Tensor], shape: list[int]) -> Operator:
    return lambda *parts: torch.cat(parts, options.number(0))


def _relu(options: _Table | None, own: list[Tensor], shape: list[int]) -> Operator:
    return torch.relu


def _whole(options: _Table | None, own: list[Tensor], shape: list[int]) -> Operator:
    """STRIDED_SLICE, where it takes all there is."""
    return lambda x: x


_MAKERS: dict[int, Callable[..., Operator]] = {
    0: _sum, 2: _joined, 3: _convolution, 4: _depthwise, 17: _pooling, 18: _product, 19: _relu, 22: _reshape,
    34: _pad, 45: _whole, 54: _prelu,
}  # fmt: skip
