"""Space to depth before a convolution, as one convolution of twice the kernel and stride.

YOLOX and YOLOv5 cut the picture into its four phases (rows and columns, even and odd) by strided slices, stack them as
channels and convolve. The same sums are one convolution on the picture itself: its weights are those of the phases,
interleaved. The number of multiplications stays; seven nodes that only move memory go.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from edge_sdk.calibration.graph import Graph, attribute
from edge_sdk.calibration.rewrites.base import Edit, Rewrite

_PHASES = [(0, 0), (0, 1), (1, 0), (1, 1)]


def _phase(graph: Graph, tensor: str) -> tuple[str, tuple[int, int]] | None:
    """The picture that a tensor is every second row and column of, and the first row and column."""
    starts: dict[int, int] = {}
    while (node := graph.producer(tensor)) is not None and node.op_type == "Slice" and len(starts) < 2:
        shape = graph.shape(node.input[0])
        values = [graph.constant(name) for name in node.input[1:]]
        if shape is None or len(shape) != 4 or len(values) != 4 or any(value is None for value in values):
            return None
        for start, end, axis, step in zip(*([int(v) for v in value.ravel()] for value in values), strict=True):  # type: ignore[union-attr]
            place = axis % 4
            if place not in (2, 3) or place in starts or step != 2 or start not in (0, 1) or end < shape[place]:
                return None
            starts[place] = start
        tensor = node.input[0]
    shape = graph.shape(tensor)
    if sorted(starts) != [2, 3] or shape is None or shape[2] % 2 or shape[3] % 2:
        return None
    return tensor, (starts[2], starts[3])


def _find(graph: Graph, edit: Edit) -> Sequence[str]:
    made = []
    for node in graph.nodes:
        if node.op_type != "Concat" or attribute(node, "axis") % 4 != 1 or len(node.input) != 4:
            continue
        phases = [_phase(graph, name) for name in node.input]
        conv = graph.only_consumer(node.output[0])
        if conv is None or not _fits(graph, conv, node.output[0]):
            continue
        found = [phase for phase in phases if phase is not None]
        if len({picture for picture, _ in found}) != 1 or sorted(start for _, start in found) != _PHASES:
            continue
        picture = found[0][0]
        weights = graph.constant(conv.input[1])
        assert weights is not None  # noqa: S101  _fits has looked
        made_of, depth, rows, columns = weights.shape
        wide = np.zeros((made_of, depth // 4, 2 * rows, 2 * columns), weights.dtype)
        for part, (_, (row, column)) in zip(np.split(weights, 4, axis=1), found, strict=True):
            wide[:, :, row::2, column::2] = part
        name = edit.constant(f"{conv.input[1]}/interleaved", wide)
        edit.replace(
            conv,
            edit.node(
                "Conv",
                [picture, name, *conv.input[2:]],
                conv.output,
                conv.name,
                kernel_shape=[2 * rows, 2 * columns],
                strides=[2 * step for step in attribute(conv, "strides", [1, 1])],
                pads=[2 * pad for pad in attribute(conv, "pads", [0, 0, 0, 0])],
            ),
        )
        made.append(conv.name)
    return made


def _fits(graph: Graph, conv: NodeProto, source: str) -> bool:
    weights = graph.constant(conv.input[1]) if conv.op_type == "Conv" else None
    return (
        weights is not None
        and weights.ndim == 4
        and conv.input[0] == source
        and attribute(conv, "group", 1) == 1
        and list(attribute(conv, "dilations", [1, 1])) == [1, 1]
        and attribute(conv, "auto_pad", "NOTSET") == "NOTSET"
    )


REWRITE = Rewrite(
    name="focus",
    words="the slices and the concat that stack a picture's phases went into the convolution behind them",
    order=30,
    find=_find,
)
