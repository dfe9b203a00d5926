"""Shipped tables: what they say is marked as an estimate, and there is none of what nobody measured."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest

from edge_sdk.calibration.cost_table import (
    CostTable,
    Rate,
    elements,
    estimated_costs,
    node_class,
    record_of,
    shipped,
    tables_from,
)
from edge_sdk.calibration.costs import Build, crossings, design, refit
from edge_sdk.calibration.outcome import Timed
from edge_sdk.calibration.problem import Problem
from edge_sdk.errors import ModelError, UsageError

from .test_costs import network, problem_of

TABLE = CostTable(
    "a machine", "onnxruntime", "x86",
    {
        "dense Conv": {"fp32": Rate(0.1, 0.0, 0.0), "int8": Rate(0.06, 0.0, 0.0)},
        "pointwise Conv": {"fp32": Rate(0.1, 0.0, 0.0), "int8": Rate(0.05, 0.0, 100.0)},
        "Relu": {"fp32": Rate(0.0, 0.0, 0.0), "int8": Rate(0.0, 0.0, 0.0)},
        "other": {"fp32": Rate(0.0, 1.0, 0.0), "int8": Rate(0.0, 2.0, 0.0)},
    },
    {"to_low": Rate(0.0, 0.8, 0.0), "to_high": Rate(0.0, 0.7, 50.0)},
)  # fmt: skip


@pytest.fixture(scope="module")
def problem() -> Problem:
    return problem_of(network())


def test_a_table_prices_operators_and_boundaries_by_their_size(problem: Problem) -> None:
    costs = estimated_costs(problem, TABLE)
    pixels = 8 * 8 * 8
    place = {node: number for number, group in enumerate(problem.free) for node in group.nodes}
    assert costs.gain_ms[place["conv1"]] == pytest.approx((-0.05 * pixels * 8 + 100) / 1e6)
    assert all(one.to_low_ms == pytest.approx(0.8 * pixels / 1e6) for one in costs.boundaries)
    assert all(one.to_high_ms == pytest.approx((0.7 * pixels + 50) / 1e6) for one in costs.boundaries)
    mask = design(problem, 6, 0)[5]
    there, back = crossings(costs.boundaries, mask)
    low = problem.nodes(mask)
    wanted = (
        sum(TABLE.ms(problem.graph, node, "int8" if node.name in low else "fp32") for node in problem.graph.nodes)
        + (there.sum() * 0.8 * pixels + back.sum() * (0.7 * pixels + 50)) / 1e6
    )
    assert costs.ms(mask) == pytest.approx(wanted)


def test_an_estimate_says_so_and_of_which_machine(problem: Problem) -> None:
    costs = estimated_costs(problem, TABLE)
    assert (costs.method, costs.on, costs.error) == ("estimated", "a machine", None)


def test_builds_turn_an_estimate_into_what_was_measured(problem: Problem) -> None:
    masks = design(problem, 4, 0)[1:]
    builds = [Build(tuple(mask.tolist()), Timed(8.0, 0.8, 0.79, 0.81, "recorded")) for mask in masks]
    costs = refit(estimated_costs(problem, TABLE), builds)
    assert costs.method == "recorded"
    assert costs.error is not None
    before = [abs(estimated_costs(problem, TABLE).ratio(mask) - 0.8) for mask in masks]
    assert np.mean([abs(costs.ratio(mask) - 0.8) for mask in masks]) < np.mean(before)


def test_classes_are_of_what_a_kernel_is_made_for(problem: Problem) -> None:
    found = {node.name: node_class(problem.graph, node) for node in problem.graph.nodes}
    assert found["conv0"] == "dense Conv"
    assert found["conv1"] == "pointwise Conv"
    assert found["relu0"] == "Relu"
    assert elements(problem.graph, problem.graph.node("add2")) == 512


def test_what_nobody_measured_has_no_table(problem: Problem) -> None:
    with pytest.raises(UsageError, match="nobody has measured what operators cost with tensorrt on orin"):
        shipped("tensorrt", "orin")
    with pytest.raises(UsageError, match="nobody has measured"):
        shipped("onnxruntime", "arm")
    other = CostTable("a board", "onnxruntime", "arm", TABLE.rates, TABLE.boundary)
    with pytest.raises(UsageError, match="the cost table is of onnxruntime on arm"):
        estimated_costs(problem, other)


def test_the_shipped_table_is_whole_and_knows_what_detectors_are_made_of(problem: Problem) -> None:
    table = shipped("onnxruntime", "x86")
    assert "onnxruntime" in table.on
    assert "1 thread" in table.on
    for name in ("dense Conv", "pointwise Conv", "depthwise Conv", "stem Conv", "Sigmoid gate", "Add", "other"):
        assert set(table.rates[name]) == {"fp32", "int8"}
    assert all(rate.element_ns > 0 or rate.call_ns > 0 for rate in table.boundary.values())
    costs = estimated_costs(problem)
    assert math.isfinite(costs.ratio(problem.on))
    assert costs.ratio(problem.on) > 0


def test_a_table_survives_json() -> None:
    assert tables_from({"schema": 1, "tables": [record_of(TABLE)]}, "here") == (TABLE,)


@pytest.mark.parametrize(
    "wrong",
    [
        None, [], {}, {"schema": 2, "tables": []}, {"schema": 1, "tables": [{}]}, {"schema": 1, "tables": 3},
        ("rates", {}), ("rates", 5), ("boundary", {}), ("on", None),
        ("rates", {"other": {"fp32": {"mac_ns": -1, "element_ns": 0, "call_ns": 0}}}),
        ("rates", {"other": {"fp32": {"mac_ns": float("nan"), "element_ns": 0, "call_ns": 0}}}),
        ("rates", {"other": {"fp32": {"mac_ns": 0}}}),
    ],
)  # fmt: skip
def test_a_damaged_table_is_an_error(wrong: Any) -> None:
    record: Any = {"schema": 1, "tables": [copy.deepcopy(record_of(TABLE))]}
    if isinstance(wrong, tuple):
        record["tables"][0][wrong[0]] = wrong[1]
        if wrong == ("on", None):
            del record["tables"][0]["on"]
    else:
        record = wrong
    with pytest.raises(ModelError, match="here: no cost tables"):
        tables_from(record, "here")
