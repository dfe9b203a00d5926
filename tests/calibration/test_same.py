"""Whether two models say the same."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.errors import ModelError, UsageError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_sdk.calibration import same  # noqa: E402
from edge_sdk.calibration.same import check_same  # noqa: E402

from .rewrites.small import Small  # noqa: E402

FEEDS = {"x": np.random.default_rng(0).normal(0, 1, (1, 3, 8, 8)).astype(np.float32)}


def two_outputs(scale: float = 1.0, shift: float = 0.0) -> onnx.ModelProto:
    net = Small()
    first = net.add("Relu", "x")
    second = net.add("Add", net.add("Mul", first, net.constant(scale)), net.constant(shift))
    return net.model({first: (1, 3, 8, 8), second: (1, 3, 8, 8)})


class TestTwoModels:
    def test_that_are_one_differ_by_nothing(self) -> None:
        difference = check_same(two_outputs(), two_outputs(), FEEDS)
        assert [row.max_abs for row in difference.outputs] == [0, 0]
        assert difference.worst.snr_db == float("inf")

    def test_that_differ_by_rounding_are_the_same_and_measured(self) -> None:
        difference = check_same(two_outputs(), two_outputs(scale=1 + 1e-5), FEEDS)
        assert difference.worst.max_rel == pytest.approx(1e-5, rel=0.05)
        assert difference.worst.snr_db == pytest.approx(100, abs=1)

    def test_that_differ_by_more_are_told_apart_by_the_first_output_that_does(self) -> None:
        with pytest.raises(ModelError, match="output 't2' is not the same"):
            check_same(two_outputs(), two_outputs(shift=0.01), FEEDS)

    def test_are_compared_on_all_feeds(self) -> None:
        net = Small()
        clipped = net.model({net.add("Clip", "x", net.constant(-9), net.constant(9)): (1, 3, 8, 8)})
        net = Small()
        plain = net.model({net.add("Identity", "x"): (1, 3, 8, 8)})
        clipped.graph.output[0].name = clipped.graph.node[0].output[0] = plain.graph.output[0].name
        check_same(plain, clipped, FEEDS)
        with pytest.raises(ModelError, match="not the same"):
            check_same(plain, clipped, [FEEDS, {"x": FEEDS["x"] * 10}])

    def test_may_differ_in_what_the_second_leaves_out_but_not_in_what_it_adds(self) -> None:
        fewer = two_outputs()
        del fewer.graph.output[1]
        assert [row.output for row in check_same(two_outputs(), fewer, FEEDS).outputs] == ["t0"]
        with pytest.raises(ModelError, match="'t2' is new"):
            check_same(fewer, two_outputs(), FEEDS)

    def test_that_are_not_numbers_in_other_places_are_not_the_same(self) -> None:
        def root(operator: str) -> onnx.ModelProto:
            net = Small()
            return net.model({net.add(operator, "x"): (1, 3, 8, 8)})

        check_same(root("Sqrt"), root("Sqrt"), FEEDS)  # of negative numbers there is none, in both
        with pytest.raises(ModelError, match="not the same"):
            check_same(root("Sqrt"), root("Abs"), FEEDS)

    def test_need_feeds(self) -> None:
        with pytest.raises(UsageError, match="feeds"):
            check_same(two_outputs(), two_outputs(), [])

    def test_that_the_engine_cannot_run_are_an_error_of_the_model(self) -> None:
        with pytest.raises(ModelError, match="cannot run"):
            check_same(two_outputs(), two_outputs(), {"x": FEEDS["x"][:, :2]})


class TestALoopWithoutEnd:
    def test_is_stopped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(same, "_LIMIT_S", 0.3)
        helper, kind = onnx.helper, onnx.TensorProto
        scalar = [helper.make_tensor_value_info(name, kind.INT64, []) for name in ("i", "n")]
        truth = [helper.make_tensor_value_info(name, kind.BOOL, []) for name in ("c", "d")]
        values = [helper.make_tensor_value_info(name, kind.FLOAT, [1, 3, 8, 8]) for name in ("v", "w", "x", "y")]
        body = helper.make_graph(
            [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Sin", ["v"], ["w"])],
            "body",
            [scalar[0], truth[0], values[0]],
            [truth[1], values[1]],
        )
        graph = helper.make_graph(
            [helper.make_node("Loop", ["n", "t", "x"], ["y"], body=body)],
            "forever",
            [values[2]],
            [values[3]],
            [
                onnx.numpy_helper.from_array(np.array(2**62), "n"),
                onnx.numpy_helper.from_array(np.array(True), "t"),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        with pytest.raises(ModelError, match="still running"):
            check_same(model, model, FEEDS)
