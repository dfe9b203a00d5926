"""A detector of YOLOv8's layout with random weights, to measure a loop with where no real one is at hand.

    python tools/build_yolov8_layout.py yolov8_layout.onnx

It takes [1, 3, 640, 640] in RGB / 255 and gives [1, 84, 8400]: centre x, centre y, width, height in model pixels and
eighty class scores after their sigmoids, from a backbone of plain convolutions at strides 8, 16 and 32. Boxes lie and
scores spread as a trained model's do, few of them above a threshold; what they say means nothing. The same seed gives
the same file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE_PX = 640
STRIDES = (8, 16, 32)
CLASSES = 80
# Channels at stride 2, 4, 8, 16 and 32, and how many convolutions follow the one that halves the sides.
STAGES = ((16, 0), (32, 1), (64, 2), (128, 2), (256, 1))
BOX_LOGIT = 1.0  # spread of the raw box values: most boxes are half to twice their stride's usual side
CLASS_LOGIT, CLASS_BIAS = 0.6, -6.0  # of the raw scores: a few cells in ten thousand reach one half


class Graph:
    """ONNX nodes and weights, collected."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(seed)

    def constant(self, value: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=f"{operator}_{name}", **attributes))
        return name

    def convolution(self, x: str, channels: tuple[int, int], *, side: int, stride: int = 1, gain: float = 2.0) -> str:
        """With weights that keep the spread of what flows through (He et al., arXiv 1502.01852, equation 10)."""
        given, made = channels
        spread = (gain / (given * side * side)) ** 0.5
        weights = self._random.normal(0, spread, (made, given, side, side)).astype(np.float32)
        pads = [side // 2] * 4
        return self.add("Conv", x, self.constant(weights), kernel_shape=[side, side], strides=[stride] * 2, pads=pads)


def build(seed: int = 0) -> onnx.ModelProto:
    """The model, with the metadata that Ultralytics' exporter writes."""
    graph = Graph(seed)
    x, given = "images", 3
    levels = []
    for channels, more in STAGES:
        for number in range(1 + more):
            x = graph.convolution(x, (given, channels), side=3, stride=2 if number == 0 else 1)
            x, given = graph.add("Relu", x), channels
        levels.append((x, channels))
    decoded = [_level(graph, x, channels, stride) for (x, channels), stride in zip(levels[2:], STRIDES, strict=True)]
    graph.nodes.append(helper.make_node("Concat", decoded, ["output0"], name="output", axis=2))
    cells = sum((SIDE_PX // stride) ** 2 for stride in STRIDES)
    made = helper.make_graph(
        graph.nodes,
        "yolov8_layout",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, SIDE_PX, SIDE_PX))],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, (1, 4 + CLASSES, cells))],
        graph.weights,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    names = {number: f"class {number}" for number in range(CLASSES)}
    helper.set_model_props(
        model, {"task": "detect", "names": str(names), "imgsz": str([SIDE_PX, SIDE_PX]), "stride": str(STRIDES[-1])}
    )
    onnx.checker.check_model(model)
    return model


def _level(graph: Graph, x: str, channels: int, stride: int) -> str:
    """One stride's boxes and scores, [1, 84, cells]."""
    side = SIDE_PX // stride
    flat = graph.constant(np.array([1, -1, side * side], np.int64))
    # Spreads are then those above, whatever the picture.
    ones, zeros = (graph.constant(np.full(channels, value, np.float32)) for value in (1, 0))
    x = graph.add("InstanceNormalization", x, ones, zeros)
    boxes = graph.add("Reshape", graph.convolution(x, (channels, 4), side=1, gain=BOX_LOGIT**2), flat)
    scores = graph.add("Reshape", graph.convolution(x, (channels, CLASSES), side=1, gain=CLASS_LOGIT**2), flat)
    rows, columns = np.mgrid[:side, :side]
    centres = (np.stack([columns, rows]).reshape(1, 2, -1) + 0.5) * stride
    xy, wh = (
        graph.add("Slice", boxes, *(graph.constant(np.array([value], np.int64)) for value in (first, first + 2, 1)))
        for first in (0, 2)
    )
    xy = graph.add("Mul", graph.add("Tanh", xy), graph.constant(np.float32([stride])))
    xy = graph.add("Add", xy, graph.constant(centres.astype(np.float32)))
    wh = graph.add("Mul", graph.add("Exp", graph.add("Tanh", wh)), graph.constant(np.float32([4 * stride])))
    scores = graph.add("Sigmoid", graph.add("Add", scores, graph.constant(np.float32([CLASS_BIAS]))))
    return graph.add("Concat", xy, wh, scores, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the .onnx file to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    onnx.save(build(arguments.seed), arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
