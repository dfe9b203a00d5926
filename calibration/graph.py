"""A model's graph as the planner reads it: who makes and who takes a tensor, shapes, constants, work per node."""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper, shape_inference

from edge_sdk.errors import ModelError, UsageError, one_line
from edge_sdk.files import replacing

Array = NDArray[Any]
Shape = tuple[int, ...]  # -1 is an axis that is known only when the model runs

# What one protobuf message can hold; a larger model has its weights in a file beside it.
MAX_BYTES = (1 << 31) - 1


class Graph:
    """A frozen view of a model: nobody changes the model under it, and a change makes a new `Graph`.

    Nodes stand in topological order. Names are those of the file. Tensors that a node's subgraphs (of If and Loop) read
    from outside count as that node's inputs.

    Args:
        model: Sorted topologically, every node named, each name once, initializers off the inputs: as
            `edge_sdk.calibration.canonical.canonical` leaves it.

    Raises:
        UsageError: It is not so.
        ModelError: Its shapes contradict each other.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: tuple[NodeProto, ...] = tuple(model.graph.node)
        self.outputs: tuple[str, ...] = tuple(value.name for value in model.graph.output)
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.inputs: tuple[str, ...] = tuple(value.name for value in model.graph.input)
        self._producers: dict[str, NodeProto] = {}
        consumers: dict[str, list[NodeProto]] = {}
        known = {"", *self._initializers, *self.inputs}
        for node in self.nodes:
            for name in dict.fromkeys(reads(node)):
                if name not in known:
                    raise UsageError(f"node {node.name!r} reads {name!r} before it is there")
                consumers.setdefault(name, []).append(node)
            for name in node.output:
                if name:
                    known.add(name)
                    self._producers[name] = node
        self._consumers = {name: tuple(nodes) for name, nodes in consumers.items()}
        self._by_name = {node.name: node for node in self.nodes}
        if len(self._by_name) != len(self.nodes) or "" in self._by_name:
            raise UsageError("every node of a canonical model has a name of its own")
        if self._initializers.keys() & set(self.inputs):
            raise UsageError("an initializer of a canonical model is no input")
        self._constants: dict[str, Array] = {}

    @property
    def initializers(self) -> tuple[str, ...]:
        """Names of the constant tensors."""
        return tuple(self._initializers)

    @property
    def opset(self) -> int:
        """Of the standard operators."""
        return int(next(entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")))

    def node(self, name: str) -> NodeProto:
        """The node of this name.

        Raises:
            UsageError: There is none.
        """
        if name not in self._by_name:
            raise UsageError(f"the model has no node {name!r}")
        return self._by_name[name]

    def producer(self, tensor: str) -> NodeProto | None:
        """The node that makes a tensor; None for inputs and constants."""
        return self._producers.get(tensor)

    def consumers(self, tensor: str) -> tuple[NodeProto, ...]:
        """The nodes that read a tensor, each once, in order."""
        return self._consumers.get(tensor, ())

    def only_consumer(self, tensor: str) -> NodeProto | None:
        """The one node that reads a tensor, where there is one and the tensor is no output of the model."""
        nodes = self.consumers(tensor)
        return nodes[0] if len(nodes) == 1 and tensor not in self.outputs else None

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor is a weight or another value that never changes."""
        return tensor in self._initializers

    def constant(self, tensor: str) -> Array | None:
        """A constant's values, read-only; None for a tensor that is none."""
        if tensor not in self._initializers:
            return None
        if tensor not in self._constants:
            array = numpy_helper.to_array(self._initializers[tensor])
            array.setflags(write=False)
            self._constants[tensor] = array
        return self._constants[tensor]

    def scalar(self, tensor: str) -> float | None:
        """The value of a constant with one element; None for any other tensor."""
        array = self.constant(tensor)
        return float(array.reshape(())) if array is not None and array.size == 1 else None

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Of every tensor whose rank is known, constants too; -1 is an axis that only a run tells."""
        return {name: shape for name, (shape, _) in self._types.items() if shape is not None}

    @cached_property
    def dtypes(self) -> Mapping[str, np.dtype[Any]]:
        """Of every tensor whose type is known, constants too."""
        return {name: dtype for name, (_, dtype) in self._types.items() if dtype is not None}

    def shape(self, tensor: str) -> Shape | None:
        """A tensor's shape; None where it is not known, or one of its axes is not."""
        shape = self.shapes.get(tensor)
        return None if shape is None or -1 in shape else shape

    def macs(self, node: NodeProto | str) -> int:
        """Multiply-accumulates of one run of a node: of convolutions and matrix products; 0 of all others.

        A shape that is not known counts as 0 too.
        """
        if isinstance(node, str):
            node = self.node(node)
        count = _MACS.get(node.op_type)
        if count is None or node.domain not in ("", "ai.onnx"):
            return 0
        x, weights, y = (self.shape(name) for name in (*node.input[:2], node.output[0]))
        return 0 if x is None or weights is None or y is None else count(node, x, weights, y)

    @cached_property
    def _types(self) -> dict[str, tuple[Shape | None, np.dtype[Any] | None]]:
        try:
            inferred = shape_inference.infer_shapes(self._without_weights(), data_prop=True).graph
        except Exception as error:
            raise ModelError(f"the model's shapes contradict each other: {one_line(error)}") from error
        types = {name: (tuple(tensor.dims), _dtype(tensor.data_type)) for name, tensor in self._initializers.items()}
        found = [*inferred.input, *inferred.value_info, *inferred.output]
        return {**{value.name: _type_of(value) for value in found}, **types}

    def _without_weights(self) -> onnx.ModelProto:
        """The model with large weights left out, whose values no shape depends on: 40 times faster to infer from."""
        light = onnx.ModelProto()
        light.ir_version = self.model.ir_version
        light.opset_import.extend(self.model.opset_import)
        graph, given = light.graph, self.model.graph
        graph.name = given.name or "graph"
        graph.node.extend(given.node)
        graph.input.extend(given.input)
        graph.output.extend(given.output)
        for tensor in given.initializer:
            if prod(tensor.dims) <= _SMALL:
                graph.initializer.append(tensor)
            else:
                graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        return light


