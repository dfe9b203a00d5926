"""What an engine's room must answer: its rules, its file for a plan, and what that file really runs.

One room an engine, because these three change together. A module of this folder is one by having ``ENGINE``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Layer
from edge_sdk.calibration.engines.integers import Grid
from edge_sdk.calibration.graph import Graph
from edge_sdk.errors import UsageError
from edge_sdk.plan import Plan
from edge_sdk.targets import Precision

if TYPE_CHECKING:
    import onnx

    from edge_sdk.calibration.groups import Group


WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that multiply by weights: the work of a network."""


class Rules(Protocol):
    """What an engine can run in which precision, and what it can only switch together.

    Attributes:
        precisions: What a group may be given, the cheapest first, the float one last.
    """

    precisions: tuple[Precision, ...]

    def refusals(self, graph: Graph) -> Mapping[str, str]:
        """Why a node can only run in float, by its name; nodes that have the choice are left out."""
        ...

    def joins(self, graph: Graph, refused: Mapping[str, str]) -> Iterable[tuple[str, str]]:
        """Pairs of names of nodes that switch together, in an order that the file's order of nodes does not change.

        Args:
            graph: Of the prepared model.
            refused: From `refusals`: never joined with a node that has the choice, which would lose it.
        """
        ...


class Engine(Protocol):
    """An engine that plans are made for.

    Attributes:
        name: As in a target's `backends`.
        rules: What it fuses and allows.
    """

    name: str
    rules: Rules

    def settled(self, graph: Graph, groups: Sequence[Group], integer: Set[str]) -> frozenset[str]:
        """Names of the groups in the low precision, with those added that the engine would run so with them.

        Args:
            graph: Of the prepared model.
            groups: Of that model.
            integer: Names of the groups that are wanted in it.
        """
        ...

    def quantized(self, graph: Graph, nodes: Set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is rounded when these nodes alone run in the low precision.

        Args:
            graph: Of the prepared model.
            nodes: Names; those of a group, or of all groups that are wanted in it.

        Returns:
            Activations, whose ranges a plan must have, and weights, by the names of their tensors, in the order of the
            graph.
        """
        ...

    def grid(self, graph: Graph, node: onnx.NodeProto, *, cpu: str | None = None) -> Grid:
        """Which integers a node's weights may be.

        Args:
            graph: Of the prepared model.
            node: With constant weights.
            cpu: What will run it, in the engine's words; None is this machine.
        """
        ...

    def rounded(
        self,
        graph: Graph,
        nodes: Set[str],
        ranges: Mapping[str, tuple[float, float]],
        *,
        cpu: str | None = None,
    ) -> Mapping[str, NDArray[np.float32]]:
        """Weights as the engine's integers stand for them: what `lower` stores, times its scales.

        Args:
            graph: Of the prepared model.
            nodes: Names; of those without weights nothing is asked.
            ranges: Of the tensors that are quantized when all of these run in the low precision.
            cpu: What it will run on, in the engine's words; None is this machine.

        Returns:
            By initializer, in the order of the graph; where several nodes share one, as the first of them has it.

        Raises:
            PlanError: A range is missing.
        """
        ...

    def lower(
        self,
        model: onnx.ModelProto,
        plan: Plan,
        *,
        cpu: str | None = None,
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> onnx.ModelProto:
        """The engine's model for a plan.

        Args:
            model: The prepared model; not changed.
            plan: Its choices; nodes it does not name stay in float.
            cpu: What it will run on, in the engine's words; None is this machine.
            ranges: Low and high real value of each tensor that is quantized; None for the plan's own.

        Raises:
            PlanError: The plan asks what the engine cannot do, or lacks a range.
            ModelError: The model is not canonical.
        """
        ...

    def read_back(self, file: Path, model: onnx.ModelProto, *, threads: int = 1) -> Sequence[Layer]:
        """What the engine really runs, layer by layer, in the names of the prepared model.

        Args:
            file: What `lower` made, saved.
            model: The prepared model that it was made from.
            threads: Inside one inference.

        Raises:
            BackendError: The engine cannot open or run the file.
        """
        ...

    def in_names_of(self, graph: Graph, layers: Iterable[Layer]) -> Sequence[Layer]:
        """Layers of a lowered model in the names of the prepared model's nodes, where somebody else read them.

        Args:
            graph: Of the prepared model.
            layers: As the engine's session gives them. What the engine added keeps its own name, which begins with
                that of a tensor and a slash where it converts one.
        """
        ...


@cache
def engines() -> Mapping[str, Engine]:
    """Every engine that plans can be made for, by name."""
    package = importlib.import_module("edge_sdk.calibration.engines")
    found: dict[str, Engine] = {}
    for module in pkgutil.iter_modules(package.__path__):
        engine = getattr(importlib.import_module(f"edge_sdk.calibration.engines.{module.name}"), "ENGINE", None)
        if engine is not None:
            found[engine.name] = engine
    return found


def named(name: str) -> Engine:
    """The engine of this name.

    Raises:
        UsageError: There is none; the message lists those that there are.
    """
    if name not in engines():
        raise UsageError(f"no plan can be lowered to {name!r}; there are {', '.join(sorted(engines()))}")
    return engines()[name]
