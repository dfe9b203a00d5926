"""A small but genuine detector of red and green things in YOLOX's layout, its odd relatives, and photos for it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 64
CHANNELS = 8
CARD = {"head": "yolox", "classes": ["red", "green"]}

Oddity = Literal["plain", "einsum", "foreign", "dynamic", "two_inputs", "half", "nothing"]


def write_photos(folder: Path, seeds: range) -> Path:
    """A picture a seed, with one to three red or green boxes on a dull ground."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        draw = np.random.default_rng(seed)
        ground = cv2.resize(draw.integers(0, 256, (6, 8, 3), np.uint8), (128, 96), interpolation=cv2.INTER_CUBIC)
        image = (ground // 8 + 100).astype(np.uint8)
        for _ in range(draw.integers(1, 4)):
            top, left = int(draw.integers(0, 56)), int(draw.integers(0, 80))
            side = int(draw.integers(24, 44))
            image[top : top + side, left : left + side] = (30, 30, 220) if draw.random() < 0.5 else (30, 220, 30)
        assert cv2.imwrite(str(folder / f"img{seed:03}.png"), image)
    return folder


class _Builder:
    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}:0"], name=name, **attributes))
        return f"{name}:0"

    def constant(self, values: Any, name: str) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def conv(self, x: str, weights: np.ndarray, bias: Any, name: str, stride: int = 1) -> str:
        kernel = weights.shape[2]
        inputs = [x, self.constant(weights.astype(np.float32), f"{name}.weight")]
        inputs.append(self.constant(np.asarray(bias, np.float32), f"{name}.bias"))
        size = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4, "strides": [stride] * 2}
        return self.op("Conv", inputs, f"{name}/Conv", **size)


def build(oddity: Oddity = "plain", *, seed: int = 0, card: bool = True) -> onnx.ModelProto:
    """The model: five convolutions, three of them with a head of one convolution.

    Args:
        oddity: "einsum" has an operator that no engine has in 8 bits and "foreign" one of another domain; "dynamic"
            leaves height and width open; "two_inputs" adds a number to the picture; "half" holds 16-bit weights;
            "nothing" never finds anything.
        seed: Of the weights that do not matter.
        card: Whether its metadata says how it is read.
    """
    made = _Builder(seed)
    x = "images"
    if oddity == "two_inputs":
        x = made.op("Add", [x, "offset"], "offset_added")
    stem = made.draw.normal(0, 0.0005, (CHANNELS, 3, 3, 3))
    stem[0] = np.array([-0.5, -0.5, 1.0])[:, None, None] / np.full(
        (3, 3), 9 * 255
    )  # red over the others; the channels are BGR
    stem[1] = np.array([-0.5, 1.0, -0.5])[:, None, None] / np.full((3, 3), 9 * 255)
    x = made.op("Relu", [made.conv(x, stem, np.zeros(CHANNELS), "stem", 2)], "stem/Relu")
    if oddity == "einsum":
        unit = made.constant(np.eye(CHANNELS, dtype=np.float32), "unit")
        x = made.op("Einsum", [x, unit], "mix", equation="nchw,cd->ndhw")
    if oddity == "foreign":
        made.nodes.append(helper.make_node("Gelu", [x], ["foreign:0"], name="foreign", domain="com.microsoft"))
        x = "foreign:0"
    rows = []
    for stage in range(1, 5):
        weights = made.draw.normal(0, 0.01, (CHANNELS, CHANNELS, 3, 3))
        for channel in (0, 1):
            weights[channel, channel] += 1 / 9
        x = made.op("Relu", [made.conv(x, weights, np.zeros(CHANNELS), f"stage{stage}", 2)], f"stage{stage}/Relu")
        if stage > 1:
            rows.append(_head(made, x, stage, quiet=oddity == "nothing"))
    made.op("Concat", rows, "all", axis=2)
    made.nodes.append(helper.make_node("Transpose", ["all:0"], ["output"], name="turned", perm=[0, 2, 1]))
    sides: list[Any] = ["h", "w"] if oddity == "dynamic" else [SIDE, SIDE]
    cells: Any = "cells" if oddity == "dynamic" else sum((SIDE // stride) ** 2 for stride in (8, 16, 32))
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *sides])]
    if oddity == "two_inputs":
        inputs.append(helper.make_tensor_value_info("offset", TensorProto.FLOAT, [1, 1, 1, 1]))
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, cells, 7])]
    graph = helper.make_graph(made.nodes, "tiny", inputs, outputs, made.constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    if card:
        helper.set_model_props(model, {"edge_sdk.card": json.dumps(CARD)})
    if oddity == "half":
        _halve(model)
    onnx.checker.check_model(model)
    return model


def write(path: Path, oddity: Oddity = "plain", *, seed: int = 0, card: bool = True) -> Path:
    """The same, in a file."""
    onnx.save(build(oddity, seed=seed, card=card), path)
    return path


def _head(made: _Builder, x: str, stage: int, *, quiet: bool) -> str:
    """Sides of the box, objectness and two classes of each cell, [1, 7, cells]. Boxes are 34 pixels wide."""
    name, wide = f"head{stage}", math.log(34 / 2 ** (stage + 1))
    weights = np.zeros((7, CHANNELS, 1, 1))
    weights[4, :2, 0, 0] = 0 if quiet else 30
    weights[5, :2, 0, 0] = (30, -30)
    weights[6, :2, 0, 0] = (-30, 30)
    x = made.conv(x, weights, [0.5, 0.5, wide, wide, -14, 0, 0], f"{name}.pred")
    at = [made.constant(np.array([value], np.int64), f"{name}.{value}") for value in (0, 4, 7, 1)]
    sides = made.op("Slice", [x, at[0], at[1], at[3]], f"{name}/sides")
    scores = made.op("Sigmoid", [made.op("Slice", [x, at[1], at[2], at[3]], f"{name}/rest")], f"{name}/scores")
    x = made.op("Concat", [sides, scores], f"{name}/joined", axis=1)
    flat = made.constant(np.array([1, 7, -1], np.int64), f"{name}.flat")
    return made.op("Reshape", [x, flat], f"{name}/flat")


def _halve(model: onnx.ModelProto) -> None:
    """Weights, inputs and outputs in 16 bits."""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
