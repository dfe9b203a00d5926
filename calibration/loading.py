"""Opens a model file that nobody has checked: sizes, weights beside it, types, order, what it is.

A model comes from anywhere. What is read here is bounded before it is read, external weights lie in the model's own
folder, and what the planner cannot work on is refused with what to give instead.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path, PurePosixPath

import onnx
from onnx import AttributeProto, NodeProto, TensorProto, numpy_helper

from edge_sdk.backends.base import first_bytes, looks_like
from edge_sdk.calibration.graph import MAX_BYTES, all_nodes, sorted_topologically, subgraphs
from edge_sdk.errors import ModelError, one_line

MAX_NODES = 100_000  # a detector has hundreds
_MAX_RANK = 32
_MAX_FUNCTIONS = 200  # they may call each other, each a step deeper

_QUANTIZED = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "ConvInteger",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "MatMulNBits",
        "GatherBlockQuantized",
        "QGemm",
        "FakeQuantize",
    }
)
_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def load(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Reads a model with its external weights, and checks it.

    Returns:
        Whole in memory, nodes sorted, functions inlined.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelError: It is no ONNX model, is too large, is broken, keeps weights outside its folder, or is quantized.
    """
    file = Path(path)
    if file.exists() and not file.is_file():  # a pipe would be waited for
        raise ModelError(f"{file}: is no file")
    head = first_bytes(file)
    try:
        size = file.stat().st_size
        data = file.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror or one_line(error)}") from error
    if size > MAX_BYTES:
        raise ModelError(f"{file}: {size >> 20} MiB is more than an ONNX file can have; keep its weights beside it")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's error classes differ between its implementations
        raise ModelError(f"{file}: not a valid ONNX file: {looks_like(head, '.onnx')}") from error
    if not model.HasField("graph"):
        raise ModelError(f"{file}: not a valid ONNX file: {looks_like(head, '.onnx')}")
    try:
        _read_external(model, file.resolve().parent)
        return checked(model)
    except ModelError as error:
        raise ModelError(f"{file.name}: {error}") from error


def checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model in memory that is whole, in order and valid.

    Raises:
        ModelError: See `load`.
    """
    model = _copy(model)
    if not model.graph.node:
        raise ModelError("the model has no nodes")
    if not any(entry.domain in ("", "ai.onnx") for entry in model.opset_import):
        raise ModelError("the model does not say which opset its operators are of")
    for tensor in _tensors(model):
        _check_tensor(tensor)
    model = _inlined(model)
    if len(model.graph.node) > MAX_NODES:
        raise ModelError(f"the model has {len(model.graph.node)} nodes, more than {MAX_NODES}")
    if model.graph.sparse_initializer:
        raise ModelError(
            f"the weights {model.graph.sparse_initializer[0].values.name!r} are stored sparse; export them dense"
        )
    _refuse_quantized(model.graph)
    graph = model.graph
    given = [value.name for value in graph.input] + [tensor.name for tensor in graph.initializer]
    nodes = sorted_topologically(graph.node, given)
    if any(one is not other for one, other in zip(nodes, graph.node, strict=True)):
        copies = [_copy(node) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)
    model.ClearField("training_info")
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise ModelError(f"not a valid ONNX model: {one_line(error)[:300]}") from error
    return model


def widened(model: onnx.ModelProto) -> bool:
    """Turns 16-bit floats into 32-bit ones, in place: each value stays exactly what it was.

    Returns:
        Whether there were any.
    """
    typed = [value.type.tensor_type for value in (*model.graph.input, *model.graph.output)]
    casts = [held for node in all_nodes(model.graph) for held in node.attribute if held.name in ("to", "dtype")]
    if not (
        any(tensor.data_type in _HALF for tensor in _tensors(model))
        or any(one.elem_type in _HALF for one in typed)
        or any(held.i in _HALF for held in casts)
    ):
        return False
    for tensor in _tensors(model):
        if tensor.data_type in _HALF:
            wide = numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name)
            tensor.CopyFrom(wide)
    for one in typed:
        if one.elem_type in _HALF:
            one.elem_type = TensorProto.FLOAT
    del model.graph.value_info[:]  # inferred anew
    for held in casts:
        if held.i in _HALF:
            held.i = TensorProto.FLOAT
    return True


def _copy(message: onnx.ModelProto | NodeProto) -> onnx.ModelProto:
    made = type(message)()
    made.CopyFrom(message)
    return made


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without local functions; refused where a few functions that call each other would make millions of nodes."""
    if not model.functions:
        return model
    bodies = {(one.domain, one.name): list(one.node) for one in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(key: tuple[str, str], above: tuple[tuple[str, str], ...] = ()) -> int:
        if key in above:
            raise ModelError(f"the function {key[1]!r} calls itself")
        if key not in sizes:
            inner = list(all_nodes(onnx.GraphProto(node=bodies[key])))
            sizes[key] = sum(
                size(call, (*above, key)) if (call := (node.domain, node.op_type)) in bodies else 1 for node in inner
            )
        return sizes[key]

    if len(bodies) > _MAX_FUNCTIONS:
        raise ModelError(f"the model has {len(bodies)} functions, more than {_MAX_FUNCTIONS}")
    total = sum(size(key) if (key := (node.domain, node.op_type)) in bodies else 1 for node in all_nodes(model.graph))
    if total > MAX_NODES:
        raise ModelError(f"with its functions written out the model has {total} nodes, more than {MAX_NODES}")
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except Exception as error:
        raise ModelError(f"the model's functions cannot be written out: {one_line(error)[:300]}") from error


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """All weights and constants, wherever they are."""
    yield from _tensors_of(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _tensors_in(node)


def _tensors_of(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_in(node)


def _tensors_in(node: NodeProto) -> Iterator[TensorProto]:
    for held in node.attribute:
        if held.type == AttributeProto.TENSOR:
            yield held.t
        yield from held.tensors
        for graph in subgraphs(held):
            yield from _tensors_of(graph)


def _check_tensor(tensor: TensorProto) -> None:
    if tensor.data_location == TensorProto.EXTERNAL:
        raise ModelError(f"the weights {tensor.name!r} lie in another file; load the model by its path")
    if len(tensor.dims) > _MAX_RANK or any(axis < 0 for axis in tensor.dims):
        raise ModelError(f"the weights {tensor.name!r} have the shape {list(tensor.dims)[:_MAX_RANK]}")


def _read_external(model: onnx.ModelProto, folder: Path) -> None:
    """Puts weights from files beside the model into it."""
    total = 0
    for tensor in _tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        facts = {entry.key: entry.value for entry in tensor.external_data}
        file = _beside(folder, facts.get("location", ""), tensor.name)
        try:
            offset = int(facts.get("offset") or 0)
            bits = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8
            wanted = prod(tensor.dims) * bits // 8
            length = int(facts["length"]) if facts.get("length") else wanted
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"the weights {tensor.name!r} say wrongly where they lie: {one_line(error)}") from error
        total += max(length, 0)
        if total > MAX_BYTES:
            raise ModelError("the weights are larger than 2 GiB together, more than ONNX tools handle as one model")
        try:
            with file.open("rb") as opened:
                there = os.fstat(opened.fileno()).st_size
                if offset < 0 or length != wanted or offset + length > there:
                    raise ModelError(
                        f"the weights {tensor.name!r} want {wanted} bytes, but {file.name} has {there} "
                        f"and the model says {length} from {offset}"
                    )
                opened.seek(offset)
                tensor.raw_data = opened.read(length)
        except OSError as error:
            raise ModelError(f"the weights' file {file.name}: {error.strerror or one_line(error)}") from error
        del tensor.external_data[:]
        tensor.ClearField("data_location")


def _beside(folder: Path, location: str, tensor: str) -> Path:
    """The weights' file, which lies in the model's folder or below it, links followed."""
    stated = PurePosixPath(location)
    where = f"the weights {tensor!r} lie in {location!r}"
    if not location or "\0" in location or "\\" in location or stated.is_absolute() or ".." in stated.parts:
        raise ModelError(f"{where}, which is no file in the model's folder")
    try:
        file = (folder / stated).resolve(strict=True)
    except FileNotFoundError as error:
        raise ModelError(f"{where}, which is not there: put it beside the model") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"{where}: {one_line(error)}") from error
    if not file.is_relative_to(folder) or not file.is_file():
        raise ModelError(f"{where}, which is no file in the model's folder")
    return file


def _refuse_quantized(graph: onnx.GraphProto) -> None:
    found = Counter(
        node.op_type
        for node in all_nodes(graph)
        if node.op_type in _QUANTIZED or node.op_type.startswith(("QLinear", "QAttention", "QOrdered"))
    )
    if found:
        what = ", ".join(f"{count} {name}" for name, count in sorted(found.items()))
        raise ModelError(
            f"the model is quantized already: it holds {what}. "
            "Give the float model that it was made from; precision is chosen from float weights"
        )
