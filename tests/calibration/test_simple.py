"""The rule that leaves the output layers in float."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.calibration.engines.base import named
from edge_sdk.calibration.graph import Graph, sha256_of
from edge_sdk.calibration.groups import make_groups
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.simple import head_mask


def two_heads(*, pinned: dict[str, str] | None = None) -> Problem:
    """Conv a feeds conv b and the output conv c; b feeds the output conv d, whose values are squashed."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=(8, 3 if one == "a" else 8, 1, 1)).astype(np.float32), f"w{one}")
        for one in "abcd"
    ]
    nodes = [
        helper.make_node("Conv", ["x", "wa"], ["ta"], "a"),
        helper.make_node("Conv", ["ta", "wb"], ["tb"], "b"),
        helper.make_node("Conv", ["ta", "wc"], ["tc"], "c"),
        helper.make_node("Conv", ["tb", "wd"], ["td"], "d"),
        helper.make_node("Sigmoid", ["td"], ["te"], "e"),
    ]
    shape = [1, 8, 4, 4]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("tc", "te")], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    view, engine = Graph(model), named("onnxruntime")
    groups = make_groups(view, engine.rules)
    ranges = dict.fromkeys(("x", "ta", "tb", "tc", "td", "te"), (-4.0, 4.0))
    return Problem(view, sha256_of(model), engine, "x86", "generic-x86_64", groups, ranges, pinned=pinned or {})


def names(problem: Problem, mask: np.ndarray) -> set[str]:
    return {node for node in problem.nodes(mask) if node in "abcd"}


def test_the_last_convolution_before_each_output_stays_in_float() -> None:
    problem = two_heads()
    assert names(problem, problem.on) == {"a", "b", "c", "d"}
    assert names(problem, head_mask(problem)) == {"a", "b"}


def test_a_pinned_output_layer_stays_as_it_is_pinned() -> None:
    problem = two_heads()
    group = next(one.name for one in problem.groups if "c" in one.nodes)
    pinned = two_heads(pinned={group: "int8"})
    assert names(pinned, head_mask(pinned)) == {"a", "b", "c"}
