"""Quantization noise in a float graph: tensors that go through INT8 and back, weights rounded to INT8 in place.

The numbers are those of ONNX Runtime's CPU kernels (U8S8): uint8 activations with one scale, int8 weights with a scale
for each output channel and no zero point, int32 biases whose scale is the product of the two, rounding half to even.
A kernel accumulates in whole numbers and this graph in floats, so single values may fall on the other side of a
rounding edge. On x86 machines without VNNI the kernels add pairs of products in 16 bits, which saturates where weights
use all of int8 (onnxruntime.ai, "Quantize ONNX Models", on U8S8 and reduce_range); that is not modelled: there weights
must stay within `REDUCED_LEVELS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ModelError, UsageError

if TYPE_CHECKING:
    import onnx

_LEVELS = 255
# Weights are -127 to 127, symmetric, as ONNX Runtime's quantizer has it; or 7 bits of that, whose products do not
# saturate: 2 * 255 * 64 < 2 ** 15.
WEIGHT_LEVELS = 127
REDUCED_LEVELS = 64
_OPSET = 10  # the first with QuantizeLinear

# Operators with weights in their second input: the axis of the output channels.
_WEIGHT_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": -1}


@dataclass(frozen=True)
class Quantizer:
    """real = (stored - zero_point) * scale, stored 0..255."""

    scale: float
    zero_point: int


def activation_quantizer(low: float, high: float) -> Quantizer:
    """The quantizer of a range, widened to hold 0, which padding and ReLU need exactly.

    As ONNX Runtime's quantizer computes it (``onnxruntime.quantization.quant_utils.compute_scale_zp``), in float32.

    Raises:
        UsageError: Not finite, or `low` above `high`.
    """
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise UsageError(f"{low} to {high} is no range")
    bottom, top = min(np.float32(low), np.float32(0)), max(np.float32(high), np.float32(0))
    with np.errstate(over="ignore"):
        scale = np.float32((top - bottom) / np.float32(_LEVELS))
    if scale < np.finfo(np.float32).tiny:  # a tensor that is always 0
        return Quantizer(1.0, 0)
    if not np.isfinite(scale):
        raise UsageError(f"{low} to {high} is too wide for float32")
    return Quantizer(float(scale), int(np.clip(np.round(-bottom / scale), 0, _LEVELS)))


def weight_scales(weights: NDArray[np.float32], axis: int | None, levels: int = WEIGHT_LEVELS) -> NDArray[np.float32]:
    """The scale of each output channel, shaped to divide `weights`; of the whole array where `axis` is None."""
    others = None if axis is None else tuple(i for i in range(weights.ndim) if i != axis % weights.ndim)
    peak = np.abs(weights).max(axis=others, keepdims=True) if weights.size else np.ones((1,) * weights.ndim)
    scales: NDArray[np.float32] = np.asarray(peak / levels, np.float32)
    scales[scales < np.finfo(np.float32).tiny] = 1
    return scales


def fake_quantized_weights(
    weights: NDArray[np.float32], axis: int | None, levels: int = WEIGHT_LEVELS
) -> NDArray[np.float32]:
    """Weights rounded to int8 and back.

    Args:
        weights: float32, of any shape.
        axis: Of the output channels, each of which has its own scale; None for one scale.
        levels: On each side of 0: `WEIGHT_LEVELS` or `REDUCED_LEVELS`.
    """
    scales = weight_scales(weights, axis, levels)
    stored = np.clip(np.rint(weights / scales), -levels, levels)
    return np.asarray(stored * scales, np.float32)


def fake_quantized_bias(bias: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """A bias rounded to int32 and back.

    Args:
        bias: float32 [channels].
        scales: Input scale times weight scale, float32 [channels] or [1].
    """
    limits = np.iinfo(np.int32)
    wide = scales.astype(np.float64)
    return (np.clip(np.rint(bias / wide), limits.min, limits.max) * wide).astype(np.float32)


def weight_axis(node: onnx.NodeProto) -> int | None:
    """The axis of the output channels in a node's second input; None where it has one scale for all."""
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return _WEIGHT_AXIS.get(node.op_type)


def weight_axes(nodes: Iterable[onnx.NodeProto]) -> dict[str, int | None]:
    """The axis of each tensor that some node takes for its weights."""
    return {node.input[1]: weight_axis(node) for node in nodes if node.op_type in _WEIGHT_AXIS and len(node.input) > 1}


