"""What nodes with weights multiply: means and second moments of their inputs in the float model, on photos.

The error of a node's output for weights that are off by D is D x, and its mean square is D E[x x'] D': so these moments
are all that choosing the integers and correcting the bias need. They are the float model's, in which no layer's error
reaches the next: one pass does for all layers, in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_sdk.calibration.graph import Graph, attribute
from edge_sdk.calibration.same import Runner
from edge_sdk.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

Array = NDArray[Any]

POSITIONS = 256
"""Of one photo and node that are looked at, at most: neighbours in a picture say almost the same."""

# Of a second moment. Wider ones are cut into blocks, between which the inputs count as unrelated.
_WIDEST = 1024

_MEMORY_BYTES = 512 << 20  # of one photo's activations at a time


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the products' right factors, in the order of `integers.in_order`.

    A convolution's groups, or parts of too wide an input, are blocks: b blocks of k factors; padded with factors that
    are always 0.

    Args:
        mean: float64 [b, k].
        second: float64 [b, k, k], the mean of x x'.
        width: Factors of one group, without padding.
    """

    mean: NDArray[np.float64]
    second: NDArray[np.float64]
    width: int

    def blocks(self, rows: Array, groups: int) -> Array:
        """Weights [out, width], of so many groups, as [b, out of a block, k]."""
        grouped = rows.reshape(groups, -1, self.width)
        parts, size = len(self.mean) // groups, self.mean.shape[1]
        padded = np.pad(grouped, ((0, 0), (0, 0), (0, parts * size - self.width)))
        parted = padded.reshape(groups, -1, parts, size).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(parted.reshape(groups * parts, -1, size))

    def rows(self, blocks: Array, groups: int) -> Array:
        """The other way round."""
        parts, size = len(self.mean) // groups, self.mean.shape[1]
        padded = blocks.reshape(groups, parts, -1, size).transpose(0, 2, 1, 3).reshape(groups, -1, parts * size)
        rows: Array = padded[:, :, : self.width].reshape(-1, self.width)
        return rows


def collect_moments(
    graph: Graph, nodes: Iterable[str], photos: Sequence[Mapping[str, Array]], *, seed: int = 0
) -> dict[str, Moments]:
    """Runs photos through the float model and takes the moments of some nodes' inputs.

    Args:
        graph: Of the prepared model.
        nodes: Names; those that are no Conv, Gemm or MatMul with constant weights, or whose input has no known shape,
            are left out.
        photos: Input arrays by name, each a photo.
        seed: Of the positions that are looked at.

    Raises:
        UsageError: There are no photos.
        ModelError: The model cannot be run on one.
    """
    if not photos:
        raise UsageError("moments need at least one photo")
    wanted = [node for node in map(graph.node, nodes) if _measurable(graph, node)]
    sums = {node.name: _Sum(graph, node, seed) for node in sorted(wanted, key=lambda node: node.name)}
    for tensors in _parts(graph, wanted):
        made = [name for name in tensors if name not in graph.inputs]
        runner = Runner(_exposing(graph, made)) if made else None
        readers = [node for node in wanted if node.input[0] in tensors]
        for feeds in photos:
            values = {**feeds, **(runner(feeds) if runner is not None else {})}
            for node in readers:
                sums[node.name].add(values[node.input[0]])
    return {node.name: sums[node.name].finished() for node in wanted}


class _Sum:
    """One node's moments in the making."""

    def __init__(self, graph: Graph, node: onnx.NodeProto, seed: int) -> None:
        self._node = node
        self._weights = graph.shapes[node.input[1]]
        self._rng = np.random.default_rng([seed, *node.name.encode()])
        self._count = 0
        self._first: Any = 0.0
        self._second: Any = 0.0
        self._width = 0

    def add(self, values: Array) -> None:
        found = _factors(self._node, self._weights, values, self._rng)
        groups, count, self._width = found.shape
        parts = ceil(self._width / _WIDEST)
        size = ceil(self._width / parts)
        size += size % 2 if parts > 1 else 0  # neighbours stay in one block
        padded = np.pad(found, ((0, 0), (0, 0), (0, parts * size - self._width)))
        blocks = padded.reshape(groups, count, parts, size).transpose(0, 2, 1, 3).reshape(-1, count, size)
        self._count += count
        self._first = self._first + blocks.sum(axis=1, dtype=np.float64)
        self._second = self._second + np.matmul(blocks.transpose(0, 2, 1), blocks)

    def finished(self) -> Moments:
        return Moments(self._first / self._count, np.asarray(self._second / self._count, np.float64), self._width)


