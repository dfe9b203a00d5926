"""The canonical form of a model: one meaning, written in one way, so that the planner reads one kind of graph.

Constants are folded, batch norm goes into the convolution before it, and identities, dropouts and idle casts and
transposes go, by ONNX Runtime's own offline optimization at its basic level, which writes standard operators only. It
is the engine that a plan is proved with, it keeps the names of nodes and tensors, the same model gives the same file,
and no further package is needed. On ten detectors it left from 48 fewer to 6 more nodes than onnxslim 0.1.98, in 10 to
90 ms instead of 360 to 1750; onnxsim 0.8.1 left as many or more on all but YOLOX-nano (two fewer).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, version_converter

from edge_sdk.calibration.graph import MAX_BYTES, Graph, all_nodes, model_bytes, reads, save_model, sha256_of
from edge_sdk.calibration.loading import checked, load, widened
from edge_sdk.calibration.same import (
    HALF_ROUNDING,
    ROUNDING,
    Difference,
    Feeds,
    check_same,
    opened,
    runtime,
    session_settings,
)
from edge_sdk.calibration.static import fix_shapes
from edge_sdk.calibration.tidy import LEAST_IR, name_nodes, tidy
from edge_sdk.errors import ModelError, SinkError, one_line

OPSET = 17  # what all engines that a plan is lowered to read
_LEAST_OPSET = 13  # the first whose Q/DQ operators take a scale for each channel
_MAX_PASSES = 4


@dataclass(frozen=True, eq=False)
class Canonical:
    """A model in canonical form.

    Args:
        model: Nobody changes it.
        graph: The view of it.
        notes: What was done, one line each, for a report.
        sha256: Of its bytes, in hexadecimal; the same model given twice has the same.
        difference: How far it is from the model that was given, where both were run.
    """

    model: onnx.ModelProto
    graph: Graph
    notes: tuple[str, ...]
    sha256: str
    difference: Difference

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model, whole or not at all.

        Raises:
            SinkError: The folder is not there, or cannot be written.
        """
        save_model(self.model, path)


def canonical(
    model: str | os.PathLike[str] | onnx.ModelProto,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    feeds: Feeds | Sequence[Feeds] | None = None,
) -> Canonical:
    """Brings a model into canonical form and checks by running that it says the same.

    Args:
        model: A file, which may be hostile, or a model in memory, which is not changed.
        shapes: Of inputs that leave axes open. A batch axis alone is taken as 1 where it is left out.
        feeds: Real inputs to run on, once or several times; noise where they are left out, which the notes say.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelError: The model is broken, hostile, quantized already, of an opset that cannot be raised, leaves a shape
            open, or did not stay the same; the message says what was found and what to give instead.
        UsageError: `shapes` names no input, or contradicts the model.
        SinkError: There is no room for a temporary file.
    """
    given = checked(model) if isinstance(model, onnx.ModelProto) else load(model)
    before = onnx.ModelProto()
    before.CopyFrom(given)
    name_nodes(before)  # the engine opens no model with two nodes of one name
    notes: list[str] = []
    _take_initializers_off_inputs(given, notes)
    notes += fix_shapes(given, shapes or {})
    if count := name_nodes(given):
        notes.append(f"{count} nodes had no name of their own and were given one")
    wide = widened(given)
    if wide:
        notes.append("16-bit floats are held as 32-bit ones of the same values, and arithmetic is in 32 bits")
    _refuse_large_tensors(given)
    made = _folded(_raised(given, notes), given)
    if len(made.graph.node) != len(given.graph.node):
        notes.append(f"folding left {len(made.graph.node)} of {len(given.graph.node)} nodes")
    graph = Graph(made)
    _refuse_large_tensors(made)
    if any(-1 in shape for shape in graph.shapes.values()):
        name = next(name for name, shape in graph.shapes.items() if -1 in shape)
        notes.append(f"the shape of {name!r} is known only when the model runs")
    if feeds is None:
        feeds = noise(graph)
        notes.append("checked on noise, as no real inputs were given")
    difference = _check(before, made, feeds, wide=wide)
    return Canonical(made, graph, tuple(notes), sha256_of(made), difference)


