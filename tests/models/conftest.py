"""Small model files, written for the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

WriteOnnx = Callable[..., Path]


@pytest.fixture
def write_onnx(tmp_path: Path) -> WriteOnnx:
    """``write_onnx("name.onnx", {"output": [1, 3549, 85]}, metadata={...})`` -> the path of a model.

    It has one picture input, float32 [1, 3, 416, 416] unless `picture` says otherwise, and outputs of the given
    shapes that hold `value` throughout; a negative axis has its size and is declared as open.
    """
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT

    def write(
        name: str,
        outputs: Mapping[str, Sequence[int]],
        *,
        metadata: Mapping[str, str] | None = None,
        picture: Sequence[int | str] = (1, 3, 416, 416),
        value: float = 0.0,
    ) -> Path:
        # The shapes get 0 added that is computed from the picture, so that the engine cannot tell them beforehand.
        nodes = [
            helper.make_node("Sub", ["images", "images"], ["zeros"]),
            helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
            helper.make_node("Cast", ["zero"], ["none"], to=onnx.TensorProto.INT64),
        ]
        constants = []
        for output, shape in outputs.items():
            sizes = [abs(axis) for axis in shape]
            constants.append(helper.make_tensor(f"{output}_sizes", onnx.TensorProto.INT64, [len(sizes)], sizes))
            filler = helper.make_tensor("value", kind, [1], [value])
            nodes.append(helper.make_node("Add", [f"{output}_sizes", "none"], [f"{output}_shape"]))
            nodes.append(helper.make_node("ConstantOfShape", [f"{output}_shape"], [output], value=filler))
        graph = helper.make_graph(
            nodes,
            "made for a test",
            [helper.make_tensor_value_info("images", kind, list(picture))],
            [
                helper.make_tensor_value_info(output, kind, ["open" if axis < 0 else axis for axis in shape])
                for output, shape in outputs.items()
            ],
            constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        helper.set_model_props(model, dict(metadata or {}))
        path = tmp_path / name
        onnx.save(model, str(path))
        return path

    return write
