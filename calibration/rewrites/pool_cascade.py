"""Max-pools of one tensor with growing windows, each on the result of the one before.

Spatial pyramid pooling takes the largest of 5x5, 9x9 and 13x13 windows of the same tensor. A 9x9 window is a 5x5 window
of 5x5 windows, and a 13x13 one is another 5x5 around that: 75 comparisons instead of 275, and the same result bit for
bit, at the border too, as padding never wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from onnx import NodeProto

from edge_sdk.calibration.graph import Graph, attribute
from edge_sdk.calibration.rewrites.base import Edit, Rewrite


def _window(node: NodeProto) -> int | None:
    """The side of a square window with an odd side that moves by one and keeps the size; None for other pools."""
    kernel = list(attribute(node, "kernel_shape", []))
    if node.op_type != "MaxPool" or len(kernel) != 2 or kernel[0] != kernel[1] or kernel[0] % 2 == 0:
        return None
    side = int(kernel[0])
    plain = (
        list(attribute(node, "strides", [1, 1])) == [1, 1]
        and list(attribute(node, "dilations", [1, 1])) == [1, 1]
        and list(attribute(node, "pads", [0, 0, 0, 0])) == [side // 2] * 4
        and attribute(node, "auto_pad", "NOTSET") == "NOTSET"
        and len([name for name in node.output if name]) == 1
    )
    return side if plain else None


def _find(graph: Graph, edit: Edit) -> Sequence[str]:
    made = []
    for tensor in dict.fromkeys(node.input[0] for node in graph.nodes if node.op_type == "MaxPool"):
        pools = [(side, node) for node in graph.consumers(tensor) if (side := _window(node)) is not None]
        pools.sort(key=lambda pair: pair[0])
        for (inner, before), (side, node) in pairwise(pools):
            if side == inner:
                continue
            step = side - inner + 1  # odd, as both sides are
            edit.replace(
                node,
                edit.node(
                    "MaxPool",
                    [before.output[0]],
                    node.output,
                    node.name,
                    kernel_shape=[step, step],
                    pads=[step // 2] * 4,
                    strides=[1, 1],
                ),
            )
            made.append(node.name)
    return made


REWRITE = Rewrite(
    name="pool-cascade",
    words="max-pools with large windows take the largest of a smaller window's results",
    order=40,
    find=_find,
)
