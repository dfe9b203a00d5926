"""Sums and products with constants before and after a convolution, folded into its weights and bias.

ONNX Runtime's own offline pass folds a product or a sum with one value for each channel, and leaves quotients,
differences and most single numbers. Before a convolution a shift can be folded only where nothing is padded, as padding
comes after the shift; a scale always can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from edge_sdk.calibration.graph import Graph, attribute
from edge_sdk.calibration.rewrites.base import Edit, Rewrite

Array = NDArray[Any]


@dataclass(frozen=True)
class _Step:
    """A node that makes scale * x + shift, each one value or one a channel."""

    node: NodeProto
    x: str
    scale: Array
    shift: Array


def _step(graph: Graph, node: NodeProto | None, channels: int) -> _Step | None:  # noqa: PLR0911  one an operator
    if node is None or graph.dtypes.get(node.output[0]) != np.float32:
        return None
    if node.op_type == "Neg":
        return _Step(node, node.input[0], np.array(-1.0), np.array(0.0))
    if node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    for place, name in enumerate(node.input):
        values, x = graph.constant(name), node.input[1 - place]
        if values is None or (place == 0 and node.op_type == "Div"):
            continue
        value = _by_channel(values, channels)
        if value is None or graph.shape(x) != graph.shape(node.output[0]):
            return None
        one, zero = np.array(1.0), np.array(0.0)
        if node.op_type == "Mul":
            return _Step(node, x, value, zero)
        if node.op_type == "Div":
            return _Step(node, x, 1 / value, zero) if (value != 0).all() else None
        if node.op_type == "Add":
            return _Step(node, x, one, value)
        return _Step(node, x, one, -value) if place == 1 else _Step(node, x, -one, value)
    return None


def _by_channel(values: Array, channels: int) -> Array | None:
    """A constant as float64, one value or one for each channel of [n, c, h, w]; None where it has more."""
    if values.size == 1:
        return values.astype(np.float64).reshape(())
    shape = (1,) * (4 - values.ndim) + values.shape
    return values.astype(np.float64).ravel() if shape == (1, channels, 1, 1) else None


def _find(graph: Graph, edit: Edit) -> Sequence[str]:
    made = []
    for conv in graph.nodes:
        weights = graph.constant(conv.input[1]) if conv.op_type == "Conv" else None
        if weights is None or weights.ndim != 4 or weights.dtype != np.float32 or edit.touched(conv):
            continue
        if not all(graph.is_constant(name) for name in conv.input[2:] if name):
            continue
        before, after = _before(graph, conv, weights), _after(graph, conv, weights)
        if not before and not after:
            continue
        _write(graph, edit, conv, before, after)
        made.append(conv.name)
    return made


def _after(graph: Graph, conv: NodeProto, weights: Array) -> list[_Step]:
    steps: list[_Step] = []
    tensor = conv.output[0]
    while (node := graph.only_consumer(tensor)) is not None:
        step = _step(graph, node, weights.shape[0])
        if step is None or step.x != tensor:
            break
        steps.append(step)
        tensor = node.output[0]
    return steps


def _before(graph: Graph, conv: NodeProto, weights: Array) -> list[_Step]:
    """Nearest first."""
    channels = weights.shape[1] * attribute(conv, "group", 1)
    padded = any(attribute(conv, "pads", [0])) or attribute(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    steps: list[_Step] = []
    tensor = conv.input[0]
    while graph.only_consumer(tensor) is not None:
        step = _step(graph, graph.producer(tensor), channels)
        # What follows another convolution is folded into that one.
        if step is None or (padded and step.shift.any()) or _follows_convolution(graph, step):
            break
        steps.append(step)
        tensor = step.x
    return steps


def _follows_convolution(graph: Graph, step: _Step) -> bool:
    maker = graph.producer(step.x)
    return maker is not None and maker.op_type == "Conv" and graph.only_consumer(step.x) is not None


def _write(graph: Graph, edit: Edit, conv: NodeProto, before: list[_Step], after: list[_Step]) -> None:
    weights = np.asarray(graph.constant(conv.input[1]), np.float64)
    biased = len(conv.input) > 2 and bool(conv.input[2])
    bias = np.asarray(graph.constant(conv.input[2]), np.float64) if biased else np.zeros(weights.shape[0])
    group = attribute(conv, "group", 1)
    for step in before:
        # weights [out, in/group, h, w]: output o sees the input channels of its group
        scale, shift = (
            np.repeat(
                np.broadcast_to(value, weights.shape[1] * group).reshape(group, -1), len(weights) // group, axis=0
            )
            for value in (step.scale, step.shift)
        )
        bias = bias + np.einsum("oihw,oi->o", weights, shift)
        weights = weights * scale[:, :, None, None]
    for step in after:
        weights = weights * np.broadcast_to(step.scale, len(weights))[:, None, None, None]
        bias = bias * step.scale + step.shift
    node = NodeProto()
    node.CopyFrom(conv)
    del node.input[:]
    node.input.extend(
        [
            before[-1].x if before else conv.input[0],
            edit.constant(f"{conv.input[1]}/folded", weights.astype(np.float32)),
            edit.constant(f"{conv.input[2] if biased else conv.name + '/bias'}/folded", bias.astype(np.float32)),
        ]
    )
    if after:
        node.output[0] = after[-1].node.output[0]
    edit.replace(conv, node)
    for step in (*before, *after):
        edit.replace(step.node)


REWRITE = Rewrite(
    name="fold-constants",
    words="sums and products with constants went into the weights and biases of convolutions",
    order=25,
    find=_find,
)
