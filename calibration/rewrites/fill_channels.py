"""Channel counts that are no multiple of four, filled up with zeros where only convolutions see them.

ONNX Runtime's blocked convolutions work on 8 or 16 channels at once and take only counts that are a multiple of four. A
network that was pruned, or a ShuffleNet with 58 channels, falls back to kernels that are up to five times slower in its
depthwise convolutions. Filters of zeros make up the count, and the next convolution multiplies what they give by zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from edge_sdk.calibration.graph import Graph, attribute
from edge_sdk.calibration.rewrites.base import Edit, Rewrite

_TAKEN = 4  # counts that blocked kernels take are its multiples (ONNX Runtime 1.31, nchwc_transformer.cc)
_BLOCK = 8
# Only depthwise convolutions gain, and not those of a few channels: eight for one is more work than it saves (YuNet).
_WORTH = 16
# What works on each channel alone, with no constant that has an axis of channels, and is finite at 0.
_BY_CHANNEL = frozenset(
    {
        "Relu",
        "LeakyRelu",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Tanh",
        "Clip",
        "Elu",
        "Softplus",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
    }
)
_PAIRS = frozenset({"Add", "Mul"})


def _is_depthwise(graph: Graph, node: NodeProto) -> bool:
    weights = graph.shape(node.input[1])
    return node.op_type == "Conv" and weights is not None and weights[0] == attribute(node, "group", 1) > 1


def _is_full(graph: Graph, node: NodeProto) -> bool:
    return node.op_type == "Conv" and attribute(node, "group", 1) == 1


def _region(graph: Graph, start: str, channels: int) -> tuple[set[str], dict[str, NodeProto]] | None:
    """All tensors that must have as many channels as one, and the convolutions around and among them.

    None where something else sees them: an output of the model, a concat, a constant with an axis of channels.
    """
    tensors: set[str] = set()
    convolutions: dict[str, NodeProto] = {}
    waiting = [start]
    while waiting:
        tensor = waiting.pop()
        if tensor in tensors:
            continue
        tensors.add(tensor)
        shape, maker = graph.shape(tensor), graph.producer(tensor)
        if maker is None or tensor in graph.outputs or shape is None or len(shape) != 4 or shape[1] != channels:
            return None
        for node in (maker, *graph.consumers(tensor)):
            if node.op_type == "Conv":
                if not all(graph.is_constant(name) for name in node.input[1:]):
                    return None
                if _is_depthwise(graph, node):
                    waiting += [node.input[0], node.output[0]]
                elif not _is_full(graph, node):
                    return None
                convolutions[node.name] = node
            elif node.op_type in _BY_CHANNEL and len([name for name in node.output if name]) == 1:
                waiting += [node.input[0], node.output[0]]
            elif node.op_type in _PAIRS:
                waiting += [name for name in node.input if graph.scalar(name) is None] + [node.output[0]]
            else:
                return None
    return tensors, convolutions


def _find(graph: Graph, edit: Edit) -> Sequence[str]:
    seen: set[str] = set()
    inside: dict[str, NodeProto] = {}  # convolutions whose output, or input, or both grow
    grown_out: dict[str, int] = {}
    grown_in: dict[str, int] = {}
    for node in graph.nodes:
        if not _is_full(graph, node) or node.output[0] in seen:
            continue
        shape = graph.shape(node.output[0])
        if shape is None or len(shape) != 4 or shape[1] % _TAKEN == 0:
            continue
        region = _region(graph, node.output[0], shape[1])
        if region is None:
            continue
        tensors, convolutions = region
        seen |= tensors
        if shape[1] < _WORTH or not any(_is_depthwise(graph, conv) for conv in convolutions.values()):
            continue
        more = -shape[1] % _BLOCK
        for conv in convolutions.values():
            inside[conv.name] = conv
            if conv.output[0] in tensors:
                grown_out[conv.name] = more
            if conv.input[0] in tensors:
                grown_in[conv.name] = more
    for name, conv in inside.items():
        edit.replace(conv, _grown(graph, edit, conv, grown_out.get(name, 0), grown_in.get(name, 0)))
    return [node.name for node in graph.nodes if node.name in inside]


def _grown(graph: Graph, edit: Edit, conv: NodeProto, out: int, into: int) -> NodeProto:
    node = NodeProto()
    node.CopyFrom(conv)
    constants = [np.asarray(graph.constant(name)) for name in conv.input[1:]]
    if _is_depthwise(graph, conv):
        into = 0
        for held in node.attribute:
            if held.name == "group":
                held.i += out
    shares = [[(0, out), (0, into), (0, 0), (0, 0)], [(0, out)]]
    for place, (values, share) in enumerate(zip(constants, shares, strict=False), start=1):
        node.input[place] = edit.constant(f"{conv.input[place]}/filled", np.pad(values, share))
    return node


REWRITE = Rewrite(
    name="fill-channels",
    words="channel counts that are no multiple of four were filled up with zeros between convolutions",
    order=70,
    find=_find,
)