def noise(graph: Graph, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs for a run that needs none in particular: normal noise for floats, 64 for whole numbers."""
    random = np.random.default_rng(seed)
    feeds: dict[str, np.ndarray[Any, Any]] = {}
    for name in graph.inputs:
        shape, dtype = graph.shape(name), graph.dtypes[name]
        if shape is None:
            raise ModelError(f"the input {name!r} has no fixed shape")
        if np.issubdtype(dtype, np.floating):
            feeds[name] = random.normal(0, 1, shape).astype(dtype)
        else:
            feeds[name] = np.full(shape, 64).astype(dtype)
    return feeds


def _take_initializers_off_inputs(model: onnx.ModelProto, notes: list[str]) -> None:
    """An initializer that is an input too may be overridden at run time, so that no engine folds or fuses it."""
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    count = len(model.graph.input) - len(kept)
    if not kept:
        raise ModelError("the model has no input")
    if count:
        copies = [type(value).FromString(value.SerializeToString()) for value in kept]
        del model.graph.input[:]
        model.graph.input.extend(copies)
        notes.append(f"{count} weights were listed as inputs, which stops every fusion; they are constants now")
    model.ir_version = max(model.ir_version, LEAST_IR)


def _refuse_large_tensors(model: onnx.ModelProto) -> None:
    """Before anything is folded: a few bytes of a model can ask for more memory than there is."""
    graph = Graph(model)
    changing = set(graph.inputs)
    for node in graph.nodes:
        if not changing.isdisjoint(reads(node)):
            changing.update(node.output)
    constant = 0
    for name, shape in graph.shapes.items():
        size = prod(shape) * graph.dtypes[name].itemsize if -1 not in shape and name in graph.dtypes else 0
        if size > MAX_BYTES:
            raise ModelError(f"the tensor {name!r} would be {list(shape)}: more than 2 GiB")
        constant += 0 if name in changing else size
    if constant > MAX_BYTES:
        raise ModelError(f"the model's constants would take {constant >> 20} MiB, more than 2 GiB")


def _raised(model: onnx.ModelProto, notes: list[str]) -> onnx.ModelProto:
    has = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if has >= OPSET:
        return model
    reasons = []
    for wanted in range(OPSET, max(has, _LEAST_OPSET - 1), -1):
        try:
            raised = version_converter.convert_version(model, wanted)
            onnx.checker.check_model(raised)
        except Exception as error:  # noqa: BLE001  its errors have no common class
            reasons.append(one_line(error)[:200])
            continue
        notes.append(f"opset {has} was raised to {wanted}")
        return raised
    if has >= _LEAST_OPSET:
        notes.append(f"opset {has} could not be raised: {reasons[0]}")
        return model
    raise ModelError(
        f"the model is of opset {has}, which cannot be raised to {_LEAST_OPSET} or more ({reasons[0]}); "
        f"export it again with opset {OPSET}"
    )


def _folded(model: onnx.ModelProto, given: onnx.ModelProto) -> onnx.ModelProto:
    """The model as the engine folds it, again and again until nothing changes: some rules make room for others."""
    before = b""
    for _ in range(_MAX_PASSES):
        model = _folded_once(model)
        tidy(model, like=given)
        after = model_bytes(model)
        if after == before:
            break
        before = after
    return model


def _folded_once(model: onnx.ModelProto) -> onnx.ModelProto:
    ort = runtime()
    settings = session_settings(ort)
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory(prefix="edge-sdk-") as folder:
        file = Path(folder) / "folded.onnx"
        settings.optimized_model_filepath = str(file)
        try:
            opened(model, settings)
        except ModelError as error:
            if "serialization failed" in str(error):  # as it says that it cannot write
                raise SinkError(f"{folder}: the model cannot be written here: is the disk full?") from error
            raise
        folded = onnx.load(file)
    known = {node.domain for node in all_nodes(model.graph)} | {"", "ai.onnx"}
    if foreign := {node.domain for node in all_nodes(folded.graph)} - known:
        raise ModelError(f"ONNX Runtime wrote operators of {', '.join(sorted(foreign))} when folding the model")
    return folded


def _check(
    before: onnx.ModelProto, after: onnx.ModelProto, feeds: Feeds | Sequence[Feeds], *, wide: bool
) -> Difference:
    if not wide:
        return check_same(before, after, feeds, rounding=ROUNDING)
    # The 16-bit model takes other types; casts at its edges let both be fed alike.
    return check_same(_with_float_edges(before), after, feeds, rounding=HALF_ROUNDING)


def _with_float_edges(model: onnx.ModelProto) -> onnx.ModelProto:
    edged = onnx.ModelProto()
    edged.CopyFrom(model)
    graph = edged.graph
    half = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    weights = {tensor.name for tensor in graph.initializer}  # which some exporters list as inputs too
    first, last = [], []
    for value in graph.input:
        kind = value.type.tensor_type.elem_type
        if kind in half and value.name not in weights:
            inner = f"{value.name}/16-bit"
            _rename(graph, value.name, inner)
            first.append(onnx.helper.make_node("Cast", [value.name], [inner], name=inner, to=kind))
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for value in graph.output:
        if value.type.tensor_type.elem_type in half:
            inner = f"{value.name}/16-bit"
            _rename(graph, value.name, inner)
            last.append(onnx.helper.make_node("Cast", [inner], [value.name], name=inner, to=TensorProto.FLOAT))
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    nodes = [*first, *graph.node, *last]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    del graph.value_info[:]
    return edged


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
