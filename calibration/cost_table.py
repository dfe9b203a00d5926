"""What operators cost where there is no device to time: tables that are shipped, of machines that were measured.

A table holds, by class of operator and precision, ns for a multiply-accumulate, for an element and for a call, and what
a change of precision costs by the element: `tools/measure_cost_table.py` fits it. Boards that nobody has measured have
none, and asking for one says so. What comes of a table is marked "estimated" wherever it shows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_sdk.calibration.costs import Costs, Prior, boundaries_of
from edge_sdk.calibration.engines.onnxruntime_rules import gate_of
from edge_sdk.calibration.graph import Graph, attribute
from edge_sdk.calibration.problem import Problem
from edge_sdk.errors import ModelError, UsageError, one_line

if TYPE_CHECKING:
    import onnx

SCHEMA = 1
_STEM_CHANNELS = 4  # a convolution of a picture: too few channels for the kernels that are fast on more
_MISTRUST = 0.5  # relative standard deviation of a figure of another model's, and perhaps of another machine's


@dataclass(frozen=True)
class Rate:
    """Time of one call of an operator: the sum of the three.

    Args:
        mac_ns: For each multiply-accumulate.
        element_ns: For each element of its largest activation.
        call_ns: For a call.
    """

    mac_ns: float
    element_ns: float
    call_ns: float

    def ms(self, macs: float, elements: float) -> float:
        """Of an operator of this size."""
        return (self.mac_ns * macs + self.element_ns * elements + self.call_ns) / 1e6


@dataclass(frozen=True)
class CostTable:
    """Rates on one machine.

    Args:
        on: The machine, the engine and threads.
        engine, cpu: As a `Problem` has them.
        rates: By class of operator and precision; "other" stands for classes that have none.
        boundary: "to_low" and "to_high", by the element of the tensor.
    """

    on: str
    engine: str
    cpu: str
    rates: Mapping[str, Mapping[str, Rate]]
    boundary: Mapping[str, Rate]

    def ms(self, graph: Graph, node: onnx.NodeProto, precision: str) -> float:
        """Of a node in a precision."""
        found = self.rates.get(node_class(graph, node), {}).get(precision) or self.rates["other"].get(precision)
        return 0.0 if found is None else found.ms(graph.macs(node), elements(graph, node))


def node_class(graph: Graph, node: onnx.NodeProto) -> str:
    """The class of a node: its operator, convolutions by their kind, and gates, which are fused in float."""
    if node.op_type == "Conv":
        weights = graph.shapes.get(node.input[1], ())
        inputs = weights[1] if len(weights) > 1 else 0
        if inputs == 1 and attribute(node, "group", 1) == weights[0]:
            return "depthwise Conv"
        if attribute(node, "group", 1) == 1 and inputs <= _STEM_CHANNELS:
            return "stem Conv"
        return "pointwise Conv" if math.prod(weights[2:]) == 1 else "dense Conv"
    gate = gate_of(graph, node)
    if gate is not None:
        return f"Mul by {gate.op_type}"
    reader = graph.only_consumer(node.output[0])
    if reader is not None and gate_of(graph, reader) is node:
        return f"{node.op_type} gate"
    return node.op_type


def elements(graph: Graph, node: onnx.NodeProto) -> float:
    """Of the largest activation that a node reads or makes; 0 where no shape is known."""
    shapes = [graph.shape(name) for name in (*node.input, *node.output) if name and not graph.is_constant(name)]
    return float(max((math.prod(shape) for shape in shapes if shape is not None), default=0))


def estimated_costs(problem: Problem, table: CostTable | None = None) -> Costs:
    """A cost model out of a table: method "estimated".

    Args:
        problem: The model.
        table: None takes the one that is shipped for the problem's engine and cpu.

    Raises:
        UsageError: None is shipped for them, or the table is of another engine or cpu.
    """
    table = shipped(problem.engine.name, problem.cpu) if table is None else table
    if (table.engine, table.cpu) != (problem.engine.name, problem.cpu):
        raise UsageError(
            f"the cost table is of {table.engine} on {table.cpu}, not {problem.engine.name} on {problem.cpu}"
        )
    graph = problem.graph
    times = {
        node.name: tuple(table.ms(graph, node, precision) for precision in (problem.low, problem.high))
        for node in graph.nodes
    }
    gains = np.array([sum(times[name][0] - times[name][1] for name in group.nodes) for group in problem.free])
    sizes = np.array([sum(max(times[name]) for name in group.nodes) for group in problem.free])
    edges = boundaries_of(graph, problem.free)
    counts = [math.prod(graph.shape(one.tensor) or (0,)) for one in edges]
    to_low = [table.boundary["to_low"].ms(0, count) for count in counts]
    to_high = [table.boundary["to_high"].ms(0, count) for count in counts]
    high_ms = sum(high for _, high in times.values())
    mean = np.concatenate([gains, to_low, to_high])
    spread = _MISTRUST * np.concatenate([sizes, to_low, to_high]) + 1e-4 * high_ms
    priced = tuple(
        type(one)(one.tensor, one.producer, one.consumers, there, back)
        for one, there, back in zip(edges, to_low, to_high, strict=True)
    )
    prior = Prior(mean, spread, np.zeros((0, mean.size)), high_ms)
    return Costs(high_ms, gains, priced, "estimated", table.on, None, (), prior)


def shipped(engine: str, cpu: str) -> CostTable:
    """The table that is shipped for an engine on a kind of processor.

    Raises:
        UsageError: There is none; the message lists those that there are.
    """
    for table in _shipped():
        if (table.engine, table.cpu) == (engine, cpu):
            return table
    there = ", ".join(f"{one.engine} on {one.cpu}" for one in _shipped())
    raise UsageError(
        f"nobody has measured what operators cost with {engine} on {cpu}, and nothing is made up: time it on the board "
        f"over SSH, or from a recorded profile (there are tables of {there})"
    )


@cache
def _shipped() -> tuple[CostTable, ...]:
    file = resources.files("edge_sdk.calibration") / "cost_table.json"
    return tables_from(json.loads(file.read_text(encoding="utf-8")), "cost_table.json")


def tables_from(record: Any, where: str) -> tuple[CostTable, ...]:
    """Tables out of JSON.

    Raises:
        ModelError: They are none; `where` is named.
    """
    try:
        if record["schema"] != SCHEMA:
            raise ValueError(f"schema {record['schema']!r} is not {SCHEMA}")
        return tuple(
            CostTable(
                str(one["on"]), str(one["engine"]), str(one["cpu"]),
                {name: {key: _rate(value) for key, value in held.items()} for name, held in one["rates"].items()},
                {key: _rate(one["boundary"][key]) for key in ("to_low", "to_high")},
            )
            for one in record["tables"]
            if one["rates"]["other"] is not None
        )  # fmt: skip
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{where}: no cost tables: {type(error).__name__}: {one_line(error)}") from error


def record_of(table: CostTable) -> dict[str, Any]:
    """A table as JSON has it; `tables_from` reads it."""

    def plain(rate: Rate) -> dict[str, float]:
        return {"mac_ns": rate.mac_ns, "element_ns": rate.element_ns, "call_ns": rate.call_ns}

    return {
        "on": table.on,
        "engine": table.engine,
        "cpu": table.cpu,
        "rates": {name: {key: plain(rate) for key, rate in held.items()} for name, held in table.rates.items()},
        "boundary": {key: plain(rate) for key, rate in table.boundary.items()},
    }


def _rate(held: Mapping[str, Any]) -> Rate:
    values = [float(held[key]) for key in ("mac_ns", "element_ns", "call_ns")]
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise ValueError(f"a rate is three numbers of 0 or more, not {values}")
    return Rate(*values)
