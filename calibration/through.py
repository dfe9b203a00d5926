"""The range of a tensor that an activation reads, by the error of what the activation makes of it.

What SiLU or hard-swish reads is often as far below zero as above, and nearly all of what is below becomes almost
nothing. A range that is chosen by the tensor's own error spends half of its levels there; one that is chosen by the
error behind the activation cuts them off, and the steps of what is left are half as wide. The engine pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sdk.calibration.engines.onnxruntime_rules import gate_of
from edge_sdk.calibration.graph import Graph, attribute
from edge_sdk.calibration.histogram import Histogram
from edge_sdk.calibration.range_methods import Scheme, search

Floats = NDArray[np.float64]
Activation = Callable[[Floats], Floats]

_BINS = 2048  # of the histogram, at most: steps between levels are wider
_FAR = 60.0  # beyond it e**x is as good as 0 or infinite, and does not overflow


def activations(graph: Graph) -> dict[str, Activation]:
    """Tensors that a SiLU or hard-swish alone reads, and that function."""
    found: dict[str, Activation] = {}
    for node in graph.nodes:
        gate = gate_of(graph, node)
        if gate is None:
            continue
        tensor = gate.input[0]
        if {reader.name for reader in graph.consumers(tensor)} != {gate.name, node.name} or tensor in graph.outputs:
            continue
        if gate.op_type == "Sigmoid":
            found[tensor] = _silu
        else:
            found[tensor] = _hard_swish(float(attribute(gate, "alpha", 0.2)), float(attribute(gate, "beta", 0.5)))
    return found


class ErrorThrough:
    """Expected squared error behind an activation, for any range of what it reads, out of that tensor's histogram.

    Each bin counts as its middle; at most 2048 bins, of which many lie between two levels.

    Args:
        histogram: Of the tensor.
        scheme: Of the target.
        activation: What reads it.
    """

    def __init__(self, histogram: Histogram, scheme: Scheme, activation: Activation) -> None:
        coarse = histogram.coarser(max(0, (len(histogram.counts) - 1).bit_length() - _BINS.bit_length() + 1))
        edges = np.clip(coarse.edges, histogram.low, histogram.high)
        counts = coarse.spread
        filled = counts > 0
        self._values = ((edges[:-1] + edges[1:]) / 2)[filled]
        self._weights = (counts[filled] / max(1, histogram.total)).astype(np.float64)
        self._wanted = activation(self._values)
        self._scheme, self._activation = scheme, activation

    def __call__(self, low: ArrayLike, high: ArrayLike) -> Floats:
        """Mean squared error for each range, float64 [k], in the squared units of what the activation makes.

        Args:
            low, high: float [k].
        """
        scale, zero = self._scheme.grid(low, high)
        errors = np.empty(len(scale), np.float64)
        for place, (step, shift) in enumerate(zip(scale, zero, strict=True)):
            stored = np.clip(np.rint(self._values / step) + shift, self._scheme.lowest, self._scheme.highest)
            lost = self._activation((stored - shift) * step) - self._wanted
            errors[place] = np.einsum("i,i->", self._weights, lost * lost)
        return errors

    def best(self, histogram: Histogram) -> tuple[float, float]:
        """The range of least error."""
        return search(self, self, min(0.0, histogram.low), max(0.0, histogram.high))


def _silu(values: Floats) -> Floats:
    made: Floats = values / (1 + np.exp(-np.clip(values, -_FAR, _FAR)))
    return made


def _hard_swish(alpha: float, beta: float) -> Activation:
    def function(values: Floats) -> Floats:
        made: Floats = values * np.clip(alpha * values + beta, 0, 1)
        return made

    return function


Through = Mapping[str, Activation]
