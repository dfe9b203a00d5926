"""The trained detector as one ONNX file that the SDK opens with no card beside it.

What is in the graph: the cast from uint8, the layout and the scale (the stem takes 0 to 255), the decoding of the sides
and the sigmoid of the scores. What is left to the host: letterbox and suppression. Norms are folded away.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from gelan import Detector, anchors, bias_of, decode
from torch import Tensor, nn
from training import Config, as_input

from edge_sdk.files import replacing
from edge_sdk.models.metadata import CARD_KEY

OPSET = 17
LICENCE = "Apache-2.0"
PHOTOS = (
    "Photos: PASCAL VOC2012 (Flickr terms), a set of streets (CC BY 4.0), a set of masked faces (CC BY 4.0 as stated), "
    "COCO train2017 (Flickr licences, annotations CC BY 4.0), small sets of bottles and cups, phones, a classroom "
    "(CC BY 4.0)."
)


class Exported(nn.Module):
    """uint8 [1, h, w, 3] BGR to boxes [1, n, 4] xyxy in model pixels and scores [1, n, classes]."""

    centres: Tensor
    strides: Tensor

    def __init__(self, detector: Detector, height: int, width: int) -> None:
        super().__init__()
        self.detector = detector
        centres, strides = anchors(height, width)
        self.register_buffer("centres", centres)
        self.register_buffer("strides", strides)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, bins = self.detector(as_input(image))
        return decode(bins, self.centres, self.strides), logits.sigmoid()


def kept_of(text: str | None, classes: Sequence[str]) -> list[str]:
    """The classes of a list with commas; all where there is none.

    Raises:
        ValueError: One is not among `classes`.
    """
    kept = [name.strip() for name in text.split(",")] if text else list(classes)
    if strange := [name for name in kept if name not in classes]:
        raise ValueError(f"{strange[0]}: no class of the run; it has {', '.join(classes)}")
    return kept


def narrowed(detector: Detector, classes: Sequence[str], kept: Sequence[str]) -> None:
    """Leaves only the output rows of some classes, in place."""
    rows = [classes.index(name) for name in kept]
    for level in detector.head.levels:
        old = level.scores
        assert isinstance(old, nn.Conv2d)
        new = nn.Conv2d(old.in_channels, len(rows), 1)
        with torch.no_grad():
            new.weight.copy_(old.weight[rows])
            bias_of(new).copy_(bias_of(old)[rows])
        level.scores = new


def export(
    detector: Detector, classes: Sequence[str], height: int, width: int, out: Path, notes: Mapping[str, str]
) -> None:
    """Writes the file.

    Args:
        detector: Trained, with an output row for each class.
        classes: Names by id.
        height, width: Of the input.
        out: The file.
        notes: More metadata, by key.
    """
    detector = detector.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    buffer = io.BytesIO()
    torch.onnx.export(
        Exported(detector, height, width).eval(),
        (torch.zeros(1, height, width, 3, dtype=torch.uint8),),
        buffer,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["boxes", "scores"],
        dynamo=False,
    )
    model = onnx.load_from_string(buffer.getvalue())
    _renumber(model.graph)
    onnx.helper.set_model_props(
        model, {CARD_KEY: json.dumps(card_of(classes, height, width)), "licence": LICENCE, **notes}
    )
    model.producer_name = "edge-sdk tools/train_default"
    model.producer_version = ""
    onnx.checker.check_model(model, full_check=True)
    with replacing(out) as path:
        path.write_bytes(model.SerializeToString())


def card_of(classes: Sequence[str], height: int, width: int) -> dict[str, Any]:
    """The fields of the file's model card."""
    return {
        "head": "yolo_nas",
        "input_hw": [height, width],
        "classes": list(classes),
        "layout": "nhwc",
        "colour": "bgr",
        "resize": "letterbox_centre",
        "pad": 114,
        "licence": LICENCE,
    }


def provenance(config: Config, state: Mapping[str, Any]) -> dict[str, str]:
    """What the file says of its making, by metadata key."""
    teacher = "YOLOX-nano (Megvii, Apache-2.0)"
    parts = []
    if config.inherit:
        parts.append(f"It began with the weights of {teacher}.")
    if config.teaching:
        parts.append(f"It was taught by the scores of {teacher}.")
    parts.append(
        f"Where no boxes were drawn by hand, it was trained on those of {teacher} and, of faces, of YuNet "
        "(libfacedetection.train, Apache-2.0)."
    )
    return {
        "edge_sdk.trained": json.dumps({"steps": state["step"], "hours": round(state["trained_s"] / 3600, 2)}),
        "edge_sdk.sources": " ".join([*parts, PHOTOS]),
    }


def parameters(path: Path) -> int:
    """How many numbers a file's layers hold."""
    graph = onnx.load(str(path)).graph
    layers = {name for node in graph.node if node.op_type == "Conv" for name in node.input[1:]}
    return sum(math.prod(tensor.dims) for tensor in graph.initializer if tensor.name in layers)


def _renumber(graph: onnx.GraphProto) -> None:
    """Short names for tensors between: the long ones of the exporter are a fiftieth of the file."""
    fixed = {value.name for value in (*graph.input, *graph.output)}
    new: dict[str, str] = {}

    def name_of(old: str) -> str:
        if not old or old in fixed:
            return old
        return new.setdefault(old, f"t{len(new)}")

    for tensor in graph.initializer:
        tensor.name = name_of(tensor.name)
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        node.doc_string = ""
        node.input[:] = [name_of(name) for name in node.input]
        node.output[:] = [name_of(name) for name in node.output]
    del graph.value_info[:]
