"""Biases that take back the mean shift of a layer's outputs which rounding its weights makes.

Weights that are off by D shift the mean output by D E[x] (M. Nagel et al., Data-Free Quantization Through Weight
Equalization and Bias Correction, arXiv 1906.04721, 2019, section 4.2); E[x] is the float model's, on photos.
"""

from __future__ import annotations

import numpy as np

from edge_sdk.calibration.engines.integers import in_order
from edge_sdk.calibration.graph import attribute
from edge_sdk.calibration.repairs.base import Arrays, Given, Repair


def mend(given: Given) -> Arrays:
    """The biases of every node that can be mended and has one; without one, none is added."""
    found = {}
    for node in given.own():
        name = node.input[2] if len(node.input) > 2 else ""
        bias, weights = given.graph.constant(name), given.graph.constant(node.input[1])
        if bias is None or weights is None or bias.dtype != np.float32:
            continue
        axis, known = given.engine.grid(given.graph, node, cpu=given.cpu).axis, given.moments[node.name]
        if bias.size != weights.shape[axis]:
            continue
        groups = attribute(node, "group", 1) if node.op_type == "Conv" else 1
        off = in_order(weights.astype(np.float64) - given.arrays[node.input[1]], axis)
        parts = (known.blocks(off, groups) * known.mean[:, None, :]).sum(axis=2)  # [blocks, out of a block]
        shift = parts.reshape(groups, -1, parts.shape[1]).sum(axis=1).reshape(-1)
        found[name] = (bias + shift.reshape(bias.shape)).astype(np.float32)
    return found


REPAIR = Repair("bias correction", "biases that take back what rounded weights shift", 20, mend)
