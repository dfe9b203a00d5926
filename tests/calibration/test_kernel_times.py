"""Whose time a kernel is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_sdk.backends.base import Layer
from edge_sdk.calibration.graph import Graph
from edge_sdk.calibration.kernel_times import spent


@pytest.fixture
def graph() -> Graph:
    """x -> A -> a -> B -> b/c -> C -> y: three nodes in a row, of which the last has no choice."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="A"),
        helper.make_node("Relu", ["a"], ["b/c"], name="B"),
        helper.make_node("Relu", ["b/c"], ["y"], name="C"),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", value[:1], value[1:]), opset_imports=[helper.make_opsetid("", 17)]
    )
    onnx.checker.check_model(model)
    return Graph(model)


def _layers(**times: float) -> list[Layer]:
    return [Layer((name.replace("__", "/"),), "cpu", None, ms) for name, ms in times.items()]


def test_nodes_conversions_and_what_came_with_them_find_their_owners(graph: Graph) -> None:
    layers = _layers(
        A=1.0, ReorderOutput=0.1, a__QuantizeLinear=0.2, Transpose=0.05, B=2.0, b__c__DequantizeLinear=0.3,
        ReorderInput=0.1, C=4.0,
    )  # fmt: skip
    found = spent(graph, {"A": 0, "B": 1}, {"a": 0, "b/c": 1}, np.array([False, True]), layers)
    assert found.group_ms.tolist() == [1.0, 2.0]
    assert found.boundary_ms == pytest.approx([0.35, 0.4])
    assert found.rest_ms == 4.0
    assert found.total_ms == pytest.approx(7.75)


def test_a_nameless_kernel_between_two_nodes_is_the_later_ones(graph: Graph) -> None:
    found = spent(graph, {"A": 0, "B": 1}, {"a": 0}, np.zeros(2, np.bool_), _layers(A=1.0, Transpose=0.5, B=2.0))
    assert found.group_ms.tolist() == [1.0, 2.5]
    assert np.isnan(found.boundary_ms).all()


def test_a_conversion_within_a_group_is_the_groups(graph: Graph) -> None:
    found = spent(graph, {"A": 0, "B": 0}, {}, np.ones(1, np.bool_), _layers(A=1.0, a__QuantizeLinear=0.5, B=2.0))
    assert found.group_ms.tolist() == [3.5]


def test_layers_without_times_and_a_stranger_at_the_end_cost_what_is_known(graph: Graph) -> None:
    layers = [Layer(("A",), "cpu", None, None), *_layers(B=1.0, Stranger=0.25)]
    found = spent(graph, {"A": 0, "B": 1}, {}, np.zeros(2, np.bool_), layers)
    assert found.group_ms.tolist() == [0.0, 1.25]


def test_every_kernel_is_counted_once(graph: Graph) -> None:
    names = ["Transpose", "A", "a/QuantizeLinear", "Odd", "B", "b/c/DequantizeLinear", "ReorderInput", "C", "x/Cast"]
    layers = [Layer((name,), "cpu", None, float(2**place)) for place, name in enumerate(names)]
    found = spent(graph, {"A": 0, "B": 1}, {"a": 0, "b/c": 1, "x": 2}, np.zeros(2, np.bool_), layers)
    assert found.total_ms == 2 ** len(names) - 1
    assert found.scaled(0.5).total_ms == found.total_ms / 2
