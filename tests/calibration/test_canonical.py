"""The canonical form: one meaning, one spelling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import ModelError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto  # noqa: E402

from edge_sdk.calibration.canonical import OPSET, canonical, noise  # noqa: E402
from edge_sdk.calibration.graph import Graph, model_bytes  # noqa: E402

from .rewrites.small import Small, operators  # noqa: E402


def normalised(net: Small, x: str, channels: int) -> str:
    values = [net.constant(net.random.uniform(0.5, 1.5, channels)) for _ in range(4)]
    return str(net.add("BatchNormalization", x, *values))


def untidy(opset: int = 11) -> onnx.ModelProto:
    """A convolution with batch norm and idle nodes around, weights among the inputs, no names, a dead branch."""
    net = Small()
    x = net.add("Identity", normalised(net, net.conv("x", 3, 4), 4))
    x = net.add("Transpose", net.add("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
    net.add("Sigmoid", x)
    model = net.model({net.add("Relu", x): (1, 4, 8, 8)}, opset=opset)
    for node in model.graph.node:
        node.name = ""
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


class TestTheCanonicalForm:
    def test_folds_and_cuts_all_that_is_idle(self) -> None:
        result = canonical(untidy())
        assert operators(result.graph) == ["Conv", "Relu"]
        assert result.graph.inputs == ("x",)
        assert result.graph.opset == OPSET

    def test_says_what_it_did(self) -> None:
        notes = " ".join(canonical(untidy()).notes)
        for said in ("listed as inputs", "no name of their own", "opset 11 was raised to 17", "checked on noise"):
            assert said in notes

    def test_is_the_same_bytes_each_time_and_its_own_canonical_form(self) -> None:
        once, again = canonical(untidy()), canonical(untidy())
        assert once.sha256 == again.sha256
        assert canonical(once.model).sha256 == once.sha256

    def test_leaves_what_it_was_given_as_it_was(self) -> None:
        model = untidy()
        canonical(model)
        assert model == untidy()

    def test_keeps_the_names_of_nodes_tensors_and_metadata(self) -> None:
        net = Small()
        kept = net.model({net.add("Relu", net.conv("x", 3, 4)): (1, 4, 8, 8)}, opset=12)
        onnx.helper.set_model_props(kept, {"names": "{0: 'cat'}"})
        result = canonical(kept)
        assert [node.name for node in result.graph.nodes] == [node.name for node in kept.graph.node]
        assert result.graph.producer(kept.graph.node[0].output[0]) is not None
        assert {entry.key: entry.value for entry in result.model.metadata_props} == {"names": "{0: 'cat'}"}

    def test_gives_each_of_two_nodes_of_one_name_its_own(self) -> None:
        net = Small()
        model = net.model({net.add("Sigmoid", net.add("Relu", "x")): (1, 3, 8, 8)})
        for node in model.graph.node:
            node.name = "twin"
        assert [node.name for node in canonical(model).graph.nodes] == ["twin", "twin_2"]

    def test_states_the_shape_of_every_tensor(self) -> None:
        graph = canonical(untidy()).graph
        assert all(graph.shape(name) for node in graph.nodes for name in node.output)
        assert len(graph.model.graph.value_info) == 1

    def test_runs_on_the_feeds_that_it_is_given(self) -> None:
        result = canonical(untidy(), feeds={"x": np.ones((1, 3, 8, 8), np.float32)})
        assert not any("noise" in note for note in result.notes)
        assert result.difference.worst.max_rel < 1e-5

    def test_is_written_whole(self, tmp_path: Path) -> None:
        result = canonical(untidy())
        result.save(tmp_path / "out.onnx")
        assert (tmp_path / "out.onnx").read_bytes() == model_bytes(result.model)

    @pytest.mark.parametrize(
        "name",
        [
            "fastestdet/FastestDet",
            "nanodet_m/nanodet_m",
            "ultraface/version-RFB-320",
            "yunet/yunet_n_320_320",
            "yolox_nano/yolox_nano",
        ],
    )
    def test_of_real_detectors_says_the_same_and_is_stable(self, shared, name: str) -> None:
        result = canonical(shared / f"models/{name}.onnx")
        assert result.difference.worst.max_abs < 2e-4
        assert canonical(result.model).sha256 == result.sha256

    def test_of_a_real_detector_with_open_axes_needs_a_shape(self, shared) -> None:
        path = shared / "models/yunet/yunet_n_dynamic.onnx"
        with pytest.raises(ModelError, match=r"\[batch, 3, height, width\]"):
            canonical(path)
        fixed = canonical(path, shapes={"input": (1, 3, 320, 320)})
        assert not any(node.op_type in ("Shape", "Gather") for node in fixed.graph.nodes)


class TestWhatCannotBeCanonical:
    def test_an_operator_that_no_engine_knows(self) -> None:
        model = untidy(17)
        model.graph.node[-1].op_type = "Frobnicate"
        with pytest.raises(ModelError, match="Frobnicate"):
            canonical(model)

    def test_an_opset_that_cannot_be_raised(self) -> None:
        net = Small()
        model = net.model({net.add("Pad", "x", paddings=[0, 0, 1, 1, 0, 0, 1, 1]): (1, 3, 10, 10)}, opset=1)
        with pytest.raises(ModelError, match="export it again with opset 17"):
            canonical(model)

    def test_a_few_bytes_that_ask_for_all_memory(self) -> None:
        net = Small()
        huge = net.add("ConstantOfShape", net.constant([1 << 20, 1 << 20], np.int64))
        model = net.model({net.add("Mul", net.add("ReduceSum", huge), "x"): (1, 3, 8, 8)})
        with pytest.raises(ModelError, match="more than 2 GiB"):
            canonical(model)

    def test_many_constants_that_do_so_together(self) -> None:
        net = Small()
        x = "x"
        for value in range(5):
            filled = net.constant([value + 1])
            net.nodes.append(
                onnx.helper.make_node(
                    "ConstantOfShape",
                    [net.constant([1 << 14, 1 << 13], np.int64)],
                    [f"big{value}"],
                    name=f"big{value}",
                    value=onnx.numpy_helper.from_array(np.array([value], np.float32)),
                )
            )
            x = net.add("Add", net.add("Mul", net.add("ReduceSum", f"big{value}"), filled), x)
        with pytest.raises(ModelError, match="constants would take"):
            canonical(net.model({x: (1, 3, 8, 8)}))

    def test_shapes_that_contradict_each_other(self) -> None:
        net = Small()
        y = net.add("Add", net.conv("x", 3, 4), net.conv("x", 3, 5))
        with pytest.raises(ModelError):
            canonical(net.model({y: (1, 4, 8, 8)}))


class TestTwoInputs:
    def test_stay_two(self) -> None:
        net = Small()
        y = net.add("Mul", net.conv("x", 3, 4), "scale")
        result = canonical(net.model({y: (1, 4, 8, 8)}, {"x": (1, 3, 8, 8), "scale": (1, 1, 1, 1)}))
        assert result.graph.inputs == ("x", "scale")


class TestSixteenBits:
    def test_are_held_in_floats_and_said(self) -> None:
        net = Small()
        weights = net.constant(net.random.normal(0, 1, (4, 3, 3, 3)), np.float16)
        model = net.model({net.add("Conv", "x", weights): (1, 4, 6, 6)})
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
        result = canonical(model)
        assert result.graph.dtypes["x"] == np.float32
        assert any("16-bit" in note for note in result.notes)

    def test_are_held_in_floats_where_weights_are_listed_as_inputs(self) -> None:
        net = Small()
        weights = net.constant(net.random.normal(0, 1, (4, 3, 3, 3)), np.float16)
        model = net.model({net.add("Conv", "x", weights): (1, 4, 6, 6)})
        model.graph.input.append(onnx.helper.make_tensor_value_info(weights, TensorProto.FLOAT16, (4, 3, 3, 3)))
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
        assert canonical(model).graph.inputs == ("x",)

    def test_as_a_store_for_weights_alone_lose_their_casts(self) -> None:
        net = Small()
        weights = net.constant(net.random.normal(0, 1, (4, 3, 3, 3)), np.float16)
        y = net.add("Conv", "x", net.add("Cast", weights, to=TensorProto.FLOAT))
        assert operators(canonical(net.model({y: (1, 4, 6, 6)})).graph) == ["Conv"]


class TestNoise:
    def test_fits_every_input_and_is_the_same_each_time(self) -> None:
        graph = Graph(untidy_named())
        first, second = noise(graph), noise(graph)
        assert first["x"].shape == (1, 3, 8, 8)
        assert np.array_equal(first["x"], second["x"])


def untidy_named() -> onnx.ModelProto:
    net = Small()
    return net.model({net.add("Relu", "x"): (1, 3, 8, 8)})
