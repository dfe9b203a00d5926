"""Ranges of weights: symmetric int8 with a scale for each output channel, by peak or clipped for the least error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.fake_quant import weight_axes
from edge_sdk.errors import ModelError, UsageError, one_line

if TYPE_CHECKING:
    import onnx

WeightMethod = Literal["minmax", "mse"]

LEVELS = 127  # -127 to 127: symmetric int8, as ONNX Runtime and TensorRT have weights

# Of the peak. The best threshold of a Gaussian at 8 bits is 3.92 sigma (R. Banner et al., ACIQ, 2018), which the peak
# of some thousand weights hardly exceeds: for almost all channels of trained detectors nothing is better than the peak.
_FACTORS = np.linspace(1.0, 0.4, 31)


@dataclass(frozen=True, eq=False)
class WeightRanges:
    """The ranges of one weight tensor, -limit to limit for each channel, and the error that they make.

    Args:
        method: How the limits were chosen.
        limits: float32 [channels].
        errors: float64 [channels], mean squared error of the rounded weights.
        powers: float64 [channels], mean of the squared weights.
    """

    method: WeightMethod
    limits: NDArray[np.float32]
    errors: NDArray[np.float64]
    powers: NDArray[np.float64]

    @property
    def scales(self) -> NDArray[np.float32]:
        """float32 [channels]; 1 for a channel that is all zero."""
        return _scales(self.limits)

    @property
    def snr_db(self) -> float:
        """Of the whole tensor, in dB; infinite where there is no error."""
        error, power = float(self.errors.sum()), float(self.powers.sum())
        if error <= 0:
            return math.inf
        return 10 * math.log10(power / error)


def weight_ranges(weights: NDArray[np.float32], axis: int | None, method: WeightMethod = "minmax") -> WeightRanges:
    """Chooses the limits of a weight tensor.

    Args:
        weights: Floating point, of any shape, finite.
        axis: Of the output channels; None for one range for all.
        method: "minmax" takes each channel's peak; "mse" the threshold between 0.4 and 1 of it (in steps of 0.02) whose
            rounded weights are closest to the true ones, measured on the weights themselves.

    Raises:
        UsageError: There is no such method or axis, or a weight is not finite.
    """
    if method not in ("minmax", "mse"):
        raise UsageError(f"there is no weight range method {method!r}; there are minmax, mse")
    if not np.isfinite(weights).all():
        raise UsageError("a weight is not finite")
    if axis is not None and not -weights.ndim <= axis < weights.ndim:
        raise UsageError(f"weights of shape {list(weights.shape)} have no axis {axis}")
    channels = 1 if axis is None else weights.shape[axis]
    if not weights.size:
        zeros = np.zeros(channels)
        return WeightRanges(method, zeros.astype(np.float32), zeros, zeros)
    rows = (weights if axis is None else np.moveaxis(weights, axis, 0)).reshape(channels, -1).astype(np.float32)
    peaks = np.abs(rows).max(axis=1)
    limits, errors = peaks, _errors(rows, peaks)
    for factor in _FACTORS[1:] if method == "mse" else ():
        clipped = (peaks * np.float32(factor)).astype(np.float32)
        error = _errors(rows, clipped)
        better = error < errors
        limits, errors = np.where(better, clipped, limits), np.where(better, error, errors)
    return WeightRanges(method, limits, errors, np.square(rows, dtype=np.float64).mean(axis=1))


def weights_of(model: onnx.ModelProto) -> Mapping[str, Mapping[WeightMethod, WeightRanges]]:
    """The ranges of every weight of a Conv, ConvTranspose, MatMul or Gemm that is an initializer, by each method.

    Args:
        model: The float model, with its weights in it.

    Raises:
        ModelError: A weight is damaged, lies in another file or is not finite; the message names it.
    """
    from onnx import TensorProto, numpy_helper

    axes = weight_axes(model.graph.node)
    found: dict[str, Mapping[WeightMethod, WeightRanges]] = {}
    for initializer in model.graph.initializer:
        name = initializer.name
        if name not in axes or initializer.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            continue
        if initializer.data_location == TensorProto.EXTERNAL:
            raise ModelError(f"initializer {name!r} lies in another file: load its data first")
        try:
            weights = numpy_helper.to_array(initializer)
            axis = axes[name] if weights.ndim > 1 else None
            found[name] = {method: weight_ranges(weights, axis, method) for method in ("minmax", "mse")}
        except (ValueError, TypeError) as error:
            raise ModelError(f"initializer {name!r}: {one_line(error)}") from error
    return found


def _scales(limits: NDArray[np.float32]) -> NDArray[np.float32]:
    scales: NDArray[np.float32] = (limits / np.float32(LEVELS)).astype(np.float32)
    return np.asarray(np.where(scales < np.finfo(np.float32).tiny, 1, scales), np.float32)


def _errors(rows: NDArray[np.float32], limits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean squared error of each row, rounded within its limit."""
    scales = _scales(limits)[:, None]
    rounded = rows / scales
    np.rint(rounded, out=rounded)
    np.clip(rounded, -LEVELS, LEVELS, out=rounded)
    rounded *= scales
    rounded -= rows
    return np.asarray(np.square(rounded, dtype=np.float64).mean(axis=1), np.float64)
