"""What ONNX Runtime makes of a lowered model, in the names of the prepared one.

The engine's own profile says which kernel ran on which types; `onnx`, which wrote the file, has no part in it. Kernels
have the names of nodes or of the tensors they make, with endings that the engine adds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edge_sdk import targets
from edge_sdk.backends import onnxruntime as backend
from edge_sdk.backends.base import Layer
from edge_sdk.calibration.engines.onnxruntime_rules import GATES, MOVERS
from edge_sdk.calibration.graph import Graph

# What ONNX Runtime 1.31.1 adds to a name when it replaces a node or gives it another layout, outermost last; and what
# `onnxruntime_lower` adds to a tensor's.
_ENDINGS = re.compile(r"(/QuickGeluFusion/|_token_\d+|_nchwc|_pre_q|_transpose|/real(_\d+)?|/int8(_\d+)?)$")
_FUSED = re.compile(r"^fused (.*)$")


def read_back(file: Path, graph: Graph, *, threads: int = 1) -> tuple[Layer, ...]:
    """Runs a lowered model with profiling; see `edge_sdk.calibration.engines.base.Engine.read_back`.

    Raises:
        BackendError: ONNX Runtime cannot open or run it.
    """
    board = targets.load("generic-x86_64")  # says nothing to the CPU's provider
    with backend.BACKEND.open(file, board, threads=threads, options={}) as session:
        return in_names_of(graph, session.layers())


def in_names_of(graph: Graph, layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Layers with the names of a prepared model's nodes.

    Args:
        graph: Of the prepared model.
        layers: Of the engine, with one name of its own each.

    Returns:
        The layers in their order. What the engine added (conversions, layouts) keeps its own name and has no
        precision. A node that only moves values has one if it ran in float alone: on 8-bit values it gives what it
        would have given in float, and the engine moves Q and DQ across it where it likes.
    """
    nodes: dict[str, tuple[str, ...]] = {node.name: (node.name,) for node in graph.nodes}
    for node in graph.nodes:
        gates = [maker for tensor in node.input if (maker := graph.producer(tensor)) is not None]
        fused = [gate.name for gate in gates if gate.op_type in GATES] if node.op_type == "Mul" else []
        for tensor in node.output:
            nodes.setdefault(f"{node.name}/QuickGeluFusion/", (*fused, node.name))
            nodes.setdefault(tensor, (node.name,))
    kinds = {node.name: node.op_type for node in graph.nodes}
    return tuple(_renamed(layer, nodes, kinds) for layer in layers)


def _renamed(layer: Layer, nodes: Mapping[str, tuple[str, ...]], kinds: Mapping[str, str]) -> Layer:
    found = _resolved(layer.nodes[0], nodes)
    if found is None:
        return replace(layer, precision=None)
    moves = all(kinds[name] in MOVERS for name in found)
    return replace(layer, nodes=found, precision=None if moves and layer.precision == "int8" else layer.precision)


def _resolved(name: str, nodes: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    while name not in nodes:
        fused = _FUSED.match(name)
        shorter = fused[1] if fused else _ENDINGS.sub("", name)
        if shorter == name:
            return None
        name = shorter
    return nodes[name]


def left_out(planned: Iterable[str], layers: Sequence[Layer]) -> tuple[str, ...]:
    """Which of these nodes no layer names: fused into others, or gone."""
    seen = {name for layer in layers for name in layer.nodes}
    return tuple(name for name in planned if name not in seen)
