"""What every rewrite keeps: outputs, names, determinism; and what is left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_sdk.calibration.canonical import Canonical, canonical  # noqa: E402
from edge_sdk.calibration.graph import Graph  # noqa: E402
from edge_sdk.calibration.rewrites import Edit, Rewrite, rewrite, rewrites  # noqa: E402

from .small import Small, operators  # noqa: E402


def relu_net() -> Canonical:
    net = Small()
    return canonical(net.model({net.add("Relu", net.conv("x", 3, 4)): (1, 4, 8, 8)}))


def to_sigmoid(graph: Graph, edit: Edit) -> Sequence[str]:
    found = [node for node in graph.nodes if node.op_type == "Relu"]
    for node in found:
        edit.replace(node, edit.node("Sigmoid", node.input, node.output, node.name))
    return [node.name for node in found]


def to_clip(graph: Graph, edit: Edit) -> Sequence[str]:
    found = [node for node in graph.nodes if node.op_type == "Relu"]
    for node in found:
        zero = edit.constant("zero", np.array(0, np.float32))
        edit.replace(node, edit.node("Clip", [node.input[0], zero], node.output, node.name))
    return [node.name for node in found]


class TestARewrite:
    def test_that_changes_an_output_is_left_out_and_said(self) -> None:
        wrong = Rewrite("wrong", "made it wrong", 1, to_sigmoid)
        before = relu_net()
        after = rewrite(before, only=[wrong])
        assert after.applied == ()
        assert after.sha256 == before.sha256
        assert after.refused[0].startswith("wrong was left out: the output 't1' is not the same")

    def test_that_keeps_the_outputs_is_applied_and_named(self) -> None:
        after = rewrite(relu_net(), only=[Rewrite("right", "did it", 1, to_clip)])
        assert [(done.name, done.count, done.nodes, done.words) for done in after.applied] == [
            ("right", 1, ("Relu_t1",), "did it")
        ]
        assert operators(after.graph) == ["Clip", "Conv"]

    def test_for_another_engine_is_left_out(self) -> None:
        assert rewrite(relu_net(), engine="tensorrt", only=[Rewrite("r", "", 1, to_clip)]).applied == ()

    def test_leaves_the_graph_before_it_as_it_was(self) -> None:
        before = relu_net()
        copy = before.model.SerializeToString(deterministic=True)
        rewrite(before, only=[Rewrite("right", "did it", 1, to_clip)])
        assert before.model.SerializeToString(deterministic=True) == copy

    def test_with_nothing_to_do_gives_the_same_graph(self) -> None:
        graph = relu_net().graph
        for one in rewrites():
            assert one(graph) == (graph, None)


class TestAllRewrites:
    def test_are_found_by_being_there_each_with_words_of_its_own(self) -> None:
        names = [one.name for one in rewrites()]
        assert {"hard-swish", "silu", "focus", "pool-cascade", "resize", "fill-channels"} <= set(names)
        assert len(set(names)) == len({one.words for one in rewrites()}) == len(names)

    @pytest.mark.parametrize(
        ("model", "expected"),
        [
            ("yolox_nano/yolox_nano", {"focus": 1, "pool-cascade": 2}),
            ("nanodet_m/nanodet_m", {"resize": 4, "fill-channels": 12}),
        ],
    )
    def test_of_a_real_detector_keep_its_outputs_and_are_the_same_twice(
        self, shared, model: str, expected: dict[str, int]
    ) -> None:
        form = canonical(shared / f"models/{model}.onnx")
        once = rewrite(form)
        assert {done.name: done.count for done in once.applied} == expected
        assert once.refused == ()
        assert once.difference.worst.max_rel < 1e-4
        assert rewrite(form).sha256 == once.sha256
        again = canonical(once.model)
        assert rewrite(again).applied == ()  # nothing is left to do

    def test_of_picodet_write_each_hard_swish_as_a_gate(self, shared) -> None:
        form = canonical(shared / "models/picodet_s/picodet_s_320_coco.onnx")
        after = rewrite(form)
        assert next(done.count for done in after.applied if done.name == "hard-swish") == 87
        assert not any(node.op_type in ("Clip", "Div") for node in after.graph.nodes)
        assert after.graph.outputs == form.graph.outputs