_SMALL = 64  # elements; shapes, pads, axes and steps have fewer


def reads(node: NodeProto) -> Iterator[str]:
    """Names of the tensors that a node takes, in order, those that its subgraphs read from outside last."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in subgraphs(attribute):
            yield from captured(graph)


def subgraphs(attribute: AttributeProto) -> Sequence[onnx.GraphProto]:
    """The graphs that an attribute holds."""
    if attribute.type == AttributeProto.GRAPH:
        return [attribute.g]
    return attribute.graphs if attribute.type == AttributeProto.GRAPHS else ()


def all_nodes(graph: onnx.GraphProto) -> Iterator[NodeProto]:
    """A graph's nodes, those in subgraphs too."""
    for node in graph.node:
        yield node
        for held in node.attribute:
            for inner in subgraphs(held):
                yield from all_nodes(inner)


def captured(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that a subgraph takes from the graphs around it."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        yield from (name for name in reads(node) if name not in own)
        own.update(node.output)
    yield from (value.name for value in graph.output if value.name not in own)


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """An attribute's value as plain Python, text decoded; the default where the node does not state it."""
    for held in node.attribute:
        if held.name == name:
            value = onnx.helper.get_attribute_value(held)
            return value.decode() if isinstance(value, bytes) else value
    return default


def sorted_topologically(
    nodes: Sequence[NodeProto], given: Iterable[str], places: Mapping[str, int] | None = None
) -> list[NodeProto]:
    """Nodes so ordered that each stands after what it reads, and else in the order that they have.

    Args:
        nodes: In any order.
        given: Names of inputs and constants.
        places: Of some nodes, by name, where another order is wanted; others stay behind the one before them.

    Raises:
        ModelError: They wait for each other in a circle, or for a tensor that nobody makes.
    """
    known = {"", *given}
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waiting: list[set[int]] = []
    followers: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        need: set[int] = set()
        for name in reads(node):
            if name in known:
                continue
            if name not in makers:
                raise ModelError(f"node {_label(node)} reads {name!r}, which nothing in the model makes")
            need.add(makers[name])
        waiting.append(need)
        for maker in need:
            followers.setdefault(maker, []).append(index)
    done: list[NodeProto] = []
    place, ranks = -1, []
    for index, node in enumerate(nodes):
        place = index if places is None else places.get(node.name, place)
        ranks.append((place, index))
    ready = [rank for rank, need in zip(ranks, waiting, strict=True) if not need]
    heapq.heapify(ready)
    while ready:
        _, index = heapq.heappop(ready)
        done.append(nodes[index])
        for follower in followers.get(index, ()):
            waiting[follower].discard(index)
            if not waiting[follower]:
                heapq.heappush(ready, ranks[follower])
    if len(done) < len(nodes):
        stuck = next(node for node, need in zip(nodes, waiting, strict=True) if need)
        raise ModelError(f"the model's nodes wait for each other in a circle, {_label(stuck)} among them")
    return done


def model_bytes(model: onnx.ModelProto) -> bytes:
    """A model as it is written to a file; the same model gives the same bytes.

    Raises:
        ModelError: It is larger than one file can be (2 GiB).
    """
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except Exception as error:  # protobuf's error classes differ between its implementations
        raise ModelError(f"the model cannot be written as one file of at most 2 GiB: {one_line(error)}") from error


def save_model(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Writes a model as `model_bytes` has it, whole or not at all.

    Raises:
        ModelError: It is larger than one file can be (2 GiB).
        SinkError: The folder is not there, or cannot be written.
    """
    data = model_bytes(model)
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(data)


def sha256_of(model: onnx.ModelProto) -> str:
    """SHA-256 of `model_bytes`, in hexadecimal."""
    return hashlib.sha256(model_bytes(model)).hexdigest()


def _label(node: NodeProto) -> str:
    return f"{node.name or (node.output[0] if node.output else '')!r} ({node.op_type})"


def _dtype(element: int) -> np.dtype[Any] | None:
    if element == TensorProto.UNDEFINED:
        return None
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element))
    except (KeyError, TypeError, ValueError):
        return None


def _type_of(value: ValueInfoProto) -> tuple[Shape | None, np.dtype[Any] | None]:
    if not value.type.HasField("tensor_type"):
        return None, None
    tensor = value.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim)
    return shape, _dtype(tensor.elem_type)


def _conv(node: NodeProto, x: Shape, weights: Shape, y: Shape) -> int:
    # Every output element is a sum over its group's input channels and the kernel: weights are [out, in/group, ...].
    return prod(y) * prod(weights[1:])


def _conv_transpose(node: NodeProto, x: Shape, weights: Shape, y: Shape) -> int:
    # Every input element is spread over its group's output channels and the kernel: weights are [in, out/group, ...].
    return prod(x) * prod(weights[1:])


def _matmul(node: NodeProto, a: Shape, b: Shape, y: Shape) -> int:
    return prod(y) * a[-1]


def _gemm(node: NodeProto, a: Shape, b: Shape, y: Shape) -> int:
    return prod(y) * a[0 if attribute(node, "transA", 0) else 1]


_MACS = {"Conv": _conv, "ConvTranspose": _conv_transpose, "MatMul": _matmul, "Gemm": _gemm}
