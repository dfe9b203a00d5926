"""The view of a graph: who makes and takes what, in which order, of which shape, with how much work."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import ModelError, UsageError

onnx = pytest.importorskip("onnx")

from edge_sdk.calibration.graph import Graph, model_bytes, reads, sha256_of, sorted_topologically  # noqa: E402

from .rewrites.small import Small  # noqa: E402


def diamond() -> onnx.ModelProto:
    net = Small()
    stem = net.conv("x", 3, 4)
    left, right = net.add("Relu", stem), net.add("Sigmoid", stem)
    both = net.add("Mul", left, right)
    return net.model({both: (1, 4, 8, 8)})


class TestTheView:
    def test_knows_who_makes_and_who_reads_a_tensor(self) -> None:
        graph = Graph(diamond())
        stem = graph.nodes[0].output[0]
        assert graph.producer(stem) is graph.nodes[0]
        assert [node.op_type for node in graph.consumers(stem)] == ["Relu", "Sigmoid"]
        assert graph.producer("x") is None
        assert graph.consumers(graph.outputs[0]) == ()

    def test_counts_a_reader_once_that_reads_twice(self) -> None:
        net = Small()
        model = net.model({net.add("Mul", "x", "x"): (1, 3, 8, 8)})
        assert len(Graph(model).consumers("x")) == 1

    def test_has_one_consumer_only_where_the_tensor_is_no_output(self) -> None:
        net = Small()
        inner = net.add("Relu", "x")
        last = net.add("Sigmoid", inner)
        assert Graph(net.model({last: (1, 3, 8, 8)})).only_consumer(inner) is not None
        assert Graph(net.model({last: (1, 3, 8, 8), inner: (1, 3, 8, 8)})).only_consumer(inner) is None

    def test_knows_shapes_and_dtypes_of_inner_tensors_and_constants(self) -> None:
        graph = Graph(diamond())
        assert graph.shape(graph.nodes[1].output[0]) == (1, 4, 8, 8)
        assert graph.shape("k0") == (4, 3, 3, 3)
        assert graph.dtypes["k0"] == np.float32

    def test_gives_constants_that_cannot_be_written_to(self) -> None:
        values = Graph(diamond()).constant("k0")
        assert values is not None
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1

    def test_counts_what_a_subgraph_reads_from_outside_as_read(self) -> None:
        value = onnx.helper.make_tensor_value_info("y", 1, [1, 3, 8, 8])
        branches = [
            onnx.helper.make_graph([onnx.helper.make_node(operator, ["x"], ["y"])], operator, [], [value])
            for operator in ("Relu", "Sigmoid")
        ]
        node = onnx.helper.make_node("If", ["c"], ["z"], then_branch=branches[0], else_branch=branches[1])
        assert set(reads(node)) == {"c", "x"}

    def test_refuses_a_model_whose_nodes_share_a_name(self) -> None:
        model = diamond()
        model.graph.node[1].name = model.graph.node[2].name
        with pytest.raises(UsageError, match="name of its own"):
            Graph(model)

    def test_refuses_to_name_a_node_that_is_not_there(self) -> None:
        with pytest.raises(UsageError, match="no node 'nobody'"):
            Graph(diamond()).node("nobody")


class TestWork:
    @pytest.mark.parametrize(("group", "expected"), [(1, 64 * 4 * 4 * 9), (4, 64 * 4 * 9)])
    def test_of_a_convolution_is_one_product_for_each_weight_and_place(self, group: int, expected: int) -> None:
        net = Small()
        model = net.model({net.conv("x", 4, 4, group=group): (1, 4, 8, 8)}, {"x": (1, 4, 8, 8)})
        assert Graph(model).macs(model.graph.node[0]) == expected

    def test_of_a_transposed_convolution_is_one_for_each_weight_and_input_place(self) -> None:
        net = Small()
        y = net.add("ConvTranspose", "x", net.weights(3, 5, 2, 2), strides=[2, 2])
        assert Graph(net.model({y: (1, 5, 16, 16)})).macs(net.nodes[0].name) == 3 * 64 * 5 * 4

    def test_of_matrix_products_is_rows_by_columns_by_depth(self) -> None:
        net = Small()
        y = net.add("MatMul", "x", net.weights(8, 6))
        z = net.add("Gemm", "v", net.weights(7, 2), transA=1)
        graph = Graph(net.model({y: (1, 3, 8, 6), z: (5, 2)}, {"x": (1, 3, 8, 8), "v": (7, 5)}))
        assert [graph.macs(node) for node in graph.nodes] == [3 * 8 * 6 * 8, 5 * 2 * 7]

    def test_of_everything_else_is_none(self) -> None:
        graph = Graph(diamond())
        assert [graph.macs(node) for node in graph.nodes[1:]] == [0, 0, 0]

    def test_of_a_real_detector_is_what_its_authors_state(self, shared) -> None:
        from edge_sdk.calibration.canonical import canonical

        graph = canonical(shared / "models/yolox_nano/yolox_nano.onnx").graph
        # YOLOX's readme: 1.08 GFLOPs, two for each multiply-accumulate, activations counted in.
        assert 2 * sum(graph.macs(node) for node in graph.nodes) == pytest.approx(1.08e9, rel=0.05)


class TestTopologicalOrder:
    @given(st.integers(0, 1000), st.integers(2, 30))
    def test_holds_for_any_shuffled_graph(self, seed: int, count: int) -> None:
        chance = random.Random(seed)  # noqa: S311
        nodes = [
            onnx.helper.make_node("Sum", chance.sample(["x", *(f"t{i}" for i in range(place))], 1), [f"t{place}"])
            for place in range(count)
        ]
        chance.shuffle(nodes)
        known = {"x"}
        for node in sorted_topologically(nodes, ["x"]):
            assert set(node.input) <= known
            known.update(node.output)
        assert len(known) == count + 1

    def test_leaves_sorted_nodes_as_they_are(self) -> None:
        nodes = list(diamond().graph.node)
        assert sorted_topologically(nodes, ["x", "k0", "k1"]) == nodes

    def test_refuses_a_circle_and_names_a_node_in_it(self) -> None:
        nodes = [onnx.helper.make_node("Relu", ["b"], ["a"], name="first"), onnx.helper.make_node("Relu", ["a"], ["b"])]
        with pytest.raises(ModelError, match=r"circle.*'first'"):
            sorted_topologically(nodes, ["x"])

    def test_refuses_a_tensor_that_nothing_makes(self) -> None:
        with pytest.raises(ModelError, match="reads 'ghost'"):
            sorted_topologically([onnx.helper.make_node("Relu", ["ghost"], ["a"])], ["x"])


class TestBytes:
    def test_of_the_same_model_are_the_same(self) -> None:
        assert model_bytes(diamond()) == model_bytes(diamond())
        assert sha256_of(diamond()) == sha256_of(diamond())
