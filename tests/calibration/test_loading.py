"""Opening model files that nobody has checked."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import ModelError, ModelNotFoundError

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, external_data_helper, helper  # noqa: E402

from edge_sdk.calibration.loading import checked, load, widened  # noqa: E402

from .rewrites.small import Small  # noqa: E402


def plain() -> onnx.ModelProto:
    net = Small()
    return net.model({net.add("Relu", net.conv("x", 3, 4)): (1, 4, 8, 8)})


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def external(folder: Path, **facts: object) -> Path:
    """A model whose first weights lie in weights.bin beside it, described by these facts."""
    model = plain()
    tensor = model.graph.initializer[0]
    (folder / "weights.bin").write_bytes(tensor.raw_data)
    external_data_helper.set_external_data(tensor, **{"location": "weights.bin", **facts})
    tensor.ClearField("raw_data")
    return saved(model, folder)


class TestAFile:
    def test_that_is_whole_is_read(self, tmp_path: Path) -> None:
        assert load(saved(plain(), tmp_path)).graph.node[0].op_type == "Conv"

    def test_that_is_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "model.onnx")
        with pytest.raises(ModelError, match="is no file"):
            load(tmp_path / "model.onnx")

    def test_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFoundError, match=r"nothing\.onnx"):
            load(tmp_path / "nothing.onnx")

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "empty"),
            (b"PK\x03\x04" + bytes(20), "zip archive"),
            (b"hello, I am a readme\n", "text file"),
            (b"\x08\x07\x12\x07pytorch", "truncated"),
        ],
    )
    def test_that_is_no_model_is_said_to_be_what_it_is(self, tmp_path: Path, content: bytes, said: str) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=said):
            load(path)

    def test_cut_off_anywhere_is_refused(self, tmp_path: Path) -> None:
        data = plain().SerializeToString()
        path = tmp_path / "model.onnx"
        for length in range(0, len(data) - 1, 37):
            path.write_bytes(data[:length])
            with pytest.raises(ModelError):
                load(path)

    def test_larger_than_a_message_can_be_is_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        with path.open("wb") as file:
            file.truncate(3 << 30)  # sparse
        with pytest.raises(ModelError, match="3072 MiB"):
            load(path)


class TestExternalWeights:
    def test_beside_the_model_are_read_into_it(self, tmp_path: Path) -> None:
        assert load(external(tmp_path)) == checked(plain())

    @pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "a/../../weights.bin", "..\\weights.bin"])
    def test_outside_its_folder_are_refused(self, tmp_path: Path, location: str) -> None:
        (tmp_path / "inside").mkdir()
        (tmp_path / "weights.bin").write_bytes(bytes(432))
        with pytest.raises(ModelError, match="no file in the model's folder"):
            load(external(tmp_path / "inside", location=location))

    def test_behind_a_link_that_leads_out_are_refused(self, tmp_path: Path) -> None:
        inside = tmp_path / "inside"
        inside.mkdir()
        path = external(inside)
        (inside / "weights.bin").rename(tmp_path / "weights.bin")
        (inside / "weights.bin").symlink_to(tmp_path / "weights.bin")
        with pytest.raises(ModelError, match="no file in the model's folder"):
            load(path)

    def test_that_are_not_there_are_asked_for(self, tmp_path: Path) -> None:
        path = external(tmp_path)
        (tmp_path / "weights.bin").unlink()
        with pytest.raises(ModelError, match="put it beside the model"):
            load(path)

    @pytest.mark.parametrize("facts", [{"offset": 400}, {"length": 10}, {"offset": -4}, {"length": 1 << 40}])
    def test_of_a_wrong_length_are_refused(self, tmp_path: Path, facts: dict[str, int]) -> None:
        with pytest.raises(ModelError, match=r"want 432 bytes|larger than 2 GiB"):
            load(external(tmp_path, **facts))

    def test_need_the_models_path(self) -> None:
        model = plain()
        external_data_helper.set_external_data(model.graph.initializer[0], "weights.bin")
        with pytest.raises(ModelError, match="by its path"):
            checked(model)


class TestAHostileModel:
    def test_whose_nodes_go_in_a_circle_is_refused(self) -> None:
        model = plain()
        model.graph.node[0].input[0] = model.graph.node[1].output[0]
        with pytest.raises(ModelError, match="circle"):
            checked(model)

    def test_that_lacks_an_initializer_is_refused(self) -> None:
        model = plain()
        del model.graph.initializer[0]
        with pytest.raises(ModelError, match="'k0', which nothing in the model makes"):
            checked(model)

    def test_whose_weights_are_shorter_than_stated_is_refused(self) -> None:
        model = plain()
        model.graph.initializer[0].raw_data = b"1234"
        with pytest.raises(ModelError, match="not a valid ONNX model"):
            checked(model)

    def test_whose_weights_have_a_negative_length_is_refused(self) -> None:
        model = plain()
        model.graph.initializer[0].dims[0] = -4
        with pytest.raises(ModelError, match="shape"):
            checked(model)

    def test_whose_functions_would_make_millions_of_nodes_is_refused_at_once(self) -> None:
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("bomb", 1)]
        functions = []
        for level in range(20):
            name, inner = f"f{level}", ("Relu", "") if level == 0 else (f"f{level - 1}", "bomb")
            nodes = [helper.make_node(inner[0], [f"v{i}"], [f"v{i + 1}"], domain=inner[1]) for i in range(10)]
            functions.append(helper.make_function("bomb", name, ["v0"], ["v10"], nodes, opsets))
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("f19", ["x"], ["y"], domain="bomb")], "g", value[:1], value[1:])
        model = helper.make_model(graph, functions=functions, opset_imports=opsets)
        with pytest.raises(ModelError, match="nodes, more than"):
            checked(model)

    def test_in_any_order_of_nodes_is_sorted(self) -> None:
        model = plain()
        nodes = [type(node).FromString(node.SerializeToString()) for node in reversed(model.graph.node)]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        assert [node.op_type for node in checked(model).graph.node] == ["Conv", "Relu"]


class TestAQuantizedModel:
    def test_is_refused_with_what_it_holds_and_what_to_give(self) -> None:
        net = Small()
        scale, zero = net.constant(0.1), net.constant(0, np.uint8)
        y = net.add("DequantizeLinear", net.add("QuantizeLinear", "x", scale, zero), scale, zero)
        with pytest.raises(ModelError, match=r"1 DequantizeLinear, 1 QuantizeLinear.*Give the float model"):
            checked(net.model({y: (1, 3, 8, 8)}))


class TestSixteenBits:
    def test_become_floats_of_the_same_values(self) -> None:
        net = Small()
        half = net.constant(np.array([0.1, 65504, 6e-8]), np.float16)
        model = net.model({net.add("Add", "x", half): (3,)}, {"x": (3,)})
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
        assert widened(model)
        wide = onnx.numpy_helper.to_array(model.graph.initializer[0])
        assert wide.dtype == np.float32
        assert (wide == np.array([0.1, 65504, 6e-8], np.float16)).all()
        onnx.checker.check_model(model, full_check=True)

    def test_are_not_looked_for_in_vain(self) -> None:
        model = plain()
        assert not widened(model)
        assert model == plain()
