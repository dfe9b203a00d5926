"""Models of an operator or two, written on the spot for tests."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest


def onnx_add(path: Path, shape: tuple[int | str, ...] = (1, 4), metadata: Mapping[str, str] | None = None) -> Path:
    """y = x + 1, float32; a text in the shape is an open axis."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    one = onnx.numpy_helper.from_array(np.ones(1, np.float32), "one")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "one"], ["y"], name="add")],
        "tiny",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
        [one],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)
    return path


def onnx_kinds(path: Path) -> Path:
    """Outputs of several kinds, made of x of [2, 3] in float32, and the inputs y of [2, 3] in bool.

    half is x as float16, above is x > 0, whole is x as int64, same is x itself, turned is y, fixed is [1, 2, 3].
    """
    onnx = pytest.importorskip("onnx")
    helper, types = onnx.helper, onnx.TensorProto
    zero = onnx.numpy_helper.from_array(np.zeros((), np.float32), "zero")
    fixed = onnx.numpy_helper.from_array(np.array([1, 2, 3], np.float32), "fixed")
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["half"], to=types.FLOAT16),
            helper.make_node("Greater", ["x", "zero"], ["above"]),
            helper.make_node("Cast", ["x"], ["whole"], to=types.INT64),
            helper.make_node("Identity", ["x"], ["same"]),
            helper.make_node("Not", ["y"], ["turned"]),
        ],
        "kinds",
        [
            helper.make_tensor_value_info("x", types.FLOAT, (2, 3)),
            helper.make_tensor_value_info("y", types.BOOL, (2, 3)),
        ],
        [
            helper.make_tensor_value_info("half", types.FLOAT16, (2, 3)),
            helper.make_tensor_value_info("above", types.BOOL, (2, 3)),
            helper.make_tensor_value_info("whole", types.INT64, (2, 3)),
            helper.make_tensor_value_info("same", types.FLOAT, (2, 3)),
            helper.make_tensor_value_info("turned", types.BOOL, (2, 3)),
            helper.make_tensor_value_info("fixed", types.FLOAT, (3,)),
        ],
        [zero, fixed],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def onnx_first_of(path: Path, stated: tuple[int | str, ...]) -> Path:
    """y = the first n of [0, 1, .. 9], n given; of a stated shape, which holds or not."""
    onnx = pytest.importorskip("onnx")
    helper, types = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("Slice", ["ten", "start", "n"], ["y"])],
        "first",
        [helper.make_tensor_value_info("n", types.INT64, (1,))],
        [helper.make_tensor_value_info("y", types.FLOAT, stated)],
        [
            onnx.numpy_helper.from_array(np.arange(10, dtype=np.float32), "ten"),
            onnx.numpy_helper.from_array(np.zeros(1, np.int64), "start"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def onnx_string(path: Path) -> Path:
    """y = x of texts."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.STRING
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", kind, (1,))],
        [helper.make_tensor_value_info("y", kind, (1,))],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def tflite_add(path: Path, *, integers: bool = False, open_axis: bool = False) -> Path:
    """y = x + x of [1, 4], or [?, 4]; in int32 no XNNPACK takes it."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")

    def tensor(name: bytes) -> object:
        made = schema.TensorT()
        made.name, made.shape = name, [1, 4]
        made.type = schema.TensorType.INT32 if integers else schema.TensorType.FLOAT32
        if open_axis:
            made.shapeSignature = [-1, 4]
        return made

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    code.version = 1
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 0], [1]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [tensor(b"x"), tensor(b"y")], [operator]
    graph.inputs, graph.outputs = [0], [1]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def with_archive(model: Path, members: Mapping[str, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Appends members to a .tflite file as exporters do."""
    with zipfile.ZipFile(model, "a", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return model
