"""Weights rounded to the integers that keep a layer's outputs, not to the nearest ones.

Column by column, each rounding's error is made good by the columns that are still to come, in the way that costs the
outputs least (E. Frantar et al., GPTQ, arXiv 2210.17323, 2022, after B. Hassibi and D. Stork's Optimal Brain Surgeon,
1993); then single integers are moved while that helps. The scales are those of the engine's plain rounding, which
stays for channels where it is the better one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.engines.integers import LEVELS, PAIR_LIMIT, channel_scales, from_order, in_order
from edge_sdk.calibration.graph import attribute
from edge_sdk.calibration.repairs.base import Arrays, Given, Repair

if TYPE_CHECKING:
    import onnx

Float64 = NDArray[np.float64]

# Of the second moments' mean diagonal, added to it, as the paper does: what few photos have not shown is not free.
_DAMPING = 0.01

_SWEEPS = 3  # of moving single integers; the third hardly finds any


def mend(given: Given) -> Arrays:
    """The rounded weights of every node that can be mended, where a channel's expected error becomes smaller."""
    found = {}
    for node in given.own():
        better = _rounded(given, node)
        if better is not None:
            found[node.input[1]] = better
    return found


def _rounded(given: Given, node: onnx.NodeProto) -> NDArray[np.float32] | None:
    name = node.input[1]
    weights = given.graph.constant(name)
    if weights is None or weights.dtype != np.float32:
        return None
    grid, known = given.engine.grid(given.graph, node, cpu=given.cpu), given.moments[node.name]
    groups = attribute(node, "group", 1) if node.op_type == "Conv" else 1
    rows = in_order(weights.astype(np.float64), grid.axis)
    scales = channel_scales(rows, pairs=grid.pairs)
    scales = np.nextafter(
        np.where(scales < np.finfo(np.float32).tiny, 1, scales).astype(np.float32), np.float32(np.inf)
    )
    blocks = known.blocks(rows, groups)
    # The same scale in each block of a row.
    steps = known.blocks(np.repeat(scales.astype(np.float64)[:, None], known.width, axis=1), groups)[:, :, 0]
    curvature = known.second + _damping(known.second)
    stored = second_order(blocks, curvature, steps, pairs=grid.pairs)
    real = (known.rows(stored, groups).astype(np.float32) * scales[:, None]).astype(np.float32)
    usual = in_order(given.arrays[name], grid.axis)
    before, after = (
        _errors(known.blocks(one.astype(np.float64), groups) - blocks, curvature, groups) for one in (usual, real)
    )
    better = after < before
    if not better.any():
        return None
    return from_order(np.where(better[:, None], real, usual), weights.shape, grid.axis)


def second_order(weights: Float64, curvature: Float64, steps: Float64, *, pairs: bool) -> Float64:
    """Integers for weights, such that the squared error of the outputs is small.

    Args:
        weights: float64 [blocks, out, k], in the order in which kernels add.
        curvature: float64 [blocks, k, k], symmetric and positive definite: the error of integers q is d' curvature d
            with d = q * step - w.
        steps: float64 [blocks, out], above 0.
        pairs: Two neighbours of one sign may only add up to `PAIR_LIMIT`.

    Returns:
        float64 [blocks, out, k] of whole numbers from -127 to 127.
    """
    bounds = _bounds(weights / steps[:, :, None], pairs=pairs)
    # What weighs most first, while there are many others to make its error good: one order for all blocks.
    order = np.argsort(-np.einsum("bkk->bk", curvature).mean(axis=0), kind="stable")
    # With U'U the inverse, row i of U holds what the error of column i costs the later ones (the paper's algorithm 1).
    upper = np.linalg.cholesky(np.linalg.inv(curvature[:, order][:, :, order])).transpose(0, 2, 1)
    left = weights[:, :, order]
    stored = np.zeros_like(weights)
    for place, column in enumerate(order.tolist()):
        wanted = left[:, :, place] / steps
        bound = np.minimum(bounds[:, :, column], _room(stored, column, np.sign(wanted), pairs=pairs))
        stored[:, :, column] = np.clip(np.rint(wanted), -bound, bound)
        error = (left[:, :, place] - stored[:, :, column] * steps) / upper[:, place, place, None]
        left[:, :, place:] -= error[:, :, None] * upper[:, None, place, place:]
    _move(stored, weights, curvature, steps, order.tolist(), pairs=pairs)
    return stored


def _move(
    stored: Float64, weights: Float64, curvature: Float64, steps: Float64, order: list[int], *, pairs: bool
) -> None:
    """Sets one column after the other to its best integers for the others as they are."""
    slope = np.matmul(stored * steps[:, :, None] - weights, curvature)
    for _ in range(_SWEEPS):
        moved = False
        for column in order:
            wanted = stored[:, :, column] - slope[:, :, column] / (curvature[:, column, column, None] * steps)
            bound = _room(stored, column, np.sign(wanted), pairs=pairs)
            change = np.clip(np.rint(wanted), -bound, bound) - stored[:, :, column]
            if change.any():
                moved = True
                stored[:, :, column] += change
                slope += (change * steps)[:, :, None] * curvature[:, None, column, :]
        if not moved:
            return


def _bounds(wanted: Float64, *, pairs: bool) -> Float64:
    """How far each integer may go from 0: of a pair that is too large, each gives way by the same."""
    bounds = np.full(wanted.shape, float(LEVELS))
    if pairs:
        left, right = wanted[:, :, 0 : wanted.shape[2] - 1 : 2], wanted[:, :, 1::2]
        excess = np.where(left * right > 0, np.abs(left) + np.abs(right) - LEVELS, 0)
        for side, place in ((left, 0), (right, 1)):
            bounds[:, :, place : place + 2 * side.shape[2] : 2] = np.where(
                excess > 0, np.clip(np.rint(np.abs(side) - excess / 2), 0, LEVELS), LEVELS
            )
    return bounds


def _room(stored: Float64, column: int, sign: Float64, *, pairs: bool) -> Float64:
    """How far a column's integers may go from 0, beside what their neighbours are now."""
    other = column ^ 1
    if not pairs or other >= stored.shape[2]:
        return np.full(stored.shape[:2], float(LEVELS))
    beside = stored[:, :, other]
    return np.where(beside * sign > 0, np.minimum(LEVELS, PAIR_LIMIT - np.abs(beside)), LEVELS)


def _damping(second: Float64) -> Float64:
    level = _DAMPING * np.einsum("bkk->bk", second).mean(axis=1)
    return np.asarray(np.where(level > 0, level, 1)[:, None, None] * np.eye(second.shape[1]), np.float64)


def _errors(off: Float64, curvature: Float64, groups: int) -> Float64:
    """Expected squared error of each output channel, whose weights may lie in several blocks of its group."""
    errors = np.einsum("bok,bok->bo", np.matmul(off, curvature), off)
    return np.asarray(errors.reshape(groups, -1, errors.shape[1]).sum(axis=1).reshape(-1), np.float64)


REPAIR = Repair("weight rounding", "integers of weights chosen for the layers' outputs", 10, mend)
