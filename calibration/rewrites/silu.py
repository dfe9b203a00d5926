"""Sigmoid and SiLU spelled with an exponential, as Sigmoid and x * Sigmoid(x), which the engine has kernels for.

ONNX Runtime fuses a product with the Sigmoid of its other factor (QuickGelu), in whichever order they stand. Where
something else reads that Sigmoid it does not; a second Sigmoid for it gains nothing (1.01 of the time, measured).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from edge_sdk.calibration.graph import Graph
from edge_sdk.calibration.rewrites.base import Edit, Rewrite


def _logistic(graph: Graph, tensor: str) -> tuple[str, list[NodeProto]] | None:
    """x and the nodes, where a tensor is 1 + exp(-x) and nothing else reads what is between."""
    add = graph.producer(tensor)
    if add is None or add.op_type != "Add" or graph.only_consumer(tensor) is None:
        return None
    for one, other in ((add.input[0], add.input[1]), (add.input[1], add.input[0])):
        exp = graph.producer(other)
        if graph.scalar(one) != 1 or exp is None or exp.op_type != "Exp" or graph.only_consumer(other) is None:
            continue
        negative = graph.producer(exp.input[0])
        if negative is None or negative.op_type != "Neg" or graph.only_consumer(exp.input[0]) is None:
            continue
        return negative.input[0], [negative, exp, add]
    return None


def _find(graph: Graph, edit: Edit) -> Sequence[str]:
    made = []
    for node in graph.nodes:
        if node.op_type != "Div" or graph.dtypes.get(node.output[0]) != np.float32:
            continue
        found = _logistic(graph, node.input[1])
        if found is None:
            continue
        x, nodes = found
        if x == node.input[0]:
            instead = _silu(edit, node, x)
        elif graph.scalar(node.input[0]) == 1 and graph.shape(x) == graph.shape(node.output[0]):
            instead = [edit.node("Sigmoid", [x], node.output, node.name)]
        else:
            continue
        edit.replace(node, *instead)
        for one in nodes:
            edit.replace(one)
        made.append(node.name)
    return made


def _silu(edit: Edit, node: NodeProto, x: str) -> list[NodeProto]:
    gate = edit.tensor(f"{node.output[0]}/sigmoid")
    return [
        edit.node("Sigmoid", [x], [gate], f"{node.name}/sigmoid"),
        edit.node("Mul", [x, gate], node.output, node.name),
    ]


REWRITE = Rewrite(
    name="silu",
    words="sigmoids and SiLUs that were spelled with an exponential became Sigmoid",
    order=15,
    find=_find,
)
