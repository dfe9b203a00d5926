"""Class names of the public label sets, in the order that models are trained with."""

from __future__ import annotations

from collections.abc import Sequence

# COCO's eighty thing classes in contiguous order (cocodataset.org, "detection" task).
COCO_80 = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip

# Ids 1 to 90 of COCO's own numbering that no published box uses.
_COCO_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def _coco_90() -> tuple[str, ...]:
    names = iter(COCO_80)
    return tuple(f"unused {i}" if i in _COCO_GAPS else next(names) for i in range(1, 91))


# COCO's own ids 1 to 90, as index 0 to 89: what TensorFlow's SSD and EfficientDet models are trained with.
COCO_90 = _coco_90()

# PASCAL VOC's twenty classes in alphabetical order.
VOC_20 = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

FACE = ("face",)


def names_for(count: int) -> tuple[str, ...]:
    """The label set that has this many classes, or ``class 0``, ``class 1``, ... where none is known."""
    known = {len(labels): labels for labels in (COCO_80, COCO_90, VOC_20)}
    return known.get(count) or tuple(f"class {i}" for i in range(count))


def name_of(names: Sequence[str], class_id: int) -> str | None:
    """The class's name, or None where the list has none: a hand-written card may be too short for its model."""
    return names[class_id] if 0 <= class_id < len(names) else None
