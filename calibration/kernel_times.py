"""Whose time each kernel of an engine's profile is: a group's, or that of a tensor whose precision changes there.

Kernels that the engine made of the model's nodes are their group's. Of those that it added, conversions bear the name
of their tensor, and what stands beside one in the order of execution (reorderings, transpositions of layout) came with
it; what stands beside none belongs to the kernel after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Layer
from edge_sdk.calibration.graph import Graph
from edge_sdk.calibration.switchable import Mask

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spent:
    """Where one file's time goes, in ms.

    Args:
        group_ms: [n] of each free group; 0 where the engine has no kernel of its own for it.
        boundary_ms: [b] of each boundary; NaN where no kernel bears its name.
        rest_ms: Of what has no choice.
    """

    group_ms: Floats
    boundary_ms: Floats
    rest_ms: float

    @property
    def total_ms(self) -> float:
        """Of all kernels."""
        return float(self.group_ms.sum() + np.nansum(self.boundary_ms)) + self.rest_ms

    def scaled(self, factor: float) -> Spent:
        """The same, so many times as long."""
        return Spent(self.group_ms * factor, self.boundary_ms * factor, self.rest_ms * factor)


def spent(
    graph: Graph, places: Mapping[str, int], tensors: Mapping[str, int], mask: Mask, layers: Sequence[Layer]
) -> Spent:
    """Attributes a profile.

    Args:
        graph: Of the prepared model.
        places: Position of the free group by node.
        tensors: Position of the boundary by tensor.
        mask: That the file was built from.
        layers: In the order of execution, with the prepared model's names for nodes. Without times they count 0.
    """
    groups, edges, rest = np.zeros(mask.shape[0]), np.full(len(tensors), np.nan), 0.0
    owners = _owners(graph, places, tensors, layers)
    for (kind, place), layer in zip(owners, layers, strict=True):
        ms = layer.time_ms or 0.0
        if kind == "boundary":
            edges[place] = ms if np.isnan(edges[place]) else edges[place] + ms
        elif kind == "group":
            groups[place] += ms
        else:
            rest += ms
    return Spent(groups, edges, rest)


def _owners(
    graph: Graph, places: Mapping[str, int], tensors: Mapping[str, int], layers: Sequence[Layer]
) -> list[tuple[str, int]]:
    known = {node.name for node in graph.nodes}
    found: list[tuple[str, int] | None] = []
    named: list[bool] = []
    for layer in layers:
        own = layer.nodes[0] in known
        named.append(own)
        if own:
            place = next((places[name] for name in layer.nodes if name in places), None)
            found.append(("rest", 0) if place is None else ("group", place))
        else:
            found.append(_of_tensor(graph, layer.nodes[0], places, tensors))
    for index, owner in enumerate(found):
        if owner is None:
            found[index] = _beside(found, named, index)
    return [owner or ("rest", 0) for owner in found]


def _of_tensor(
    graph: Graph, name: str, places: Mapping[str, int], tensors: Mapping[str, int]
) -> tuple[str, int] | None:
    """Whom an added kernel serves by its name: a tensor's, with endings after a slash."""
    while name:
        if name in tensors:
            return "boundary", tensors[name]
        maker = graph.producer(name)
        if maker is not None:
            return ("group", places[maker.name]) if maker.name in places else ("rest", 0)
        name = name.rpartition("/")[0]
    return None


def _beside(found: Sequence[tuple[str, int] | None], named: Sequence[bool], index: int) -> tuple[str, int] | None:
    """Whom a nameless kernel came with: the nearest conversion between the nodes around it, else the node after it."""
    before, after = index, index
    while before > 0 and not named[before - 1]:
        before -= 1
    while after < len(found) - 1 and not named[after + 1]:
        after += 1
    near = [place for place in range(before, after + 1) if (found[place] or ("", 0))[0] == "boundary"]
    if near:
        return found[min(near, key=lambda place: (abs(place - index), place))]
    if after + 1 < len(found):
        return found[after + 1]
    return found[before - 1] if before > 0 else None
