"""Weights and biases as the integers that an INT8 kernel takes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LEVELS = 127  # -127 to 127: symmetric, no zero point
_BIAS_LEVELS = float(1 << 30)  # half of int32: the sum of products needs the rest

# The AVX2 and AVX-512 kernels without VNNI multiply unsigned activations (0..255) by signed weights and add two
# neighbouring products in 16 bits, saturating (vpmaddubsw): 255 * 129 does not fit, 255 * 128 does. Rounding two
# weights adds up to 1 to their sum, so that 127 before it is safe.
_PAIR_LEVELS = 127
PAIR_LIMIT = 128

# What rounding can leave of a channel's largest weight: half of int8 where two such stand side by side.
_PEAKS = range(63, LEVELS + 1)
# An integer times a scale is rounded to float32 twice: 127 * 2^-23 is 1.5e-5 of a step. A channel that meets this by
# chance is rounded by less than this too.
_ON_GRID = 5e-5


@dataclass(frozen=True)
class Grid:
    """Which integers a node's weights may be: -127 to 127, with a scale for each output channel.

    Args:
        axis: Of the output channels, 0 or more.
        pairs: Whether two neighbours of one sign, in the order of `in_order`, may only add up to `PAIR_LIMIT`.
    """

    axis: int
    pairs: bool


_KNOWN = 512  # layers whose integers are remembered
_known: OrderedDict[bytes, Weights] = OrderedDict()


@dataclass(frozen=True)
class Weights:
    """real = stored * scales along `axis`.

    Args:
        stored: int8, of the float weights' shape.
        scales: float32 [channels].
        axis: Of the output channels.
        bias: int32 [channels], in units of input scale * scales; None without one.
    """

    stored: NDArray[np.int8]
    scales: NDArray[np.float32]
    axis: int
    bias: NDArray[np.int32] | None

    @property
    def real(self) -> NDArray[np.float32]:
        """The weights that the integers stand for, of the float weights' shape."""
        return np.asarray(self.stored * _along(self.scales, self.axis, self.stored.ndim), np.float32)


def quantize_weights(
    weights: Array, axis: int, input_scale: float, bias: Array | None = None, *, pairs: bool = False
) -> Weights:
    """Rounds weights to int8 with a scale for each output channel, and the bias to int32.

    A channel whose weights are multiples of a scale already, as `Weights.real` gives them, keeps that scale: what was
    rounded once, with more care than here, stays as it is.

    Args:
        weights: float32. Convolutions' [out, in, kernel...] with axis 0, matrices' [in, out] or [out, in].
        axis: Of the output channels.
        input_scale: Of the activations that they multiply: the bias is counted in products of both scales.
        bias: float32 [channels].
        pairs: Choose scales at which no two neighbouring products overflow 16 bits, for kernels that add them there.
    """
    axis %= weights.ndim
    # A planner lowers the same layers for dozens of masks, and looking for a grid is most of the work.
    digest = hashlib.sha256(repr((weights.shape, axis, float(input_scale), bias is None, pairs)).encode())
    for array in (weights, bias):
        if array is not None:
            digest.update(np.ascontiguousarray(array, np.float32).data)
    key = digest.digest()
    if key in _known:
        _known.move_to_end(key)
        return _known[key]
    made = _quantized(weights, axis, input_scale, bias, pairs=pairs)
    for array in (made.stored, made.scales, made.bias):
        if array is not None:
            array.flags.writeable = False  # shared by all who ask
    _known[key] = made
    if len(_known) > _KNOWN:
        _known.popitem(last=False)
    return made


