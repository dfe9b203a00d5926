"""What a repair is, what it is given, and which there are."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.engines.base import WEIGHTED, Engine
from edge_sdk.calibration.graph import Graph
from edge_sdk.calibration.repairs.moments import Moments

if TYPE_CHECKING:
    import onnx

Arrays = Mapping[str, NDArray[np.float32]]
"""Initializers by name: weights as their integers stand for them, and biases."""


@dataclass(frozen=True, eq=False)
class Given:
    """What a repair mends.

    Args:
        graph: Of the float model; nobody changes it.
        engine: That will run it.
        cpu: What it runs on, in the engine's words.
        nodes: Names of those that may run in the low precision.
        ranges: Low and high of each tensor that is quantized then.
        moments: Of what nodes with weights multiply, in the float model, by node.
        arrays: Of these nodes, as mended so far: every weight as the engine rounds it, and the biases that changed.
    """

    graph: Graph
    engine: Engine
    cpu: str
    nodes: frozenset[str]
    ranges: Mapping[str, tuple[float, float]]
    moments: Mapping[str, Moments]
    arrays: Arrays

    def own(self) -> Iterator[onnx.NodeProto]:
        """Nodes that can be mended: their weights and bias are nobody else's, and their moments are known numbers."""
        for node in self.graph.nodes:
            if node.name not in self.nodes or node.op_type not in WEIGHTED or node.name not in self.moments:
                continue
            alone = all(self.graph.only_consumer(name) is node for name in node.input[1:] if name)
            if alone and np.isfinite(self.moments[node.name].second).all():
                yield node

    def changed(self, arrays: Arrays) -> Given:
        """The same with other arrays in place of its own."""
        return replace(self, arrays={**self.arrays, **arrays})


@dataclass(frozen=True)
class Repair:
    """A change of weights or biases that makes the low precision's error smaller, and leaves the float model alone.

    A file of this package holds one, under the name REPAIR.

    Args:
        name: In a report: ``weight rounding``.
        words: What it does, for people.
        order: They run from low to high.
        mend: The arrays that it changes; empty where there is nothing to do. Weights must be multiples of a scale for
            each output channel that the engine can take: see `Engine.rounded`, which must leave them as they are.
    """

    name: str
    words: str
    order: int
    mend: Callable[[Given], Arrays]


@lru_cache(maxsize=1)
def repairs() -> tuple[Repair, ...]:
    """All there are, in their order: each file of this package that holds a REPAIR."""
    import edge_sdk.calibration.repairs as package

    found = []
    for module in pkgutil.iter_modules(package.__path__):
        held = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "REPAIR", None)
        if held is not None:
            found.append(held)
    return tuple(sorted(found, key=lambda one: (one.order, one.name)))
