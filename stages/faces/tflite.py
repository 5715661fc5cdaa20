"""Networks in TensorFlow Lite's files, as `stages.faces.tflite_torch` and `stages.faces.tflite_openvino` run them.

The file is a FlatBuffer (https://flatbuffers.dev/internals, schema: tensorflow/lite/schema/schema.fbs), options of
custom operators are FlexBuffers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schemas.errors import UserError

TYPES = {0: "<f4", 1: "<f2", 2: "<i4"}  # of tensors
SAME = 0  # padding; 1 is none
RELU = 1  # fused activation; 0 is none
DEQUANTIZE, CUSTOM = 6, 32
KINDS = {  # operators by their number in the schema: those that MediaPipe's face networks use
    0: "add", 2: "join", 3: "convolve", 4: "convolve each", 17: "pool", 18: "multiply", 19: "relu", 22: "reshape",
    34: "pad", 45: "whole", 54: "prelu",
}  # fmt: skip
WINDOWED = ("convolve", "convolve each", "pool")
ACTIVATION = {"convolve": 3, "convolve each": 4}  # field of an operator's options


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


@dataclass(frozen=True)
class Operation:
    """One step of a network: an operator of `KINDS`, or a custom one by its name, and the tensors by their numbers."""

    kind: str
    inputs: tuple[int, ...]
    output: int
    options: dict[str, Any]


class Graph:
    """A network out of a .tflite file.

    Attributes
    ----------
    input, outputs : numbers of its tensors, the latter by name.
    shapes : of all tensors, (picture, row, column, channel) where they are pictures.
    constants : weights by number, float32 where they were stored as halves.
    operations : in the order in which they run.
    """

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        if data[4:8] != b"TFL3":
            raise UserError(f"{path}: expected a TensorFlow Lite file, found {data[4:8]!r}")
        model = _Table(data, struct.unpack_from("<I", data, 0)[0])
        graph, buffers = model.tables(2)[0], model.tables(4)
        tensors = graph.tables(0)
        self.input = int(graph.array(1, "<i4")[0])
        self.outputs = {tensors[row].text(3): int(row) for row in graph.array(2, "<i4")}
        self.shapes = [tuple(int(side) for side in tensor.array(0, "<i4")) for tensor in tensors]
        self.constants: dict[int, np.ndarray] = {}
        for row, tensor in enumerate(tensors):
            raw = buffers[tensor.number(2, "I")].array(0, "u1")
            if len(raw):
                self.constants[row] = raw.view(TYPES[tensor.number(1, "b")]).reshape(self.shapes[row])
        self.operations: list[Operation] = []
        codes = [(max(code.number(0, "b"), code.number(3)), code.text(1)) for code in model.tables(1)]
        for table in graph.tables(3):
            number, name = codes[table.number(0, "I")]
            inputs, (output,) = tuple(int(row) for row in table.array(1, "<i4")), table.array(2, "<i4")
            if number == DEQUANTIZE:
                self.constants[int(output)] = self.constants[inputs[0]].astype(np.float32)
            elif number in KINDS:
                self.operations.append(Operation(KINDS[number], inputs, int(output), _options(KINDS[number], table)))
            elif number == CUSTOM:
                options = flex_map(table.array(5, "u1").tobytes())
                self.operations.append(Operation(name, inputs, int(output), options))
            else:
                raise UserError(f"{path}: operator {number} of TensorFlow Lite is not known here")

    def taken(self, operation: Operation) -> list[np.ndarray]:
        """The constants among an operation's inputs."""
        return [self.constants[row] for row in operation.inputs if row in self.constants]

    def margins(self, operation: Operation, kernel: Sequence[int]) -> list[tuple[int, int]]:
        """Rows above and below and columns left and right that a window needs; TensorFlow's odd one lies behind."""
        margins = []
        sides = self.shapes[operation.inputs[0]][1:3]
        for side, size, stride in zip(sides, kernel, operation.options["strides"], strict=True):
            lacking = max((-(-side // stride) - 1) * stride + size - side, 0) if operation.options["same"] else 0
            margins.append((lacking // 2, lacking - lacking // 2))
        return margins


def _options(kind: str, table: _Table) -> dict[str, Any]:
    """What an operator was set to."""
    if not table.number(3, "B"):
        return {}
    options = table.table(4)
    found: dict[str, Any] = {}
    if kind in WINDOWED:
        found = {"same": options.number(0, "b") == SAME, "strides": (options.number(2), options.number(1))}
    if kind in ACTIVATION:
        found["relu"] = options.number(ACTIVATION[kind], "b") == RELU
    if kind == "pool":
        found["kernel"] = (options.number(4), options.number(3))
    if kind == "join":
        found["axis"] = options.number(0)
    return found
