"""What a plan is searched in: one prepared model on one engine, its groups, ranges and rounded weights.

A mask says which groups run in the low precision: bool [n], a position for each group that has the choice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.engines.base import Engine
from edge_sdk.calibration.graph import Graph, sha256_of
from edge_sdk.calibration.groups import Group
from edge_sdk.calibration.repairs import prepared
from edge_sdk.calibration.switchable import Mask, Switch
from edge_sdk.errors import PlanError, UsageError
from edge_sdk.plan import SCHEMA, Choice, Plan
from edge_sdk.targets import Precision

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, eq=False)
class Problem:
    """A model whose groups wait for their precisions.

    Args:
        graph: Of the best float model, before any repair. Nobody changes it.
        sha256: Of that model's bytes, in hexadecimal, before any repair.
        engine: That will run it.
        cpu: What it runs on, in the engine's words.
        target: Name of the board.
        groups: All, in the order of the computation.
        ranges: Low and high of each tensor that any group may quantize.
        weights: Weights as the engine rounds them, float32, by initializer, for those that any group may quantize;
            and corrected biases.
        repaired: Names of those in `weights` that were repaired, and so stand in the prepared model of a mask.
        pinned: Groups whose precision is not to be searched, and that precision.
        provenance: Hashes and versions of what it was made from, for the plan.
    """

    graph: Graph
    sha256: str
    engine: Engine
    cpu: str
    target: str
    groups: tuple[Group, ...]
    ranges: Mapping[str, tuple[float, float]]
    weights: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    repaired: frozenset[str] = frozenset()
    pinned: Mapping[str, Precision] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = {group.name: group for group in self.groups}
        for name, precision in self.pinned.items():
            if name not in named:
                raise PlanError(f"there is no group {name!r} to pin")
            if precision not in named[name].precisions:
                why = named[name].reason or f"the engine runs it in {' or '.join(named[name].precisions)}"
                raise PlanError(f"group {name!r} cannot be pinned to {precision}: {why}")

    @property
    def model(self) -> onnx.ModelProto:
        """The prepared model; nobody changes it."""
        return self.graph.model

    @property
    def low(self) -> Precision:
        """The cheap precision."""
        return self.engine.rules.precisions[0]

    @property
    def high(self) -> Precision:
        """The precision of a group that is off."""
        return self.engine.rules.precisions[-1]

    @cached_property
    def free(self) -> tuple[Group, ...]:
        """The groups that have the choice, pinned ones too: the positions of a mask."""
        return tuple(group for group in self.groups if len(group.precisions) > 1)

    @cached_property
    def fixed(self) -> Mapping[int, bool]:
        """Positions that are pinned, and whether to the low precision."""
        places = {group.name: place for place, group in enumerate(self.free)}
        return {places[name]: one == self.low for name, one in self.pinned.items() if name in places}

    @cached_property
    def switches(self) -> tuple[Switch, ...]:
        """What each position turns on in a `SwitchableModel`."""
        found = [self.engine.quantized(self.graph, frozenset(group.nodes)) for group in self.free]
        return tuple(Switch(group.name, *pair) for group, pair in zip(self.free, found, strict=True))

    @cached_property
    def digest(self) -> str:
        """sha256 of all that decides what a mask computes, in hexadecimal: part of every cached figure's key."""
        digest = hashlib.sha256(f"problem 1 {self.sha256} {self.engine.name} {self.cpu}".encode())
        for group in self.free:
            digest.update(repr((group.name, group.nodes)).encode())
        for name in sorted(self.ranges):
            digest.update(repr((name, self.ranges[name])).encode())
        for name in sorted(self.weights):
            digest.update(repr((name, name in self.repaired)).encode())
            digest.update(np.ascontiguousarray(self.weights[name]).data)
        return digest.hexdigest()

    @property
    def off(self) -> Mask:
        """All in the high precision, but for what is pinned."""
        return self._uniform(low=False)

    @property
    def on(self) -> Mask:
        """All in the low precision, but for what is pinned."""
        return self.settle(self._uniform(low=True))

    def settle(self, mask: Mask) -> Mask:
        """The mask that the engine really runs: what it would run in the low precision anyway is added.

        Args:
            mask: bool [n].

        Raises:
            UsageError: Of another length or dtype.
        """
        if mask.shape != (len(self.free),) or mask.dtype != np.bool_:
            raise UsageError(f"a mask is bool [{len(self.free)}], not {mask.dtype} {list(mask.shape)}")
        wanted = {group.name for group, low in zip(self.free, mask.tolist(), strict=True) if low}
        found = self.engine.settled(self.graph, self.groups, wanted)
        return np.array([group.name in found for group in self.free], np.bool_)

    def nodes(self, mask: Mask) -> frozenset[str]:
        """Names of the nodes that run in the low precision."""
        return frozenset(
            node for group, low in zip(self.free, mask.tolist(), strict=True) if low for node in group.nodes
        )

    def plan(self, mask: Mask, **provenance: str) -> Plan:
        """The plan of a mask that is settled, with the ranges of all that may be quantized: it may be edited."""
        low = {group.name for group, on in zip(self.free, mask.tolist(), strict=True) if on}
        choices = tuple(
            Choice(
                group.name, group.nodes, self.low if group.name in low else group.precisions[-1],
                pinned=group.name in self.pinned,
            )
            for group in self.groups
        )  # fmt: skip
        sha256 = sha256_of(self.prepared(mask))
        return Plan(SCHEMA, sha256, self.target, choices, dict(self.ranges), {**self.provenance, **provenance})

    def mask_of(self, plan: Plan) -> Mask:
        """The mask of a plan for this model, as an edited file has it."""
        low = {choice.group for choice in plan.choices if choice.precision == self.low}
        return np.array([group.name in low for group in self.free], np.bool_)

    def prepared(self, mask: Mask) -> onnx.ModelProto:
        """The model that a mask's plan is for: with repaired weights where the low precision is chosen."""
        arrays = {name: self.weights[name] for name in sorted(self.repaired)}
        return prepared(self.graph, self.nodes(mask), arrays) if arrays else self.model

    def lower(self, mask: Mask) -> onnx.ModelProto:
        """The engine's model of a settled mask."""
        return self.engine.lower(self.prepared(mask), self.plan(mask), cpu=self.cpu)

    def macs(self, mask: Mask) -> tuple[int, int]:
        """Multiply-accumulates in the low precision, and in all."""
        of: Any = self.graph.macs
        low = self.nodes(mask)
        counts = [(node.name in low, of(node)) for node in self.graph.nodes]
        return sum(count for on, count in counts if on), sum(count for _, count in counts)

    def _uniform(self, *, low: bool) -> Mask:
        mask = np.full(len(self.free), low, np.bool_)
        for place, pinned in self.fixed.items():
            mask[place] = pinned
        return mask