def check_model(model: onnx.ModelProto) -> None:
    """Whether nodes can be given quantization noise at all.

    Raises:
        ModelError: An opset without QuantizeLinear, a tensor of unknown origin, cycles, or weights left on disk.
    """
    opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if opset < _OPSET:
        raise ModelError(f"opset {opset} has no QuantizeLinear: raise the model to {_OPSET} or later first")
    known = {value.name for value in model.graph.input} | {value.name for value in model.graph.initializer} | {""}
    if model.graph.sparse_initializer:
        raise ModelError("sparse initializers cannot be quantized: make them dense first")
    for value in model.graph.initializer:
        if value.data_location == 1:  # EXTERNAL
            raise ModelError(f"initializer {value.name!r} lies in another file: load its data first")
    for node in model.graph.node:
        for name in used(node):
            if name not in known:
                raise ModelError(
                    f"node {node.name or node.op_type!r} reads {name!r}, which no node before it makes: "
                    "the graph is not in order, has a cycle, or lacks an initializer"
                )
        for name in node.output:
            if name in known and name:
                raise ModelError(f"tensor {name!r} is made twice")
            known.add(name)
    for value in model.graph.output:
        if value.name not in known:
            raise ModelError(f"output {value.name!r} is made by no node")


def used(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the tensors that a node reads, with those that its subgraphs take from outside."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.type == 5 else attribute.graphs if attribute.type == 10 else []:
            inside = {value.name for value in graph.input} | {value.name for value in graph.initializer}
            for inner in graph.node:
                yield from (name for name in used(inner) if name not in inside)
                inside.update(inner.output)


def fake_quantized(
    nodes: Iterable[onnx.NodeProto],
    quantizers: Mapping[str, Quantizer],
    inputs: Iterable[str] = (),
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes whose consumers of some tensors see them quantized.

    Each of these is written under another name, goes through QuantizeLinear and DequantizeLinear and comes out under
    its own, so that consumers and graph outputs need no change.

    Args:
        nodes: In topological order; not changed.
        quantizers: By tensor.
        inputs: Of the graph: those with a quantizer keep their name, and the nodes read the other.

    Returns:
        The nodes, and the initializers to add.
    """
    import onnx
    from onnx import helper, numpy_helper

    made: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def pair(source: str, target: str, quantizer: Quantizer) -> None:
        scale, zero = f"{target}/scale", f"{target}/zero_point"
        constants.append(numpy_helper.from_array(np.float32(quantizer.scale).reshape(()), scale))
        constants.append(numpy_helper.from_array(np.uint8(quantizer.zero_point).reshape(()), zero))
        made.append(helper.make_node("QuantizeLinear", [source, scale, zero], [f"{target}/stored"]))
        made.append(helper.make_node("DequantizeLinear", [f"{target}/stored", scale, zero], [target]))

    renamed: dict[str, str] = {}
    for name in inputs:
        if name in quantizers:
            renamed[name] = f"{name}/quantized"
            pair(name, renamed[name], quantizers[name])
    for node in nodes:
        changed = onnx.NodeProto()
        changed.CopyFrom(node)
        _rename(changed, renamed)
        wanted = [name for name in node.output if name in quantizers]
        for index, name in enumerate(node.output):
            if name in quantizers:
                changed.output[index] = f"{name}/float"
        made.append(changed)
        for name in wanted:
            pair(f"{name}/float", name, quantizers[name])
    return made, constants


def _rename(node: onnx.NodeProto, renamed: Mapping[str, str]) -> None:
    if not renamed:
        return
    for index, name in enumerate(node.input):
        node.input[index] = renamed.get(name, name)
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.type == 5 else attribute.graphs if attribute.type == 10 else []:
            for inner in graph.node:
                _rename(inner, renamed)


def rounded_weights(
    nodes: Iterable[onnx.NodeProto],
    arrays: Mapping[str, NDArray[Any]],
    weights: Mapping[str, NDArray[np.float32]],
    quantizers: Mapping[str, Quantizer],
    levels: int = WEIGHT_LEVELS,
    biases: Mapping[str, NDArray[np.float32]] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """The rounded weights and the biases that go with them, which are rounded where a node's input is quantized too.

    Args:
        nodes: Of a graph.
        arrays: All its initializers.
        weights: Those that are on, rounded already.
        quantizers: Of the activations that are on.
        levels: Of the weights, from which their scales follow.
        biases: Corrected ones, that belong to rounded weights, by initializer.
    """
    changed = dict(weights)
    corrected = {name: array for name, array in (biases or {}).items() if name in arrays}
    for node in nodes:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or len(node.input) < 3:
            continue
        data, weight, bias = node.input[:3]
        if weight not in weights or bias not in arrays or bias in weights:
            continue
        values = corrected.get(bias, arrays[bias])
        if bias in corrected:
            changed[bias] = values
        if data not in quantizers:
            continue
        # ConvTranspose with groups has channels on two axes: its kernels take one scale then.
        scales = weight_scales(arrays[weight], weight_axis(node), levels).reshape(-1) * np.float32(
            quantizers[data].scale
        )
        if values.dtype == np.float32 and scales.size in (1, values.size):
            changed[bias] = fake_quantized_bias(values, scales)
    return changed
