"""Hard-swish and hard-sigmoid, however they are spelled, as HardSigmoid and one product.

Exporters write x * clip(x + 3, 0, 6) / 6 as four nodes, in any order of factors. ONNX Runtime has one kernel for
HardSigmoid, and fuses HardSigmoid and the product behind it into the convolution before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from edge_sdk.calibration.graph import Graph, attribute
from edge_sdk.calibration.rewrites.base import Edit, Rewrite

# Two spellings of a sixth in float32 differ by less than this share; the 0.1667 of some exporters is not a sixth.
_CLOSE = 1e-6
_INFINITY = float("inf")


@dataclass(frozen=True)
class _Linear:
    """A tensor that is scale * x + shift, and the nodes that make it so."""

    x: str
    scale: float
    shift: float
    nodes: tuple[NodeProto, ...] = ()


@dataclass(frozen=True)
class _Gate:
    """A tensor that is scale * clip(alpha * x + beta, 0, 1)."""

    x: str
    scale: float
    alpha: float
    beta: float
    nodes: tuple[NodeProto, ...]


def _linear(graph: Graph, tensor: str) -> _Linear:
    """What a tensor is of the first one behind it that is more than a scalar sum or product."""
    node = graph.producer(tensor)
    if node is None or node.op_type not in ("Add", "Sub", "Mul", "Div") or not _inner(graph, tensor):
        return _Linear(tensor, 1.0, 0.0)
    left, right = node.input
    a, b = graph.scalar(left), graph.scalar(right)
    if b is not None and a is None and _keeps_rank(graph, left, tensor):
        inner = _linear(graph, left)
        scale, shift = {
            "Add": (1.0, b),
            "Sub": (1.0, -b),
            "Mul": (b, 0.0),
            "Div": (1 / b if b else _INFINITY, 0.0),
        }[node.op_type]
    elif a is not None and b is None and node.op_type in ("Add", "Mul") and _keeps_rank(graph, right, tensor):
        inner = _linear(graph, right)
        scale, shift = (1.0, a) if node.op_type == "Add" else (a, 0.0)
    else:
        return _Linear(tensor, 1.0, 0.0)
    return _Linear(inner.x, inner.scale * scale, inner.shift * scale + shift, (*inner.nodes, node))


def _keeps_rank(graph: Graph, given: str, made: str) -> bool:
    """A constant of one element may still add axes."""
    return graph.shape(given) == graph.shape(made) is not None


def _inner(graph: Graph, tensor: str) -> bool:
    """Whether a tensor is seen by one node alone, so that it may go."""
    return graph.only_consumer(tensor) is not None


def _gate(graph: Graph, tensor: str) -> _Gate | None:  # noqa: PLR0911  one a spelling
    """A tensor as scaled hard sigmoid, where it is one and nobody else reads what is between."""
    node = graph.producer(tensor)
    if node is None:
        return None
    if node.op_type in ("Mul", "Div"):
        outer = _linear(graph, tensor) if _inner(graph, tensor) else None
        if outer is None:
            outer = _one_step(graph, node)
        if outer is None or not outer.nodes or outer.shift:
            return None
        inside = _gate(graph, outer.x) if _inner(graph, outer.x) else None
        if inside is None:
            return None
        return _Gate(inside.x, inside.scale * outer.scale, inside.alpha, inside.beta, (*inside.nodes, *outer.nodes))
    if node.op_type == "HardSigmoid":
        alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
        return _Gate(node.input[0], 1.0, alpha, beta, (node,))
    clipped = _clipped(graph, node)
    if clipped is None:
        return None
    source, high, nodes = clipped
    inner = _linear(graph, source)
    return _Gate(inner.x, high, inner.scale / high, inner.shift / high, (*inner.nodes, *nodes))


def _one_step(graph: Graph, node: NodeProto) -> _Linear | None:
    """A product with a scalar whose result others may read: the end of a pattern."""
    values = [graph.scalar(name) for name in node.input]
    if node.op_type == "Div" and values[1]:
        return _Linear(node.input[0], 1 / values[1], 0.0, (node,))
    for name, value in zip(reversed(node.input), values, strict=True):
        if node.op_type == "Mul" and value is not None:
            return _Linear(name, value, 0.0, (node,))
    return None


def _clipped(graph: Graph, node: NodeProto) -> tuple[str, float, tuple[NodeProto, ...]] | None:
    """What is cut to 0..high, and high, where a node does that."""
    if node.op_type == "Clip" and len(node.input) == 3 and graph.scalar(node.input[1]) == 0:
        high = graph.scalar(node.input[2])
        return (node.input[0], high, (node,)) if high is not None and 0 < high < _INFINITY else None
    if node.op_type == "Min" and len(node.input) == 2:  # Min(Relu(x), 6)
        for tensor, limit in (tuple(node.input), tuple(reversed(node.input))):
            high, relu = graph.scalar(limit), graph.producer(tensor)
            if high is not None and high > 0 and relu is not None and relu.op_type == "Relu" and _inner(graph, tensor):
                return relu.input[0], high, (relu, node)
    return None


def _product(graph: Graph, node: NodeProto) -> tuple[_Gate, float] | None:
    """A node that makes scale * x * gate(x): the gate, and the scale in all."""
    outer = _Linear(node.output[0], 1.0, 0.0)
    if node.op_type in ("Div", "Mul") and (step := _one_step(graph, node)) is not None:
        outer, inner = step, graph.producer(step.x)
        if inner is None or not _inner(graph, step.x):
            return None
        node = inner
    if node.op_type != "Mul":
        return None
    for one, other in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
        gate = _gate(graph, other) if _inner(graph, other) else None
        if gate is None:
            continue
        plain = _Linear(one, 1.0, 0.0) if gate.x == one else _linear(graph, one)
        if plain.x == gate.x and not plain.shift:
            nodes = (*gate.nodes, *plain.nodes, node, *outer.nodes)
            return (
                _Gate(gate.x, gate.scale, gate.alpha, gate.beta, nodes),
                gate.scale * plain.scale * outer.scale,
            )
    return None


def _find(graph: Graph, edit: Edit) -> Sequence[str]:
    made = []
    for node in reversed(graph.nodes):  # from the end, so that the whole of a pattern is seen before its parts
        if edit.touched(node) or not _is_float32(graph, node):
            continue
        y = node.output[0]
        if node.op_type == "HardSwish":
            made.append(_write(edit, (node,), y, node.input[0], 1 / 6, 0.5))
            continue
        if node.op_type not in ("Mul", "Div", "Clip", "Min"):
            continue
        found = _product(graph, node) if node.op_type in ("Mul", "Div") else None
        if found is not None:
            gate, scale = found
            plain = len(gate.nodes) == 2 and gate.nodes[0].op_type == "HardSigmoid"  # it is as wanted already
            if abs(scale - 1) < _CLOSE and not plain and not edit.touched(*gate.nodes):
                made.append(_write(edit, gate.nodes, y, gate.x, gate.alpha, gate.beta))
            continue
        alone = _gate(graph, y)
        if (
            alone is not None
            and len(alone.nodes) > 1
            and abs(alone.scale - 1) < _CLOSE
            and not edit.touched(*alone.nodes)
        ):
            edit.replace(
                node,
                edit.node("HardSigmoid", [alone.x], [y], node.name, alpha=_tidy(alone.alpha), beta=_tidy(alone.beta)),
            )
            made.append(node.name)
    return made[::-1]


def _write(edit: Edit, nodes: Sequence[NodeProto], y: str, x: str, alpha: float, beta: float) -> str:
    last = nodes[-1]
    gate = edit.tensor(f"{y}/hard_sigmoid")
    edit.replace(
        last,
        edit.node("HardSigmoid", [x], [gate], f"{last.name}/hard_sigmoid", alpha=_tidy(alpha), beta=_tidy(beta)),
        edit.node("Mul", [x, gate], [y], last.name),
    )
    for node in nodes[:-1]:
        edit.replace(node)
    return last.name


def _tidy(value: float) -> float:
    """A sixth that came through float32 as the float32 nearest to a sixth."""
    return float(np.float32(1 / 6)) if abs(value * 6 - 1) < _CLOSE else float(np.float32(value))


def _is_float32(graph: Graph, node: NodeProto) -> bool:
    return graph.dtypes.get(node.output[0]) == np.float32


REWRITE = Rewrite(
    name="hard-swish",
    words="hard-swish and hard-sigmoid, written as several nodes, became HardSigmoid and one product",
    order=20,
    find=_find,
)
