"""ONNX Runtime's profile as layers: a pure function of the text that it wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_sdk.backends.base import Layer
from edge_sdk.targets import Precision

# Units that layers name, by execution provider.
_UNITS = {
    "CPUExecutionProvider": "cpu",
    "XnnpackExecutionProvider": "cpu",
    "CUDAExecutionProvider": "gpu",
    "TensorrtExecutionProvider": "gpu",
    "NvTensorRTRTXExecutionProvider": "gpu",
    "QNNExecutionProvider": "htp",
}

# Providers that compile many nodes into one kernel, and do not say in which precision that computes.
_COMPILING = ("QNNExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")

# Operators that compute in integers whatever the type of their first input.
_INTEGER_OPERATORS = (
    "MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat",
    "QLinearConcat",  # whose first input is a scale
)  # fmt: skip

# Operators that compute nothing: they carry values from one type to another.
_CONVERSIONS = ("Cast", "QuantizeLinear", "DequantizeLinear")

_PRECISIONS: dict[str, Precision] = {
    "float": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "uint8": "int8",
    "int8": "int8",
    "uint16": "a16w8",
    "int16": "a16w8",
}


def parse_profile(text: str, units: Mapping[str, str] | None = None) -> list[Layer]:
    """Layers from the chrome-trace JSON that ``end_profiling`` wrote, in the order they first ran.

    Args:
        text: The profile of two runs or more; a node's first time is warm-up and left out, the layer has the median
            of the others. A node that ran once has that time.
        units: Units by execution provider, where they are others than usual.

    Returns:
        One layer a kernel. ``precision`` is that of the operator, or of its first input: None where that is no
        arithmetic type (shapes, masks), for conversions between types, and for kernels that a provider compiled from
        many nodes.
    """
    named = {**_UNITS, **(units or {})}
    times: dict[str, list[float]] = {}
    about: dict[str, tuple[str, Precision | None]] = {}
    for event in json.loads(text):
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        node = event["name"].removesuffix("_kernel_time")
        times.setdefault(node, []).append(event["dur"] / 1000)
        arguments = event.get("args", {})
        if node not in about:
            provider = arguments.get("provider", "CPUExecutionProvider")
            about[node] = (named.get(provider, provider), _precision(arguments))
    return [Layer((node,), *about[node], float(np.median(taken[1:] or taken))) for node, taken in times.items()]


def _precision(arguments: Mapping[str, Any]) -> Precision | None:
    """The precision a kernel computed in, from its operator and the types it was given."""
    if arguments.get("provider") in _COMPILING or arguments.get("op_name") in _CONVERSIONS:
        return None
    types = [next(iter(entry)) for entry in arguments.get("input_type_shape", []) if entry]
    if arguments.get("op_name") in _INTEGER_OPERATORS:
        return "int8"
    return _PRECISIONS.get(types[0]) if types else None