def _quantized(weights: Array, axis: int, input_scale: float, bias: Array | None, *, pairs: bool) -> Weights:
    rows = in_order(np.asarray(weights, np.float64), axis)
    usual = channel_scales(rows, pairs=pairs)
    least = np.zeros(len(rows))
    if bias is not None:  # a channel of tiny weights under a large bias, as folded batch norms leave them
        least = np.abs(bias) / (input_scale * _BIAS_LEVELS)
    scales: NDArray[np.float32] = np.maximum(usual, least).astype(np.float32)
    scales = np.where(scales < np.finfo(np.float32).tiny, np.float32(1), np.nextafter(scales, np.float32(np.inf)))
    kept = _grid_scales(rows, least, pairs=pairs)
    scales = np.where(kept > 0, kept, scales)
    stored = np.clip(np.rint(weights / _along(scales, axis, weights.ndim)), -LEVELS, LEVELS).astype(np.int8)
    whole = None
    if bias is not None:
        units = scales.astype(np.float64) * input_scale
        whole = np.rint(bias / units).astype(np.int32)
    return Weights(stored, scales, axis, whole)


def in_order(weights: Array, axis: int) -> Array:
    """Weights as rows [out, products], in the order in which kernels add the products: [out, kernel..., in]."""
    rows = np.moveaxis(weights, axis, 0)
    if rows.ndim > 2:
        rows = np.moveaxis(rows, 1, -1)
    return rows.reshape(len(rows), -1)


def from_order(rows: Array, shape: Sequence[int], axis: int) -> Array:
    """Weights of a shape from their rows: `in_order` backwards."""
    out, *others = np.moveaxis(np.empty(shape, np.bool_), axis, 0).shape
    if len(others) > 1:
        rows = np.moveaxis(rows.reshape(out, *others[1:], others[0]), -1, 1)
    return np.ascontiguousarray(np.moveaxis(rows.reshape(out, *others), 0, axis))


def channel_scales(rows: Array, *, pairs: bool) -> NDArray[np.float64]:
    """The least scale of each row that holds its weights, and its pairs of neighbours too where they are added first.

    Args:
        rows: From `in_order`.
        pairs: As for `quantize_weights`.
    """
    scales = np.abs(rows).max(axis=1, initial=0) / LEVELS
    return np.maximum(scales, pair_sums(rows) / _PAIR_LEVELS) if pairs else np.asarray(scales, np.float64)


def pair_sums(rows: Array) -> NDArray[np.float64]:
    """The largest sum, on either side of 0, of two neighbours of a row; [out]."""
    padded = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).reshape(len(rows), -1, 2)
    ups, downs = np.maximum(padded, 0).sum(axis=2), np.maximum(-padded, 0).sum(axis=2)
    return np.asarray(np.maximum(ups, downs).max(axis=1, initial=0), np.float64)


def _grid_scales(rows: Array, least: Array, *, pairs: bool) -> NDArray[np.float32]:
    """The scale of each row whose weights are multiples of one; 0 where they are not, or a kernel could not take it.

    The largest of the scales at which the row's peak is an integer of `_PEAKS`: all of them give the same weights, and
    smaller integers are the safer ones.
    """
    found = np.zeros(len(rows), np.float32)
    peaks = np.abs(rows).max(axis=1, initial=0)
    open_rows = np.flatnonzero(peaks > np.finfo(np.float32).tiny * LEVELS)
    for peak in _PEAKS:
        if not len(open_rows):
            break
        scales = (peaks[open_rows] / peak).astype(np.float32)
        # A few values tell nearly all rows that are on no grid.
        few = rows[open_rows, :8] / scales[:, None].astype(np.float64)
        near = np.flatnonzero((np.abs(few - np.rint(few)) < _ON_GRID).all(axis=1) & (scales >= least[open_rows]))
        if not len(near):
            continue
        counts = rows[open_rows[near]] / scales[near, None].astype(np.float64)
        whole = np.rint(counts)
        fits = (np.abs(counts - whole) < _ON_GRID).all(axis=1)
        if pairs:
            fits &= pair_sums(whole) <= PAIR_LIMIT
        found[open_rows[near[fits]]] = scales[near[fits]]
        open_rows = np.delete(open_rows, near[fits])
    return found


def _along(scales: NDArray[np.float32], axis: int, rank: int) -> NDArray[np.float32]:
    return scales.reshape([-1 if i == axis else 1 for i in range(rank)])
