"""A convolution whose result is split by channels, as one convolution for each part.

Blocked convolutions hand their layout on to each other; a Split between them has it undone and done again. The parts'
convolutions read the same input and share out the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from edge_sdk.calibration.graph import Graph, attribute
from edge_sdk.calibration.rewrites.base import Edit, Rewrite

_BLOCK = 8
_ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "Tanh", "Clip", "HardSwish"})


def _find(graph: Graph, edit: Edit) -> Sequence[str]:
    made = []
    for node in graph.nodes:
        if node.op_type != "Split" or attribute(node, "axis", 0) not in (1, -3):
            continue
        chain = _chain(graph, node.input[0])
        if chain is None or edit.touched(*chain):
            continue
        shapes = [graph.shape(name) for name in node.output]
        if any(shape is None or len(shape) != 4 for shape in shapes):
            continue
        sizes = [shape[1] for shape in shapes if shape is not None]
        # Heads are split too, and go on as plain tensors; and odd counts have no blocked form.
        blocked = any(reader.op_type == "Conv" for name in node.output for reader in graph.consumers(name))
        if not blocked or any(size % _BLOCK for size in sizes):
            continue
        _write(graph, edit, chain, node, sizes)
        made.append(node.name)
    return made


def _chain(graph: Graph, tensor: str) -> list[NodeProto] | None:  # noqa: PLR0911  one a kind of node
    """The convolution behind a tensor and what its result goes through element by element."""
    chain: list[NodeProto] = []
    while (node := graph.producer(tensor)) is not None:
        readers = graph.consumers(tensor)
        if tensor in graph.outputs or not all(reader in chain or not chain for reader in readers):
            return None
        if not chain and len(readers) != 1:
            return None
        chain.insert(0, node)
        if node.op_type == "Conv":
            plain = graph.is_constant(node.input[1]) and attribute(node, "group", 1) == 1
            return chain if plain and all(graph.is_constant(name) for name in node.input[2:]) else None
        if node.op_type in _ACTIVATIONS:
            tensor = node.input[0]
            continue
        if node.op_type == "Mul":  # x * sigmoid(x), x * hard_sigmoid(x)
            for one, other in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
                gate = graph.producer(other)
                if gate is not None and gate.op_type in _ACTIVATIONS and gate.input[0] == one:
                    if graph.only_consumer(other) is None:
                        return None
                    chain.insert(0, gate)
                    tensor = one
                    break
            else:
                return None
            continue
        return None
    return None


def _write(graph: Graph, edit: Edit, chain: list[NodeProto], split: NodeProto, sizes: list[int]) -> None:
    conv = chain[0]
    cuts = np.cumsum(sizes)[:-1]
    constants = [np.split(np.asarray(graph.constant(name)), cuts, axis=0) for name in conv.input[1:]]
    nodes: dict[str, list[NodeProto]] = {node.name: [] for node in chain}
    for part, target in enumerate(split.output):
        renamed = {split.input[0]: target}
        inputs = [
            edit.constant(f"{name}/{part}", pieces[part])
            for name, pieces in zip(conv.input[1:], constants, strict=True)
        ]
        for node in chain:
            copy = NodeProto()
            copy.CopyFrom(node)
            for name in node.output:
                renamed.setdefault(name, edit.tensor(f"{name}/{part}"))
            given = [renamed.get(name, name) for name in node.input]
            copy.input[:] = [conv.input[0], *inputs] if node is conv else given
            copy.output[:] = [renamed[name] for name in node.output]
            copy.name = f"{node.name}/{part}"
            nodes[node.name].append(copy)
    for node in chain:
        edit.replace(node, *nodes[node.name])
    edit.replace(split)


REWRITE = Rewrite(
    name="split-convolution",
    words="convolutions whose result was split became one for each part",
    order=60,
    find=_find,
)
