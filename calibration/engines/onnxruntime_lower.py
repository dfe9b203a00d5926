"""A plan as a Q/DQ model for ONNX Runtime's CPU engine.

INT8 is written as the standard has it: a tensor is rounded by QuantizeLinear and read through DequantizeLinear, weights
are stored as integers behind a DequantizeLinear, and the operators between stay float operators, which the engine
replaces by its 8-bit kernels. What stays in float keeps its tensors' names, and is read and fused as before.

Two things that ONNX Runtime 1.31.1 does unasked are kept from it, both by giving a Q or DQ a scale for each channel,
all of them the same: it rounds the weights of a float convolution that stands between DQ and Q, and it moves a Q before
a float MaxPool.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.engines.base import WEIGHTED
from edge_sdk.calibration.engines.integers import Array, Grid, Weights, quantize_weights
from edge_sdk.calibration.engines.onnxruntime_rules import (
    CLIPPING,
    MOVERS,
    OnnxRuntimeRules,
    absorbed_by,
    data_inputs,
    integer_anyway,
    rounded_alone,
)
from edge_sdk.calibration.fake_quant import Quantizer, activation_quantizer, weight_axis
from edge_sdk.calibration.graph import Graph, attribute, reads
from edge_sdk.calibration.groups import make_groups, violations
from edge_sdk.errors import ModelError, PlanError
from edge_sdk.plan import Plan

if TYPE_CHECKING:
    import onnx

Cpu = Literal["x86", "x86-vnni", "arm"]
"""x86: any, its weights scaled so that 16-bit sums hold; x86-vnni: sums in 32 bits; arm: signed activations."""

PLAN_KEY = "edge_sdk.plan_sha256"
"""Of the model's metadata."""

_OPSET = 13  # the first with a scale for each channel
_LEVELS = 255
_ROUNDED_BY_ENGINE = ("Conv", "ConvTranspose", "Gemm")


