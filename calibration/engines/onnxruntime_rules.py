"""What ONNX Runtime's CPU engine computes in INT8, and what it fuses, as read from the graphs it made.

Seen on ONNX Runtime 1.31.1, x86-64, by writing each pattern in Q/DQ form, opening it with all optimizations and reading
the optimized graph. "->" is what the pattern became:

- Conv, depthwise too: QLinearConv. Without a quantized output it stays a float Conv, so each INT8 convolution's output
  is rounded to 8 bits. ConvTranspose stays float.
- Relu or Clip between an operator and its Q: gone into the Q, where the Q's range lies within what the activation lets
  through (zero point at the end of the type).
- Sigmoid, LeakyRelu: QLinearSigmoid, QLinearLeakyRelu, tables of 256 values; only with a Q between them and their
  convolution.
- HardSigmoid: no kernel, float between DQ and Q. It is written as an Add that saturates (`onnxruntime_lower`).
- Add, Mul: QLinearAdd, QLinearMul. Sub, Div, Pad, Softplus, Exp: none.
- Concat: QLinearConcat, whatever the scales of its inputs.
- AveragePool, GlobalAveragePool: QLinearAveragePool, QLinearGlobalAveragePool.
- MaxPool, Resize (nearest), Transpose, Reshape, Flatten, Slice, Split, Squeeze, Unsqueeze: the same operator on 8-bit
  values, if the scale after it is the one before; else float. The engine moves Q and DQ across some of them by itself.
- Resize (linear): float.
- In float, Conv + Sigmoid + Mul is Conv and one QuickGelu; Conv + HardSigmoid + Mul, Conv + Relu, Conv + LeakyRelu and
  Conv + HardSigmoid are one Conv each. A Q within one of these breaks it: so they switch together.

Time in INT8 over time in float there, one thread, AVX2 without VNNI (AMD Zen 3), in turns: convolutions 1x1 1.0 (16 and
32 channels), .8 (64), .5 (128 and more), 3x3 .65 to .5, depthwise 1.3 to 1.7; SiLU 1.3; hard swish, which costs nothing
in float after a convolution, .4 ns an element; addition 1.5; MaxPool .3 to 1 beside INT8 convolutions. From float to
INT8 (a reordering, Q, a transposition) .8 ns an element, and back .7: as much as a 1x1 convolution of 64 channels wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING

import numpy as np

from edge_sdk.calibration.engines.base import WEIGHTED
from edge_sdk.calibration.graph import Graph, attribute, subgraphs
from edge_sdk.targets import Precision

if TYPE_CHECKING:
    import onnx

    from edge_sdk.calibration.groups import Group

MOVERS = ("MaxPool", "Resize", "Transpose", "Reshape", "Flatten", "Slice", "Split", "Squeeze", "Unsqueeze", "Identity")
"""Operators whose outputs are some of their input's values: 8-bit values pass with the scale that they have."""

CLIPPING = ("Relu", "Clip")
"""Activations that a Q after them does by saturating."""

ACTIVATIONS = (*CLIPPING, "LeakyRelu", "Sigmoid", "HardSigmoid")
GATES = ("Sigmoid", "HardSigmoid")
_POOLS = ("AveragePool", "GlobalAveragePool")
_COMBINING = ("Add", "Mul")
# What becomes an 8-bit kernel wherever it stands between DQ and Q.
_TAKEN = (*_COMBINING, *_POOLS, "Concat", "Sigmoid", "LeakyRelu")
_COMPUTING = ("Conv", "Gemm", "MatMul", "Concat", *_POOLS, *_COMBINING)


class OnnxRuntimeRules:
    """INT8 or float on ONNX Runtime's CPU engine."""

    precisions: tuple[Precision, ...] = ("int8", "fp32")

    def refusals(self, graph: Graph) -> Mapping[str, str]:
        useful = _before_weights(graph)
        refused = {}
        for node in graph.nodes:
            reason = _unable(graph, node)
            if reason is None and node.name not in useful and not _within_last_layer(graph, node):
                reason = "it comes after the last weights: nothing to win, and boxes and scores need their own scales"
            if reason is not None:
                refused[node.name] = reason
        return refused

    def joins(self, graph: Graph, refused: Mapping[str, str]) -> Iterable[tuple[str, str]]:
        for node in graph.nodes:
            if node.name not in refused:
                for other in _partners(graph, node, refused):
                    if other.name not in refused:
                        yield node.name, other.name


