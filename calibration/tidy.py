"""One order and one spelling of everything that a model file leaves open, so that equal models are equal bytes."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from edge_sdk.calibration.graph import Graph, all_nodes, reads, sorted_topologically

LEAST_IR = 8  # the form that goes with opset 17


def tidy(model: onnx.ModelProto, *, like: onnx.ModelProto | None = None) -> None:
    """Brings a model into one order, in place: sorted, named, dead parts and texts cut, shapes stated.

    Args:
        model: Any valid one.
        like: Metadata, producer, name and the order of nodes are this one's.
    """
    graph = model.graph
    if like is not None:
        del model.metadata_props[:]
        model.metadata_props.extend(like.metadata_props)
        model.producer_name, model.producer_version = like.producer_name, like.producer_version
        graph.name = like.graph.name or "graph"
    model.doc_string = graph.doc_string = ""
    model.ir_version = max(model.ir_version, LEAST_IR)
    _cut_dead(graph)
    given = [value.name for value in graph.input] + [tensor.name for tensor in graph.initializer]
    nodes = []
    places = None if like is None else {node.name: place for place, node in enumerate(like.graph.node)}
    for node in sorted_topologically(graph.node, given, places):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.doc_string = ""
        copy.ClearField("metadata_props")
        attributes = sorted(copy.attribute, key=lambda held: held.name)
        copy.ClearField("attribute")
        copy.attribute.extend(attributes)
        nodes.append(copy)
    graph.ClearField("node")
    graph.node.extend(nodes)
    name_nodes(model)
    order = {name: place for place, name in reversed(list(enumerate(_all_reads(graph))))}
    weights = sorted(graph.initializer, key=lambda tensor: order.get(tensor.name, -1))
    copies = []
    for tensor in weights:
        copied = numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name)  # one way to hold bytes
        copies.append(copied)
    graph.ClearField("initializer")
    graph.initializer.extend(copies)
    used = {node.domain for node in all_nodes(graph)} | {""}
    versions = {entry.domain: entry.version for entry in model.opset_import if entry.domain in used}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, versions[domain]) for domain in sorted(versions))
    _state_shapes(model)


def name_nodes(model: onnx.ModelProto) -> int:
    """Gives nodes without a name, or with another's, one that follows from their operator and output, in place.

    Returns:
        How many were named.
    """
    taken: set[str] = {node.name for node in model.graph.node}
    seen: set[str] = set()
    count = 0
    for node in model.graph.node:
        if node.name and node.name not in seen:
            seen.add(node.name)
            continue
        base = node.name or f"{node.op_type}_{next((name for name in node.output if name), '')}"
        name, number = base, 2
        while name in taken or name in seen:
            name, number = f"{base}_{number}", number + 1
        node.name = name
        seen.add(name)
        count += 1
    return count


def _cut_dead(graph: onnx.GraphProto) -> None:
    """Removes nodes that no output needs, and constants that no node reads."""
    wanted = {value.name for value in graph.output}
    live = []
    for node in reversed(graph.node):
        if any(name in wanted for name in node.output if name):
            live.append(node)
            wanted.update(reads(node))
    if len(live) < len(graph.node):
        copies = [type(node).FromString(node.SerializeToString()) for node in reversed(live)]
        graph.ClearField("node")
        graph.node.extend(copies)
    weights = [tensor for tensor in graph.initializer if tensor.name in wanted]
    if len(weights) < len(graph.initializer):
        kept = [type(tensor).FromString(tensor.SerializeToString()) for tensor in weights]
        graph.ClearField("initializer")
        graph.initializer.extend(kept)


def _all_reads(graph: onnx.GraphProto) -> list[str]:
    return [name for node in graph.node for name in reads(node)]


def _state_shapes(model: onnx.ModelProto) -> None:
    """Writes what is known of every tensor into the file, in the order of the nodes."""
    del model.graph.value_info[:]
    view = Graph(model)
    outside = {*view.inputs, *view.outputs}
    for node in view.nodes:
        for name in node.output:
            if name and name not in outside and name in view.shapes and name in view.dtypes:
                model.graph.value_info.append(_value(name, view))
    for value in model.graph.output:
        if value.name in view.shapes and value.name in view.dtypes:
            value.CopyFrom(_value(value.name, view))


def _value(name: str, view: Graph) -> onnx.ValueInfoProto:
    element = onnx.helper.np_dtype_to_tensor_dtype(view.dtypes[name])
    return onnx.helper.make_tensor_value_info(name, element, [None if a < 0 else a for a in view.shapes[name]])
