"""Made-up pictures, clips, and a detector of two colours that runs in no time: what the set's tests share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper

SIDE = 64  # of the detector's input
CELLS = SIDE // 8


def scene(seed: int, hw: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A picture that looks like that of no other seed: soft colours and some hard edges; uint8 [h, w, 3]."""
    draw = np.random.default_rng(seed)
    image = cv2.resize(draw.integers(0, 256, (6, 8, 3), np.uint8), hw[::-1], interpolation=cv2.INTER_CUBIC)
    for _ in range(4):
        top, left = draw.integers(0, hw[0] * 3 // 4), draw.integers(0, hw[1] * 3 // 4)
        colour = draw.integers(0, 256, 3)
        image[top : top + hw[0] // 4, left : left + hw[1] // 4] = colour
    return image


def write_scenes(folder: Path, seeds: Sequence[int], hw: tuple[int, int] = (96, 128)) -> list[Path]:
    """A PNG file a seed, named img0.png and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"img{seed}.png" for seed in seeds]
    for seed, path in zip(seeds, paths, strict=True):
        assert cv2.imwrite(str(path), scene(seed, hw))
    return paths


def write_clip(path: Path, frames: Sequence[np.ndarray]) -> Path:
    """A clip of Motion JPEG, each frame by itself."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def write_colour_detector(path: Path, sharpness: float = 20.0) -> Path:
    """A model in YOLOv8's layout for 64 x 64 pixels: a cell whose mean red, or green, is above 0.6 is a red or green
    object as large as the cell."""
    centres = [
        ((x + 0.5) * stride, (y + 0.5) * stride, stride, stride)
        for stride in (8, 16, 32)
        for y in range(SIDE // stride)
        for x in range(SIDE // stride)
    ]
    boxes = np.array(centres, np.float32).T[np.newaxis]
    constants = {
        "boxes": boxes,
        "threshold": np.float32(0.6),
        "sharpness": np.float32(sharpness),
        "flat": np.array([1, 3, -1], np.int64),
        "from": np.array([0], np.int64),
        "to": np.array([2], np.int64),
        "axis": np.array([1], np.int64),
    }
    nodes = []
    for stride in (8, 16, 32):
        size = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes.append(helper.make_node("AveragePool", ["images"], [f"pool{stride}"], **size))
        nodes.append(helper.make_node("Reshape", [f"pool{stride}", "flat"], [f"cells{stride}"]))
    nodes += [
        helper.make_node("Concat", ["cells8", "cells16", "cells32"], ["cells"], axis=2),
        helper.make_node("Slice", ["cells", "from", "to", "axis"], ["two"]),
        helper.make_node("Sub", ["two", "threshold"], ["above"]),
        helper.make_node("Mul", ["above", "sharpness"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("Concat", ["boxes", "scores"], ["output0"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, boxes.shape[2]])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"edge_sdk.card": json.dumps({"classes": ["red", "green"]})})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
