"""A small detector that INT8 hurts a little, and all that a probe of it needs: what the sweep's tests share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edge_sdk import Detector
from edge_sdk.calibration.canonical import canonical
from edge_sdk.calibration.engines import base as engines
from edge_sdk.calibration.groups import make_groups
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.ranges import choose, collect
from edge_sdk.models.preprocess import Geometry
from tests.calibration.scenes import write_colour_detector

BLOCKS = 3


def write_deep_detector(path: Path, blocks: int = BLOCKS) -> Path:
    """The detector of two colours behind pairs of convolutions that change nothing but by rounding.

    Each pair takes the picture apart into lighter and darker halves, with some crosstalk, and puts it together again.
    """
    write_colour_detector(path, sharpness=8.0)
    model = onnx.load(str(path))
    graph = model.graph
    draw = np.random.default_rng(5)
    nodes, weights, last = [], [], "images"
    for number in range(blocks):
        mix = np.eye(3) + draw.normal(0, 0.2, (3, 3))
        apart = np.concatenate([mix, -mix])[:, :, None, None]
        back = np.concatenate([np.linalg.inv(mix), -np.linalg.inv(mix)], axis=1)[:, :, None, None]
        up, down, out = f"apart{number}", f"light{number}", f"image{number}"
        weights += [
            numpy_helper.from_array(apart.astype(np.float32), f"wa{number}"),
            numpy_helper.from_array(back.astype(np.float32), f"wb{number}"),
        ]
        nodes += [
            helper.make_node("Conv", [last, f"wa{number}"], [up], name=f"apart{number}"),
            helper.make_node("Relu", [up], [down], name=f"light{number}"),
            helper.make_node("Conv", [down, f"wb{number}"], [out], name=f"back{number}"),
        ]
        last = out
    rest = list(graph.node)
    for node in rest:
        node.input[:] = [last if name == "images" else name for name in node.input]
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    graph.initializer.extend(weights)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def spots(seed: int) -> np.ndarray:
    """A picture with some red and green squares in soft noise, uint8 [64, 64, 3] BGR."""
    draw = np.random.default_rng(seed)
    image = draw.integers(0, 120, (64, 64, 3), np.uint8)
    for _ in range(3):
        top, left = (8 * draw.integers(0, 6, 2)).tolist()
        channel = int(draw.integers(1, 3))
        image[top : top + 16, left : left + 16, channel] = draw.integers(150, 256)
    return image


@dataclass(frozen=True)
class Scene:
    """What a prober is given."""

    problem: Problem
    detector: Detector
    feeds: list[dict[str, np.ndarray]]
    geometries: list[Geometry]


def make_scene(folder: Path, *, blocks: int = BLOCKS, photos: int = 3, pinned: dict[str, str] | None = None) -> Scene:
    """The small detector with its problem, on a few pictures."""
    detector = Detector(write_deep_detector(folder / "deep.onnx", blocks), backend="onnxruntime", threads=1)
    feeds, geometries = [], []
    for seed in range(photos):
        prepared = detector.prepare(spots(seed), detector.new_prepared())
        assert prepared.geometry is not None
        feeds.append({name: array.copy() for name, array in prepared.feeds.items()})
        geometries.append(prepared.geometry)
    graph = canonical(detector.path, feeds=feeds[:1]).graph
    engine = engines.named("onnxruntime")
    groups = make_groups(graph, engine.rules)
    ranges = choose(collect(graph.model, feeds), "uint8").limits()
    problem = Problem(graph, "0" * 64, engine, "x86", "generic-x86_64", groups, ranges, pinned=pinned or {})
    return Scene(problem, detector, feeds, geometries)


def without_boxes(path: Path) -> Path:
    """The same file for a detector that never finds anything: its scores are far below any floor."""
    model = onnx.load(str(path))
    for value in model.graph.initializer:
        if value.name == "threshold":
            value.CopyFrom(numpy_helper.from_array(np.float32(9.0), "threshold"))
    onnx.save(model, str(path))
    return path


CARD = json.dumps({"classes": ["red", "green"]})