def lower(
    model: onnx.ModelProto,
    plan: Plan,
    *,
    cpu: Cpu,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> onnx.ModelProto:
    """Writes the Q/DQ model of a plan; see `edge_sdk.calibration.engines.base.Engine.lower`.

    Args:
        model: The prepared model, of opset 13 or later.
        plan: Groups in int8 or fp32.
        cpu: Decides the types: uint8 activations on x86, int8 on Arm; int8 weights on both.
        ranges: Instead of the plan's own.

    Raises:
        PlanError: The plan is not one for this model and engine, or lacks a range.
        ModelError: The model is not canonical, or its opset is too old.
    """
    graph = Graph(model)
    if graph.opset < _OPSET:
        raise ModelError(f"opset {graph.opset} has no scale for each channel: raise the model to {_OPSET} or later")
    wrong = violations(plan, make_groups(graph, OnnxRuntimeRules()))
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise PlanError(f"{'; '.join(wrong[:3])}{more}")
    integer = {node for choice in plan.choices for node in choice.nodes if choice.precision == "int8"}
    forced = integer_anyway(graph, integer)
    if forced:
        raise PlanError(f"{', '.join(forced)}: the engine runs it in int8 where all around it does; choose int8 for it")
    return _Writer(graph, integer, plan.ranges if ranges is None else ranges, cpu).write(plan.sha256)


def ranged_tensors(graph: Graph, integer: Set[str]) -> tuple[str, ...]:
    """Tensors whose ranges a plan needs when these nodes run in INT8, in the order of the graph.

    Args:
        graph: Of the prepared model.
        integer: Names of nodes.
    """
    found: dict[str, None] = {}
    absorbing = {maker.name for name in integer if (maker := absorbed_by(graph, graph.node(name))) is not None}
    for node in graph.nodes:
        if node.name not in integer:
            continue
        for tensor in data_inputs(node):
            maker = graph.producer(tensor)
            if not graph.is_constant(tensor) and (maker is None or maker.name not in integer):
                found[tensor] = None
        if node.op_type not in (*MOVERS, "HardSigmoid") and node.name not in absorbing:
            found.update(dict.fromkeys(node.output))
    return tuple(found)


def grid(graph: Graph, node: onnx.NodeProto, *, cpu: Cpu) -> Grid:
    """Which integers a node's weights may be; see `edge_sdk.calibration.engines.base.Engine.grid`."""
    shape, axis = graph.shapes[node.input[1]], weight_axis(node)
    assert axis is not None  # noqa: S101  asked of nodes with weights alone
    depthwise = node.op_type == "Conv" and shape[1] == 1 and attribute(node, "group", 1) == shape[0]
    return Grid(axis % len(shape), cpu == "x86" and not depthwise)  # depthwise kernels add in 32 bits everywhere


def rounded(
    graph: Graph, nodes: Set[str], ranges: Mapping[str, tuple[float, float]], *, cpu: Cpu
) -> dict[str, NDArray[np.float32]]:
    """Weights as their integers stand for them; see `edge_sdk.calibration.engines.base.Engine.rounded`."""
    writer = _Writer(graph, set(nodes), ranges, cpu)
    found: dict[str, NDArray[np.float32]] = {}
    for node in graph.nodes:
        if node.name in nodes and node.op_type in WEIGHTED and node.input[1] not in found:
            found[node.input[1]] = writer.whole(node).real
    return found


class _Writer:
    """Writes one model: nodes in order, and what they read in 8 bits."""

    def __init__(self, graph: Graph, integer: set[str], ranges: Mapping[str, tuple[float, float]], cpu: Cpu) -> None:
        self._graph = graph
        self._integer = integer
        self._ranges = ranges
        self._cpu = cpu
        self._type = np.int8 if cpu == "arm" else np.uint8
        self._shift = 128 if cpu == "arm" else 0
        self._absorbers = {  # by the name of the operator whose Q does the activation
            maker.name: name
            for name in integer
            if (maker := absorbed_by(graph, graph.node(name))) is not None and maker.name in integer
        }
        self._absorbed = set(self._absorbers.values())
        self._encodings: dict[str, Quantizer] = {}
        self._names = {name for node in graph.nodes for name in (node.name, *node.output)}
        self._names.update(graph.inputs, graph.initializers)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._scales: dict[tuple[Quantizer, int | None], tuple[str, str]] = {}
        self._read_as: dict[str, str] = {}  # float tensors and constants, as 8-bit operators read them
        self._stored_as: dict[str, str] = {}  # what 8-bit operators make, between Q and DQ

    def write(self, plan_sha256: str) -> onnx.ModelProto:
        import onnx

        for node in self._graph.nodes:
            if node.name in self._integer:
                self._in_8_bits(node)
            elif self._would_be_quantized(node):
                self._copy(node, [self._guarded(node), *node.input[1:]], list(node.output))
            else:
                self._nodes.append(node)
        given = self._graph.model
        made = onnx.ModelProto()
        made.CopyFrom(given)
        del made.graph.node[:], made.graph.initializer[:]
        made.graph.node.extend(self._nodes)
        still = {name for node in self._nodes for name in reads(node)}
        before = {name for node in given.graph.node for name in reads(node)}
        made.graph.initializer.extend(
            one for one in given.graph.initializer if one.name in still or one.name not in before
        )
        made.graph.initializer.extend(self._constants)
        raw = {name for node in self._nodes for name in node.output}
        kept = [value for value in given.graph.value_info if value.name in raw]
        del made.graph.value_info[:]
        made.graph.value_info.extend(kept)
        metadata = {entry.key: entry.value for entry in given.metadata_props} | {PLAN_KEY: plan_sha256}
        onnx.helper.set_model_props(made, metadata)
        return made

    def _in_8_bits(self, node: onnx.NodeProto) -> None:
        inputs = list(node.input)
        if node.name not in self._absorbed:
            data = data_inputs(node)
            inputs = [self._eight_bits(name) if name in data else name for name in node.input]
        if node.op_type in WEIGHTED:
            inputs[1:] = self._weights(node)
        if node.op_type == "HardSigmoid":
            self._hard_sigmoid(node, inputs[0])
            return
        outputs = list(node.output)
        if node.name not in self._absorbers:
            outputs = [self._new(f"{name}/real") if name else "" for name in node.output]
        self._copy(node, inputs, outputs)
        for real, name in zip(outputs, node.output, strict=True):
            if real != name:
                encoding = self._encoding(name)
                self._round(real, name, encoding, encoding)

    def _would_be_quantized(self, node: onnx.NodeProto) -> bool:
        """Whether the engine would round a float node's weights by itself, with one scale for all.

        It does so to a convolution or Gemm between DQ and Q, Relu and Clip before the Q allowed
        (``weight_bias_quantization.cc``, seen on 1.31.1).
        """
        maker = self._graph.producer(node.input[0]) if node.op_type in _ROUNDED_BY_ENGINE else None
        if maker is None or maker.name not in self._integer:
            return False
        return rounded_alone(self._graph, node.output[0], self._integer, (*MOVERS, *CLIPPING))

    def _guarded(self, node: onnx.NodeProto) -> str:
        """An input under a DequantizeLinear with a scale for each channel, all the same: the engine passes it by."""
        tensor = node.input[0]
        weights = self._graph.shapes[node.input[1]]
        if node.op_type == "Gemm":
            channels = weights[1] if attribute(node, "transB", 0) else weights[0]
        else:
            channels = weights[1] * attribute(node, "group", 1) if node.op_type == "Conv" else weights[0]
        read = self._new(f"{tensor}/float")
        values = [self._stored_as[tensor], *self._scale(self._encoding(tensor), channels)]
        self._add("DequantizeLinear", values, [read], f"{read}/DequantizeLinear", 1)
        return read

    def _hard_sigmoid(self, node: onnx.NodeProto, source: str) -> None:
        """clip(alpha * x + beta, 0, 1), for which there is no 8-bit kernel, as an Add that saturates.

        x + beta / alpha, rounded to the range 0..1 / alpha, is alpha times too small a scale away from it: its integers
        are those of the HardSigmoid at the scale 1 / 255.
        """
        alpha, beta = (float(attribute(node, name, value)) for name, value in (("alpha", 0.2), ("beta", 0.5)))
        shift = self._constant(f"{node.name}/shift", np.asarray(beta / alpha, np.float32))
        real = self._new(f"{node.output[0]}/real")
        self._add("Add", [source, shift], [real], node.name)
        self._round(real, node.output[0], Quantizer(1 / alpha / _LEVELS, 0), self._encoding(node.output[0]))

    def _weights(self, node: onnx.NodeProto) -> list[str]:
        """What a node with weights reads beside its activations."""
        whole = self.whole(node)
        read = [self._stored(node.input[1], node, whole.stored, whole.scales, whole.axis)]
        if whole.bias is not None:
            units = (whole.scales * np.float32(self._encoding(node.input[0]).scale)).astype(np.float32)
            read.append(self._stored(node.input[2], node, whole.bias, units, 0))
        return read

    def whole(self, node: onnx.NodeProto) -> Weights:
        """A node's weights and bias as integers."""
        weights = self._graph.constant(node.input[1])
        assert weights is not None  # noqa: S101  refused by the rules
        own = grid(self._graph, node, cpu=self._cpu)
        bias = self._graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if bias is not None:
            bias = np.broadcast_to(bias.reshape(-1), (weights.shape[own.axis],))
        return quantize_weights(weights, own.axis, self._encoding(node.input[0]).scale, bias, pairs=own.pairs)

    def _stored(self, name: str, node: onnx.NodeProto, stored: Array, scales: Array, axis: int) -> str:
        """A constant kept as integers, each node's its own: the scale of a bias depends on what the node reads."""
        base = f"{node.name}/{name}"
        read = self._new(f"{base}/int8" if stored.dtype != np.int32 else f"{base}/int32")
        values = [
            self._keep(f"{read}/stored", stored),
            self._keep(f"{read}/scale", scales),
            self._keep(f"{read}/zero_point", np.zeros(scales.shape, stored.dtype)),
        ]
        self._add("DequantizeLinear", values, [read], f"{read}/DequantizeLinear", axis)
        return read

    def _eight_bits(self, tensor: str) -> str:
        """The name under which an 8-bit operator reads a tensor."""
        maker = self._graph.producer(tensor)
        if maker is not None and maker.name in self._integer:
            return tensor
        if tensor not in self._read_as:
            constant = self._graph.constant(tensor)
            if constant is not None:
                self._read_as[tensor] = self._constant(tensor, constant)
            else:
                self._read_as[tensor] = self._new(f"{tensor}/int8")
                encoding = self._encoding(tensor)
                # The engine moves a Q before a float MaxPool, which is then computed on 8 bits without its fast layout:
                # 5.0 ms against 1.3 for a stem. A Q with a scale for each channel, all the same, stays where it is.
                pooled = maker is not None and maker.op_type == "MaxPool"
                channels = (*self._graph.shapes.get(tensor, ()), -1, -1)[1] if pooled else -1
                self._round(tensor, self._read_as[tensor], encoding, encoding, None if channels < 1 else channels)
        return self._read_as[tensor]

    def _constant(self, name: str, values: Array) -> str:
        """A constant operand of an 8-bit addition or product, rounded in its own range."""
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        encoding = activation_quantizer(low, high)
        stored = np.clip(np.rint(values / np.float32(encoding.scale)) + encoding.zero_point, 0, _LEVELS) - self._shift
        read = self._new(f"{name}/int8")
        kept = self._keep(f"{read}/stored", stored.astype(self._type))
        self._add("DequantizeLinear", [kept, *self._scale(encoding)], [read], f"{read}/DequantizeLinear")
        return read

    def _encoding(self, tensor: str) -> Quantizer:
        """Scale and zero point of a tensor, the latter as of uint8."""
        if tensor not in self._encodings:
            maker = self._graph.producer(tensor)
            integer = maker is not None and maker.name in self._integer
            if integer and maker is not None and maker.op_type in MOVERS:
                self._encodings[tensor] = self._encoding(maker.input[0])
            elif integer and maker is not None and maker.op_type == "HardSigmoid":
                self._encodings[tensor] = Quantizer(1 / _LEVELS, 0)
            else:
                self._encodings[tensor] = activation_quantizer(*self._range(tensor, maker if integer else None))
        return self._encodings[tensor]

    def _range(self, tensor: str, maker: onnx.NodeProto | None) -> tuple[float, float]:
        low, high = self._ranges.get(tensor, (0.0, 1.0) if maker is not None and maker.op_type == "Sigmoid" else (1, 0))
        if low > high:
            raise PlanError(f"the plan has no range for the tensor {tensor!r}, which it quantizes")
        if maker is not None and maker.op_type in CLIPPING:
            limit = self._graph.scalar(maker.input[2]) if len(maker.input) > 2 else None
            low, high = max(low, 0.0), max(high if limit is None else min(high, limit), 0.0)
        return low, high

    def _round(
        self, source: str, target: str, rounded: Quantizer, read: Quantizer, channels: int | None = None
    ) -> None:
        """QuantizeLinear, with a scale for each of so many channels or one for all, and DequantizeLinear."""
        stored = self._stored_as[target] = self._new(f"{target}/stored")
        axis = None if channels is None else 1
        self._add(
            "QuantizeLinear", [source, *self._scale(rounded, channels)], [stored], f"{target}/QuantizeLinear", axis
        )
        self._add("DequantizeLinear", [stored, *self._scale(read)], [target], f"{target}/DequantizeLinear")

    def _scale(self, encoding: Quantizer, channels: int | None = None) -> tuple[str, str]:
        """Constants of an encoding, for so many channels or one for all; one pair for all that have it."""
        if (encoding, channels) not in self._scales:
            base = f"encoding_{len(self._scales)}"
            shape = () if channels is None else (channels,)
            self._scales[encoding, channels] = (
                self._keep(f"{base}/scale", np.full(shape, encoding.scale, np.float32)),
                self._keep(f"{base}/zero_point", np.full(shape, encoding.zero_point - self._shift, self._type)),
            )
        return self._scales[encoding, channels]

    def _keep(self, name: str, values: Array) -> str:
        from onnx import numpy_helper

        name = self._new(name)
        self._constants.append(numpy_helper.from_array(values, name))
        return name

    def _add(self, kind: str, inputs: list[str], outputs: list[str], name: str, axis: int | None = None) -> None:
        from onnx import helper

        name = name if name in self._integer else self._new(name)
        made = helper.make_node(kind, inputs, outputs, name=name)
        if axis is not None:
            made.attribute.append(helper.make_attribute("axis", axis))
        self._nodes.append(made)

    def _copy(self, node: onnx.NodeProto, inputs: list[str], outputs: list[str]) -> None:
        import onnx

        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:], copy.output[:]
        copy.input.extend(inputs)
        copy.output.extend(outputs)
        self._nodes.append(copy)

    def _new(self, name: str) -> str:
        """A name that is not taken, this one if it can be."""
        free, number = name, 1
        while free in self._names:
            number += 1
            free = f"{name}_{number}"
        self._names.add(free)
        return free
