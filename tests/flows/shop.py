"""A tiny detector, photos of its own things, its best float form and a plan of it: what tests of plans start from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx

import edge_sdk
from edge_sdk.calibration.canonical import canonical
from edge_sdk.calibration.engines.onnxruntime import ENGINE
from edge_sdk.calibration.export import Exported, export_file
from edge_sdk.calibration.graph import Graph, sha256_of
from edge_sdk.calibration.groups import choices, make_groups
from edge_sdk.calibration.observe import collect
from edge_sdk.calibration.ranges import choose
from edge_sdk.calibration.rewrites import rewrite
from edge_sdk.plan import SCHEMA, Plan

from ..models.tiny_yolox import write, write_photos  # noqa: TID252  there is no package of tests to name


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """The best float form of a model."""
    return rewrite(canonical(model)).model


def make_plan(model: onnx.ModelProto, source: Path, photos: Path, high: Sequence[str] = (), **changes: Any) -> Plan:
    """All in INT8 that can be, but for these groups; the ranges are of all."""
    graph = Graph(model)
    groups = make_groups(graph, ENGINE.rules)
    free = frozenset(node for group in groups if len(group.precisions) > 1 for node in group.nodes)
    with edge_sdk.Detector(source, backend="onnxruntime", threads=1, head="yolox") as detector:
        feeds = [dict(detector.prepare(image, detector.new_prepared()).feeds) for image in pictures(photos)]
    limits = choose(collect(model, iter(feeds)), "uint8").limits()
    fields = {
        "schema": SCHEMA,
        "prepared_sha256": sha256_of(model),
        "target": "generic-x86_64",
        "choices": choices(groups, "int8", but=dict.fromkeys(high, "fp32")),
        "ranges": {name: limits[name] for name in ENGINE.quantized(graph, free)[0]},
        "provenance": {"model": source.name, "model_sha256": hashlib.sha256(source.read_bytes()).hexdigest()},
    } | changes
    return Plan(**fields)


def pictures(photos: Path) -> list[np.ndarray]:
    return [cv2.imread(str(path)) for path in sorted(photos.glob("*.png"))]


@dataclass(frozen=True)
class Shop:
    """A folder with a model, photos, its prepared form and a plan."""

    folder: Path
    best: onnx.ModelProto
    plan: Plan

    @classmethod
    def open(cls, folder: Path) -> Shop:
        photos = write_photos(folder / "photos", range(6))
        model = write(folder / "tiny.onnx")
        best = prepared(onnx.load(model))
        return cls(folder, best, make_plan(best, model, photos, high=["stem"]))

    photos = property(lambda self: self.folder / "photos")
    model = property(lambda self: self.folder / "tiny.onnx")
    out = property(lambda self: self.folder / "out.onnx")
    cache = property(lambda self: self.folder / "cache")

    def export(self, model: Path | None = None, plan: Plan | Path | None = None, **options: Any) -> Exported:
        return export_file(model or self.model, plan or self.plan, self.out, cache=self.cache, **options)
