"""Who claims what: each published layout has exactly one head among all there are."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.backends.base import TensorSpec
from edge_sdk.models.heads.base import heads

KINDS = {"f": np.dtype(np.float32), "i": np.dtype(np.int64), "u": np.dtype(np.uint8)}
IMAGE = [("images", "f", (1, 3, 640, 640))]
MINE = {"yolov5", "yolov8", "yolov10", "yolo_nas", "rtdetr", "two_stage"}

ONE = {
    "YOLOX": ("yolox", IMAGE, [("output", "f", (1, 8400, 85))]),
    "YOLOv5": ("yolov5", IMAGE, [("output0", "f", (1, 25200, 85))]),
    "YOLOv5, one class": ("yolov5", IMAGE, [("output0", "f", (1, 25200, 6))]),
    "YOLOv5, TFLite": ("yolov5", [("x", "f", (1, 640, 640, 3))], [("y", "f", (1, 25200, 85))]),
    "YOLOv8": ("yolov8", IMAGE, [("output0", "f", (1, 84, 8400))]),
    "YOLOv8, one class": ("yolov8", IMAGE, [("output0", "f", (1, 5, 8400))]),
    "YOLOv8, transposed": ("yolov8", IMAGE, [("output0", "f", (1, 8400, 84))]),
    "YOLOv8, open": ("yolov8", [("images", "f", (-1, 3, -1, -1))], [("output0", "f", (-1, 84, -1))]),
    "YOLOv8, TFLite": ("yolov8", [("x", "f", (1, 320, 320, 3))], [("y", "f", (1, 84, 2100))]),
    "YOLOv10": ("yolov10", IMAGE, [("output0", "f", (1, 300, 6))]),
    "YOLO-NAS": ("yolo_nas", IMAGE, [("913", "f", (1, 8400, 4)), ("904", "f", (1, 8400, 80))]),
    "YOLO-NAS, two classes": ("yolo_nas", IMAGE, [("904", "f", (1, 8400, 2)), ("913", "f", (1, 8400, 4))]),
    "YOLO-NAS, bytes": (
        "yolo_nas",
        [("input", "u", (1, 3, 640, 640))],
        [("913", "f", (1, 8400, 4)), ("904", "f", (1, 8400, 80))],
    ),
    "RT-DETR and D-FINE": (
        "rtdetr",
        [("images", "f", (-1, 3, 640, 640)), ("orig_target_sizes", "i", (-1, 2))],
        [("labels", "i", (-1, 300)), ("boxes", "f", (-1, 300, 4)), ("scores", "f", (-1, 300))],
    ),
    "RT-DETR, Ultralytics": ("rtdetr", IMAGE, [("output0", "f", (1, 300, 84))]),
    "RT-DETR, Optimum": (
        "rtdetr",
        [("pixel_values", "f", (-1, 3, 640, 640))],
        [("logits", "f", (-1, 300, 80)), ("pred_boxes", "f", (-1, 300, 4))],
    ),
    "DETR, Optimum": (
        "rtdetr",
        [("pixel_values", "f", (-1, -1, -1, -1)), ("pixel_mask", "i", (-1, 64, 64))],
        [("logits", "f", (-1, -1, 92)), ("pred_boxes", "f", (-1, -1, 4))],
    ),
    "RF-DETR": (
        "rtdetr",
        [("input", "f", (1, 3, 560, 560))],
        [("dets", "f", (1, 300, 4)), ("labels", "f", (1, 300, 91))],
    ),
    "Faster R-CNN": (
        "two_stage",
        [("image", "f", (3, -1, -1))],
        [("6379", "f", (-1, 4)), ("6381", "i", (-1,)), ("6383", "f", (-1,))],
    ),
}

# Layouts of other heads of this folder: none of these six may claim them.
OTHERS = {
    "NanoDet": (
        [("i", "f", (1, 3, 416, 416))],
        [(str(n) + kind, "f", (1, n, width)) for kind, width in (("c", 80), ("b", 32)) for n in (2704, 676, 169)],
    ),
    "PicoDet": (
        [("image", "f", (1, 3, 320, 320))],
        [(str(n) + kind, "f", (1, n, width)) for kind, width in (("c", 80), ("b", 32)) for n in (1600, 400, 100, 25)],
    ),
    "FastestDet": ([("input.1", "f", (1, 3, 352, 352))], [("758", "f", (1, 85, 22, 22))]),
    "SSD": (
        [("normalized_input_image_tensor", "u", (1, 300, 300, 3))],
        [("b", "f", (1, 10, 4)), ("c", "f", (1, 10)), ("s", "f", (1, 10)), ("n", "f", (1,))],
    ),
    "EfficientDet": ([("image_arrays", "u", (1, 320, 320, 3))], [("detections", "f", (1, 100, 7))]),
    "YuNet": (
        [("input", "f", (1, 3, 320, 320))],
        [
            (f"{kind}_{stride}", "f", (1, (320 // stride) ** 2, width))
            for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
            for stride in (8, 16, 32)
        ],
    ),
    "UltraFace": ([("input", "f", (1, 3, 240, 320))], [("scores", "f", (1, 4420, 2)), ("boxes", "f", (1, 4420, 4))]),
    "UltraFace, open": (
        [("input", "f", (1, 3, -1, -1))],
        [("scores", "f", (1, -1, 2)), ("boxes", "f", (1, -1, 4))],
    ),
    "a classifier": ([("input", "f", (1, 3, 224, 224))], [("logits", "f", (1, 1000))]),
    "a segmenter": (IMAGE, [("output0", "f", (1, 116, 8400)), ("output1", "f", (1, 32, 160, 160))]),
}


def claims(inputs, outputs, metadata=None) -> set[str]:
    made_in, made_out = (
        [TensorSpec(name, shape, KINDS[kind]) for name, kind, shape in side] for side in (inputs, outputs)
    )
    return {name for name, head in heads().items() if head.recognise(made_in, made_out, metadata or {}) is not None}


@pytest.mark.parametrize("what", ONE)
def test_a_published_layout_is_claimed_by_exactly_one_head(what):
    head, inputs, outputs = ONE[what]
    assert claims(inputs, outputs) == {head}


@pytest.mark.parametrize("what", OTHERS)
def test_layouts_of_other_kinds_are_left_alone(what):
    inputs, outputs = OTHERS[what]
    assert not claims(inputs, outputs) & MINE


@pytest.mark.parametrize(
    ("outputs", "expected"), [((1, 8400, 25), {"yolox", "yolov8"}), ((-1, -1, 85), {"yolox", "yolov5"})]
)
def test_what_shapes_cannot_tell_apart_several_claim(outputs, expected):
    assert claims(IMAGE, [("output", "f", outputs)]) == expected


def test_the_count_of_stated_names_tells_yolox_and_a_transposed_yolov8_apart():
    specs = [TensorSpec("output", (1, 8400, 25), KINDS["f"])]
    counts = {name: heads()[name].class_count(specs) for name in ("yolox", "yolov8")}
    assert counts == {"yolox": 20, "yolov8": 21}
