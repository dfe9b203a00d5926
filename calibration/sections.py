"""A graph cut into sections in the order of its nodes, at places where little is passed on."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.fake_quant import Quantizer, fake_quantized, used
from edge_sdk.errors import ModelError, one_line

if TYPE_CHECKING:
    import onnx

# Only to cut at about even distances in time: what a CPU core multiplies while it moves one byte.
_MACS_PER_BYTE = 3
_UNKNOWN_BYTES = 1 << 20  # a tensor whose shape is not known


@dataclass(frozen=True)
class Section:
    """Nodes that follow each other, and what passes in and out.

    Args:
        start, end: The nodes, as a slice of the graph's.
        inputs: Tensors that they read and do not make, without initializers.
        outputs: Tensors that they make and that later sections read or the graph gives out.
    """

    start: int
    end: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def cut(model: onnx.ModelProto, count: int) -> tuple[Section, ...]:
    """Cuts a graph into at most `count` sections of about equal cost.

    Args:
        model: With its nodes in topological order and its shapes inferred, as far as they can be.
        count: 1 or more.
    """
    nodes = list(model.graph.node)
    fixed = {value.name for value in model.graph.initializer}
    sizes = tensor_bytes(model)
    reads = [[name for name in dict.fromkeys(used(node)) if name not in fixed] for node in nodes]
    last = {name: index for index, names in enumerate(reads) for name in names}
    last.update((value.name, len(nodes)) for value in model.graph.output)

    # What a cut before each node passes on: bytes of tensors made before it and read there or later.
    change = np.zeros(len(nodes) + 2)
    for index, node in enumerate(nodes):
        for name in node.output:
            if last.get(name, -1) > index:
                change[index + 1] += sizes.get(name, _UNKNOWN_BYTES)
                change[last[name] + 1] -= sizes.get(name, _UNKNOWN_BYTES)
    shapes = {value.name: tuple(value.dims) for value in model.graph.initializer}
    cost = np.cumsum([_cost(node, sizes, shapes) for node in nodes])
    bounds = [0, *_places(cost, np.cumsum(change)[: len(nodes)], count), len(nodes)]

    sections = []
    for start, end in itertools.pairwise(bounds):
        made = [name for node in nodes[start:end] for name in node.output if name]
        inside = set(made)
        asked = dict.fromkeys(name for names in reads[start:end] for name in names if name not in inside)
        given = tuple(name for name in made if last.get(name, -1) >= end)
        sections.append(Section(start, end, tuple(asked), given))
    return tuple(sections)


def _places(cost: NDArray[np.float64], passed: NDArray[np.float64], count: int) -> list[int]:
    """Nodes before which to cut: near even shares of the cost, there where least is passed on."""
    if len(cost) == 0:
        return []
    places: list[int] = []
    before = np.concatenate(([0.0], cost[:-1]))  # what lies before each node
    step = cost[-1] / count
    for number in range(1, count):
        near = np.flatnonzero(np.abs(before - number * step) <= step / 2)
        near = near[near > (places[-1] if places else 0)]
        if len(near):
            away = np.abs(before[near] - number * step)
            places.append(int(near[np.lexsort((away, passed[near]))[0]]))
    return places


def _cost(node: onnx.NodeProto, sizes: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]) -> float:
    """About how long a node takes, in bytes moved."""
    written = sum(sizes.get(name, _UNKNOWN_BYTES) for name in node.output if name)
    moved = written + sum(sizes.get(name, 0) for name in node.input)
    weight = shapes.get(node.input[1], ()) if len(node.input) > 1 else ()
    if node.op_type == "Conv" and weight:
        return moved + written / 4 * float(np.prod(weight[1:])) / _MACS_PER_BYTE
    if node.op_type in ("MatMul", "Gemm") and weight:
        return moved + written / 4 * max(weight) / _MACS_PER_BYTE
    return moved


def tensor_bytes(model: onnx.ModelProto) -> dict[str, int]:
    """Bytes of each tensor whose shape the graph states, at 4 bytes a value; axes left open count as 1."""
    sizes = {}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            sizes[value.name] = 4
            for axis in value.type.tensor_type.shape.dim:
                sizes[value.name] *= max(1, axis.dim_value)
    return sizes


@dataclass(frozen=True)
class Contents:
    """What of a model's switched tensors lies in a section.

    Args:
        activations: Those that it makes, and the graph's inputs that it reads, in order.
        weights: Those that its nodes read, with the tensors that these nodes multiply by them.
    """

    activations: tuple[str, ...]
    weights: Mapping[str, tuple[str, ...]]


def contents(
    model: onnx.ModelProto,
    section: Section,
    graph_inputs: Collection[str],
    activations: Collection[str],
    weights: Collection[str],
) -> Contents:
    """Finds them among all that are switched in the model."""
    nodes = model.graph.node[section.start : section.end]
    seen = [name for name in section.inputs if name in graph_inputs]
    seen += [name for node in nodes for name in node.output]
    fed: dict[str, tuple[str, ...]] = {}
    for node in nodes:
        for name in used(node):
            if name in weights:
                fed[name] = (*fed.get(name, ()), node.input[0])
    return Contents(tuple(name for name in seen if name in activations), fed)


def with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with its constants among the initializers and its shapes inferred.

    Raises:
        ModelError: The shapes that it states contradict each other.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    outputs = {value.name for value in copy.graph.output}
    del copy.graph.node[:]
    for node in model.graph.node:
        value = next((one.t for one in node.attribute if one.name == "value"), None)
        if node.op_type == "Constant" and value is not None and node.output[0] not in outputs:
            constant = copy.graph.initializer.add()
            constant.CopyFrom(value)
            constant.name = node.output[0]
        else:
            copy.graph.node.add().CopyFrom(node)
    try:
        inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(copy, data_prop=True)
    except Exception as error:
        raise ModelError(f"the model's shapes contradict each other: {one_line(error)}") from error
    return inferred


def section_model(
    model: onnx.ModelProto,
    section: Section,
    graph_inputs: Collection[str],
    quantizers: Mapping[str, Quantizer],
    changed: Mapping[str, NDArray[np.float32]],
) -> onnx.ModelProto:
    """A section as a model of its own.

    Args:
        model: The whole.
        section: Of it.
        graph_inputs: The whole's inputs; where one has a quantizer it is quantized here.
        quantizers: Of the section's tensors that are quantized.
        changed: Initializers that differ from the model's.
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes = model.graph.node[section.start : section.end]
    made, constants = fake_quantized(nodes, quantizers, [name for name in section.inputs if name in graph_inputs])
    read = {name for node in nodes for name in used(node)}
    for value in model.graph.initializer:
        if value.name in read:
            array = changed.get(value.name)
            constants.append(value if array is None else numpy_helper.from_array(array, value.name))
    stated = {value.name: value for value in (*model.graph.value_info, *model.graph.output, *model.graph.input)}
    graph = helper.make_graph(
        made,
        "section",
        # A tensor of an operator that onnx does not know is taken for floats.
        [stated.get(name) or helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in section.inputs],
        [helper.make_empty_tensor_value_info(name) for name in section.outputs],
        constants,
    )
    return helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version, functions=model.functions
    )
