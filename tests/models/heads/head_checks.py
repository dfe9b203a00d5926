"""What the tests of several heads need: specs, broken outputs, and a real model run on a real photo."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from edge_sdk import targets
from edge_sdk.backends.base import Array, TensorSpec, backends
from edge_sdk.detections import Detections
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import Head
from edge_sdk.models.preprocess import Geometry, Preprocessor, image_spec
from edge_sdk.models.recognise import recognise

# A photo of 640 x 426 with a man from the chest up, looked at: where he, his tie and his face are.
PORTRAIT = "data/coco_eval/images/000000008532.jpg"
MAN = (150, 10, 640, 426)
TIE = (421, 370, 494, 426)
FACE = (345, 75, 525, 305)

# One half and two fifths of a 500 x 300 picture, moved right by 3 and down by 7 model pixels.
GEOMETRY = Geometry(source_hw=(300, 500), scale_xy=(0.5, 0.4), pad_xy=(3.0, 7.0))


def to_model(source_xyxy: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Corners in the source picture to model pixels, by GEOMETRY's definition."""
    left, top, right, bottom = source_xyxy
    return left * 0.5 + 3, top * 0.4 + 7, right * 0.5 + 3, bottom * 0.4 + 7


def spec(name: str, *shape: int, dtype: type = np.float32, quantization: tuple[float, int] | None = None) -> TensorSpec:
    return TensorSpec(name, shape, np.dtype(dtype), quantization)


def specs_of(outputs: Mapping[str, Array]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, array.shape, array.dtype) for name, array in outputs.items())


def read_only(outputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """The same arrays, which raise when written to."""
    for array in outputs.values():
        array.flags.writeable = False
    return outputs


def claims_of_all_heads(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> list[str]:
    from edge_sdk.models.heads.base import heads

    return [name for name, head in heads().items() if head.recognise(inputs, outputs, {}) is not None]


def decode_broken(head: Head, card: ModelCard, shapes: Mapping[str, tuple[int, ...]], seed: int) -> Detections:
    """Decodes a broken model's outputs, with every warning an error, and checks that what remains is sane."""
    rng = np.random.default_rng(seed)
    values = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-30, 0.5, 1.0, 7.0], np.float32)
    # Whole and broken rows mixed, so that something passes the threshold.
    outputs = {
        name: np.where(rng.random(shape) < 0.3, rng.choice(values, shape), rng.random(shape, np.float32)).astype(
            np.float32
        )
        for name, shape in shapes.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = head.decode(read_only(outputs), card, GEOMETRY, confidence=0.1, iou=0.5, multi_label=True)
    assert np.isfinite(found.xyxy).all()
    assert ((found.confidence > 0.1) & (found.confidence <= 1)).all()
    assert ((found.class_id >= 0) & (found.class_id < len(card.classes))).all()
    assert found.landmarks is None or np.isfinite(found.landmarks).all()
    return found


def run_real(model: Path, photo: Path, confidence: float) -> tuple[ModelCard, Detections]:
    """What a model finds in a photo, read by the one head that recognises it."""
    picture = cv2.imread(str(photo))
    assert picture is not None
    backend = next(one for one in backends().values() if model.suffix in one.suffixes and one.missing() is None)
    with backend.open(model, targets.load("generic-x86_64"), threads=1, options={}) as session:
        head, card = recognise(session, model)
        image = image_spec(session.inputs)
        assert image is not None
        preprocessor = Preprocessor(card, image)
        feeds = session.new_feeds({image.name: preprocessor.shape})
        geometry = preprocessor(picture, feeds[image.name])
        iou = head.default_iou if head.default_iou is not None else 0.6
        found = head.decode(session.run(feeds), card, geometry, confidence=confidence, iou=iou, multi_label=False)
    return card, found.copy()


def best_of(card: ModelCard, found: Detections, name: str) -> tuple[float, float, float, float]:
    """The best-scored box of a class."""
    return next(one.xyxy for one in found if card.classes[one.class_id] == name)


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (areas - width * height)
