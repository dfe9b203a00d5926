"""What a rewrite is, how it changes a graph, and which there are."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from edge_sdk.calibration.graph import Graph
from edge_sdk.calibration.tidy import tidy


@dataclass(frozen=True)
class Applied:
    """What one rewrite did to a model.

    Args:
        name: Of the rewrite.
        count: How often.
        nodes: The nodes of the new model that it made or changed, by name.
        words: What it did, for people.
    """

    name: str
    count: int
    nodes: tuple[str, ...]
    words: str


@dataclass(frozen=True)
class Rewrite:
    """A change of a graph that leaves what it says and that an engine runs faster.

    A file of this package holds one, under the name REWRITE.

    Args:
        name: In a report: ``hard-swish``.
        words: What it does, for people.
        order: They run from low to high: some make room for others.
        find: Makes the changes through an `Edit`, and returns the names of the nodes that it made or changed, one for
            each time.
        engines: Those that run it faster, by backend's name.
    """

    name: str
    words: str
    order: int
    find: Callable[[Graph, Edit], Sequence[str]]
    engines: tuple[str, ...] = ("onnxruntime",)

    def __call__(self, graph: Graph) -> tuple[Graph, Applied | None]:
        """The graph after it, and what was done; the same graph and None where there was nothing to do."""
        edit = Edit(graph)
        nodes = tuple(self.find(graph, edit))
        if not nodes:
            return graph, None
        return edit.done(), Applied(self.name, len(nodes), nodes, self.words)


class Edit:
    """Changes that are collected, and then made on a copy of a graph.

    A tensor keeps its name and a node that still makes the same tensor keeps its own, so that a plan names what the
    user knows.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._instead: dict[str, list[NodeProto]] = {}
        self._weights: dict[str, NDArray[Any]] = {}
        self._renamed: dict[str, str] = {}
        self._taken = {*graph.initializers, *graph.inputs, *(name for node in graph.nodes for name in node.output)}
        self._own_names = {node.name for node in graph.nodes}
        self._new_names: set[str] = set()

    def replace(self, node: NodeProto, *instead: NodeProto) -> None:
        """Puts other nodes in a node's place; none removes it. What nothing reads any more goes by itself."""
        self._instead[node.name] = list(instead)

    def touched(self, *nodes: NodeProto) -> bool:
        """Whether one of these was replaced already: two findings overlap."""
        return any(node.name in self._instead for node in nodes)

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """A new constant; its name is the one given, or that with a number."""
        unique = self.tensor(name)
        self._weights[unique] = np.ascontiguousarray(values)
        return unique

    def tensor(self, name: str) -> str:
        """A name for a new tensor that nothing has yet."""
        return _unused(name, self._taken)

    def node(
        self, operator: str, inputs: Iterable[str], outputs: Iterable[str], name: str, **attributes: Any
    ) -> NodeProto:
        """A node. A name that the graph has is for the node that takes that one's place; a new name is unique."""
        if name not in self._own_names:
            name = _unused(name, self._new_names)
        return onnx.helper.make_node(operator, list(inputs), list(outputs), name=name, **attributes)

    def redirect(self, old: str, new: str) -> None:
        """Whoever reads one tensor reads another."""
        self._renamed[old] = new

    def done(self) -> Graph:
        """The new graph."""
        given = self.graph.model
        made = onnx.ModelProto()
        made.CopyFrom(given)
        made.graph.ClearField("node")
        for node in given.graph.node:
            made.graph.node.extend(self._instead.get(node.name, [node]))
        for node in made.graph.node:
            node.input[:] = [self._renamed.get(name, name) for name in node.input]
        made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in self._weights.items())
        tidy(made, like=given)
        return Graph(made)


def _unused(name: str, taken: set[str]) -> str:
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}_{number}", number + 1
    taken.add(unique)
    return unique


@lru_cache(maxsize=1)
def rewrites() -> tuple[Rewrite, ...]:
    """All there are, in their order: each file of this package that holds a REWRITE."""
    import edge_sdk.calibration.rewrites as package

    found = []
    for module in pkgutil.iter_modules(package.__path__):
        held = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "REWRITE", None)
        if held is not None:
            found.append(held)
    return tuple(sorted(found, key=lambda one: (one.order, one.name)))
