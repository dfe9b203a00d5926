"""Resizes in the form that the engine has a fast kernel for.

ONNX Runtime's blocked convolutions hand their layout on through a Resize only where it repeats pixels a whole number of
times counted from the corner, or interpolates between pixel centres, with scales rather than sizes. Exporters write the
same in a dozen ways. Halving between pixel centres is the mean of two by two pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto

from edge_sdk.calibration.graph import Graph, Shape, attribute
from edge_sdk.calibration.rewrites.base import Edit, Rewrite


def _repeats(node: NodeProto, factors: tuple[float, float]) -> bool:
    """Whether a nearest resize by these factors makes output pixel i of input pixel floor(i / factor).

    The centre of output pixel i lies at (i + 0.5) / factor of the input, which for a whole factor is never on an edge
    between two pixels: whichever way halves are rounded, it lies in pixel floor(i / factor).
    """
    if any(factor != int(factor) for factor in factors):
        return False
    frame = attribute(node, "coordinate_transformation_mode", "half_pixel")
    rounding = attribute(node, "nearest_mode", "round_prefer_floor")
    if frame in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        return rounding in ("round_prefer_floor", "round_prefer_ceil")
    if frame == "tf_half_pixel_for_nn":
        return bool(rounding == "floor")
    # From the corner pixel i lies at i / factor: by 2 that is a half at most, which is rounded down.
    return frame == "asymmetric" and (rounding == "floor" or (rounding == "round_prefer_floor" and max(factors) <= 2))


def _factors(x: Shape | None, y: Shape | None) -> tuple[float, float] | None:
    if x is None or y is None or len(x) != 4 or len(y) != 4 or x[:2] != y[:2] or 0 in x:
        return None
    return y[2] / x[2], y[3] / x[3]


def _find(graph: Graph, edit: Edit) -> Sequence[str]:
    made = []
    for node in graph.nodes:
        if node.op_type != "Resize" or attribute(node, "antialias", 0) or attribute(node, "axes") is not None:
            continue
        factors = _factors(graph.shape(node.input[0]), graph.shape(node.output[0]))
        if factors is None:
            continue
        new = _better(graph, edit, node, factors)
        if new is not None:
            edit.replace(node, new)
            made.append(node.name)
    return made


def _better(graph: Graph, edit: Edit, node: NodeProto, factors: tuple[float, float]) -> NodeProto | None:  # noqa: PLR0911  one a form
    mode = attribute(node, "mode", "nearest")
    frame = attribute(node, "coordinate_transformation_mode", "half_pixel")
    scaled = len(node.input) >= 3 and bool(node.input[2])
    if scaled:
        stated = graph.constant(node.input[2])
        if stated is None:
            return None
        scaled = stated.size > 0  # some exporters leave an empty one where they state sizes
        if scaled and not np.array_equal(stated, np.array([1, 1, *factors], stated.dtype)):
            return None
    wanted: dict[str, Any]
    if mode == "nearest" and _repeats(node, factors):
        rounding = attribute(node, "nearest_mode", "round_prefer_floor")
        if scaled and frame == "asymmetric" and rounding == "floor":
            return None
        wanted = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    elif mode == "linear" and frame in ("half_pixel", "pytorch_half_pixel"):
        shape = graph.shape(node.output[0])
        # PyTorch's frame differs only where one pixel is left.
        if shape is None or 1 in shape[2:]:
            return None
        if factors == (0.5, 0.5):
            return edit.node("AveragePool", node.input[:1], node.output, node.name, kernel_shape=[2, 2], strides=[2, 2])
        if scaled and frame == "half_pixel":
            return None
        wanted = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    else:
        return None
    scales = edit.constant(f"{node.output[0]}/scales", np.array([1, 1, *factors], np.float32))
    return edit.node("Resize", [node.input[0], "", scales], node.output, node.name, **wanted)


REWRITE = Rewrite(
    name="resize",
    words="resizes took the form that has a fast kernel",
    order=50,
    find=_find,
)