def gate_of(graph: Graph, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The Sigmoid or HardSigmoid of x * gate(x), where a node is that Mul."""
    if node.op_type != "Mul":
        return None
    for ours, other in (node.input, node.input[::-1]):
        gate = graph.producer(ours)
        if gate is not None and gate.op_type in GATES and gate.input[0] == other and graph.only_consumer(ours) is node:
            return gate
    return None


def absorbed_by(graph: Graph, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The operator whose Q does what this Relu or Clip does; None where it needs a Q of its own."""
    if node.op_type not in CLIPPING:
        return None
    maker = graph.producer(node.input[0])
    fits = maker is not None and maker.op_type in _COMPUTING and graph.only_consumer(node.input[0]) is node
    return maker if fits else None


def data_inputs(node: onnx.NodeProto) -> list[str]:
    """The inputs of an operator that hold activations."""
    return list(node.input) if node.op_type in (*_COMBINING, "Concat") else [node.input[0]]


def integer_anyway(graph: Graph, integer: Set[str]) -> tuple[str, ...]:
    """Nodes planned in float that the engine replaces by 8-bit kernels, as they stand between DQ and Q.

    Their values are those of the float operator: what they read and what they give is rounded in any case. So a plan
    should have them in INT8, with `settled`.

    Args:
        graph: Of the prepared model.
        integer: Names of the nodes planned in INT8.
    """
    return tuple(
        node.name
        for node in graph.nodes
        if node.name not in integer
        and node.op_type in _TAKEN
        and _unable(graph, node) is None
        and all(_is_in(graph.producer(tensor), integer) for tensor in data_inputs(node))
        and rounded_alone(graph, node.output[0], integer)
    )


def rounded_alone(graph: Graph, tensor: str, integer: Set[str], past: Sequence[str] = MOVERS) -> bool:
    """Whether a tensor is only read in 8 bits: by operators in INT8, or by such that a Q is moved across before them.

    Args:
        graph: Of the prepared model.
        tensor: Made in float.
        integer: Names of the nodes planned in INT8.
        past: Operators that a Q after them may be moved before, or does the work of.
    """
    readers = graph.consumers(tensor)
    return bool(readers) and all(
        reader.name in integer
        or (reader.op_type in past and all(rounded_alone(graph, made, integer, past) for made in reader.output))
        for reader in readers
    )


def settled(graph: Graph, groups: Sequence[Group], integer: Set[str]) -> frozenset[str]:
    """Names of groups in INT8, with those added that the engine would run so anyway.

    Args:
        graph: Of the prepared model.
        groups: Of that model.
        integer: Names of the groups that are wanted in INT8.
    """
    done = set(integer)
    while True:
        forced = integer_anyway(graph, {node for group in groups if group.name in done for node in group.nodes})
        added = {group.name for group in groups if group.reason is None and set(forced) & set(group.nodes)} - done
        if not added:
            return frozenset(done)
        done |= added


def _is_in(node: onnx.NodeProto | None, names: Set[str]) -> bool:
    return node is not None and node.name in names


def _partners(graph: Graph, node: onnx.NodeProto, refused: Mapping[str, str]) -> Iterator[onnx.NodeProto]:
    """What a node switches together with: nodes before it, or the one after it for lack of such."""
    maker = graph.producer(node.input[0])
    if node.op_type in MOVERS:
        reader = graph.only_consumer(node.output[0])
        if maker is not None and maker.name not in refused:
            yield maker
        elif reader is not None:
            yield reader
    elif node.op_type == "Concat" or node.op_type in _POOLS:
        # Nothing but its readers tells whether 8 bits are wanted; two readers may want two answers.
        reader = graph.only_consumer(node.output[0])
        if reader is not None:
            yield reader
    elif node.op_type in ACTIVATIONS:
        readers = {one.name for one in graph.consumers(node.input[0])}
        product = graph.only_consumer(node.output[0])
        gated = product is not None and gate_of(graph, product) is node
        if product is not None and gated:
            yield product
        if maker is not None and readers == {node.name, *([product.name] if product is not None and gated else [])}:
            yield maker
    elif node.op_type in _COMBINING and gate_of(graph, node) is None:
        for tensor in node.input:  # the branch that ends here
            branch = graph.producer(tensor)
            if branch is not None and graph.only_consumer(tensor) is node:
                yield branch


def _unable(graph: Graph, node: onnx.NodeProto) -> str | None:
    """Why a node has no INT8 kernel; None where it has."""
    if node.domain not in ("", "ai.onnx"):
        return f"{node.domain}.{node.op_type} is no standard operator"
    if any(subgraphs(one) for one in node.attribute):
        return f"{node.op_type} runs graphs of its own"
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return "the model is quantized here already"
    check = _CHECKS.get(node.op_type)
    if check is None:
        return f"ONNX Runtime has no INT8 {node.op_type}"
    if any(graph.dtypes.get(tensor, np.dtype(np.float32)) != np.float32 for tensor in (node.input[0], node.output[0])):
        return "its values are not float32"
    return check(graph, node)


def _fine(graph: Graph, node: onnx.NodeProto) -> str | None:
    return None


def _conv(graph: Graph, node: onnx.NodeProto) -> str | None:
    if not all(graph.is_constant(tensor) for tensor in node.input[1:] if tensor):
        return "its weights are no constants"
    if len(graph.shapes.get(node.input[1], ())) != 4:
        return "only two-dimensional convolutions are quantized"
    return None


def _matmul(graph: Graph, node: onnx.NodeProto) -> str | None:
    if not all(graph.is_constant(tensor) for tensor in node.input[1:] if tensor):
        return "its weights are no constants"
    if len(graph.shapes.get(node.input[1], ())) != 2:
        return "its weights are no matrix"
    plain = not attribute(node, "transA", 0) and attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
    return None if plain else "a Gemm with factors of its own is not quantized"


def _clip(graph: Graph, node: onnx.NodeProto) -> str | None:
    low, high = ([*map(graph.scalar, node.input[1:]), None, None])[:2]
    if len(node.input) > 2 and node.input[2] and high is None:
        return "its upper limit is no constant"
    return None if low == 0 and (high is None or high > 0) else "its lower limit is not 0"


def _max_pool(graph: Graph, node: onnx.NodeProto) -> str | None:
    return "it gives indices too" if len(node.output) > 1 else None


def _resize(graph: Graph, node: onnx.NodeProto) -> str | None:
    nearest = attribute(node, "mode", "nearest") == "nearest"
    return None if nearest else "only nearest-neighbour Resize passes 8-bit values"


def _hard_sigmoid(graph: Graph, node: onnx.NodeProto) -> str | None:
    return None if attribute(node, "alpha", 0.2) > 0 else "its slope is not positive"


def _combining(graph: Graph, node: onnx.NodeProto) -> str | None:
    return "both inputs are one tensor" if node.input[0] == node.input[1] else None


_CHECKS: Mapping[str, Callable[[Graph, onnx.NodeProto], str | None]] = {
    **dict.fromkeys((*MOVERS, *_POOLS, "Concat", "Relu", "LeakyRelu", "Sigmoid"), _fine),
    **dict.fromkeys(_COMBINING, _combining),
    "Conv": _conv,
    "Gemm": _matmul,
    "MatMul": _matmul,
    "Clip": _clip,
    "MaxPool": _max_pool,
    "Resize": _resize,
    "HardSigmoid": _hard_sigmoid,
}


def _before_weights(graph: Graph) -> frozenset[str]:
    """Names of the nodes with weights, and of those that a later one depends on."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        after = (reader for tensor in node.output for reader in graph.consumers(tensor))
        if node.op_type in WEIGHTED or any(reader.name in found for reader in after):
            found.add(node.name)
    return frozenset(found)


def _within_last_layer(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node is a hidden layer's activation: ReLU, SiLU and such end features, a lone Sigmoid scores."""
    if node.op_type in GATES:
        product = graph.only_consumer(node.output[0])
        if product is None or gate_of(graph, product) is not node:
            return False
    elif node.op_type not in (*CLIPPING, "LeakyRelu"):
        gate = gate_of(graph, node)
        if gate is None:
            return False
        node = gate
    maker = graph.producer(node.input[0])
    return maker is not None and maker.op_type in WEIGHTED
