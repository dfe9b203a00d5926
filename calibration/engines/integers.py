"""Weights and biases as the integers that an INT8 kernel takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_WEIGHT_LEVELS = 127  # -127 to 127: symmetric, no zero point
_BIAS_LEVELS = float(1 << 30)  # half of int32: the sum of products needs the rest

# The AVX2 and AVX-512 kernels without VNNI multiply unsigned activations (0..255) by signed weights and add two
# neighbouring products in 16 bits, saturating (vpmaddubsw): 255 * 129 does not fit, 255 * 128 does. Rounding two
# weights adds up to 1 to their sum, so that 127 before it is safe.
_PAIR_LEVELS = 127


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


def quantize_weights(
    weights: Array, axis: int, input_scale: float, bias: Array | None = None, *, pairs: bool = False
) -> Weights:
    """Rounds weights to int8 with a scale for each output channel, and the bias to int32.

    Args:
        weights: float32. Convolutions' [out, in, kernel...] with axis 0, matrices' [in, out] or [out, in].
        axis: Of the output channels.
        input_scale: Of the activations that they multiply: the bias is counted in products of both scales.
        bias: float32 [channels].
        pairs: Choose scales at which no two neighbouring products overflow 16 bits, for kernels that add them there.
    """
    rows = np.moveaxis(weights, axis, 0)
    if rows.ndim > 2:  # [out, in, kernel...] to [out, kernel..., in]: the order in which kernels add products
        rows = np.moveaxis(rows, 1, -1)
    rows = np.asarray(rows, np.float64).reshape(len(rows), -1)
    scales = np.abs(rows).max(axis=1, initial=0) / _WEIGHT_LEVELS
    if pairs:
        padded = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).reshape(len(rows), -1, 2)
        ups, downs = np.maximum(padded, 0).sum(axis=2), np.maximum(-padded, 0).sum(axis=2)
        scales = np.maximum(scales, np.maximum(ups, downs).max(axis=1, initial=0) / _PAIR_LEVELS)
    if bias is not None:  # a channel of tiny weights under a large bias, as folded batch norms leave them
        scales = np.maximum(scales, np.abs(bias) / (input_scale * _BIAS_LEVELS))
    scales = scales.astype(np.float32)
    scales = np.where(scales < np.finfo(np.float32).tiny, np.float32(1), np.nextafter(scales, np.float32(np.inf)))
    along = scales.reshape([-1 if i == axis % weights.ndim else 1 for i in range(weights.ndim)])
    stored = np.clip(np.rint(weights / along), -_WEIGHT_LEVELS, _WEIGHT_LEVELS).astype(np.int8)
    whole = None
    if bias is not None:
        units = scales.astype(np.float64) * input_scale
        whole = np.rint(bias / units).astype(np.int32)
    return Weights(stored, scales, axis, whole)