def _factors(node: onnx.NodeProto, weights: Sequence[int], values: Array, rng: np.random.Generator) -> Array:
    """What stands right of the weights at some of a node's outputs, [groups, outputs, width]."""
    if node.op_type != "Conv":
        rows = values.reshape(-1, values.shape[-1])
        return np.asarray(rows[_some(len(rows), rng)][None], np.float32)
    batch, channels, *sides = values.shape
    kernel, groups = weights[2:], attribute(node, "group", 1)
    strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
    spans = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel, strict=True)]
    pads = _pads(node, sides, spans, strides)
    high, wide = ((side + sum(pad) - span) // stride + 1
                  for side, pad, span, stride in zip(sides, pads, spans, strides, strict=True))  # fmt: skip
    photo, place = np.divmod(_some(batch * high * wide, rng), high * wide)
    tops, lefts = place // wide * strides[0], place % wide * strides[1]
    downs, rights = np.divmod(np.arange(kernel[0] * kernel[1]), kernel[1])
    padded = np.pad(values, ((0, 0), (0, 0), *pads)) if any(map(any, pads)) else values
    # [outputs, kernel, channels]
    found = padded[photo[:, None], :, tops[:, None] + downs * dilations[0], lefts[:, None] + rights * dilations[1]]
    found = found.reshape(len(place), -1, groups, channels // groups).transpose(2, 0, 1, 3)
    return np.asarray(found.reshape(groups, len(place), -1), np.float32)


def _some(count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Numbers below a count, all or as many as are looked at, rising."""
    return np.arange(count) if count <= POSITIONS else np.sort(rng.choice(count, POSITIONS, replace=False))


def _pads(
    node: onnx.NodeProto, sides: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Before and after each side (onnx.ai, "Conv")."""
    how = attribute(node, "auto_pad", "NOTSET")
    if how == "NOTSET":
        ends = attribute(node, "pads", [0, 0, 0, 0])
        return [(ends[0], ends[2]), (ends[1], ends[3])]
    if how == "VALID":
        return [(0, 0), (0, 0)]
    found = []
    for side, span, stride in zip(sides, spans, strides, strict=True):
        whole = max((ceil(side / stride) - 1) * stride + span - side, 0)
        less = whole // 2
        found.append((less, whole - less) if how == "SAME_UPPER" else (whole - less, less))
    return found


def _measurable(graph: Graph, node: onnx.NodeProto) -> bool:
    if node.op_type not in ("Conv", "Gemm", "MatMul") or not graph.is_constant(node.input[1]):
        return False
    rank = 4 if node.op_type == "Conv" else 2
    return len(graph.shapes[node.input[1]]) == rank and graph.shape(node.input[0]) is not None


def _parts(graph: Graph, nodes: Sequence[onnx.NodeProto]) -> Iterator[set[str]]:
    """The nodes' inputs, neighbours together, so many at a time as fit the memory; at least one."""
    part: set[str] = set()
    filled = 0
    for name in dict.fromkeys(node.input[0] for node in nodes):
        size = 4 * int(np.prod(graph.shape(name) or (1,)))
        if part and filled + size > _MEMORY_BYTES:
            yield part
            part, filled = set(), 0
        part.add(name)
        filled += size
    if part:
        yield part


def _exposing(graph: Graph, tensors: Sequence[str]) -> onnx.ModelProto:
    """The model with these for its outputs."""
    made = onnx.ModelProto()
    made.CopyFrom(graph.model)
    known = {value.name: value for value in graph.model.graph.output}
    del made.graph.output[:]
    made.graph.output.extend(known.get(name) or onnx.ValueInfoProto(name=name) for name in sorted(tensors))
    return made
