"""A photo into a model's input tensor, and the geometry of the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.errors import ModelError, UsageError
from edge_sdk.models.card import ModelCard

# An OpenCV type of each size in bytes.
_BITS: dict[int, type[np.generic]] = {1: np.uint8, 2: np.uint16, 4: np.int32, 8: np.float64}


@dataclass(frozen=True)
class Geometry:
    """Model pixels to source pixels: source_xy = (model_xy - pad_xy) / scale_xy."""

    source_hw: tuple[int, int]
    scale_xy: tuple[float, float]
    pad_xy: tuple[float, float]

    def to_source(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Maps coordinates back; those outside the picture stay outside.

        Args:
            points: float32 [..., 2k], x and y in turn, in model pixels.

        Returns:
            float32 of the same shape, in source pixels.
        """
        repeats = points.shape[-1] // 2
        pad, scale = np.array([self.pad_xy * repeats, self.scale_xy * repeats], np.float32)
        return np.asarray((points - pad) / scale, np.float32)


def fit(source_hw: tuple[int, int], card: ModelCard) -> tuple[Geometry, tuple[int, int, int, int]]:
    """Where a photo of this size lands in the model's input.

    Returns:
        The geometry, and the photo's place in the input as (top, left, height, width) in model pixels.
    """
    height, width = source_hw
    input_h, input_w = card.input_hw
    if card.resize == "stretch":
        return Geometry(source_hw, (input_w / width, input_h / height), (0.0, 0.0)), (0, 0, input_h, input_w)
    # In whole numbers: in floats, 49 * (1 / 49) is less than 1. One pixel is the least that can be shown.
    if input_h * width <= input_w * height:
        new_h, new_w = input_h, max(1, width * input_h // height)
    else:
        new_h, new_w = max(1, height * input_w // width), input_w
    top, left = (0, 0) if card.resize == "letterbox_corner" else ((input_h - new_h) // 2, (input_w - new_w) // 2)
    # Rounding down makes the two axes differ by a fraction of a percent; each keeps its true scale.
    return Geometry(source_hw, (new_w / width, new_h / height), (float(left), float(top))), (top, left, new_h, new_w)


def as_bgr(image: Array) -> NDArray[np.uint8]:
    """A picture as uint8 [h, w, 3] BGR; grey and BGRA pictures are converted, as OpenCV reads them.

    Raises:
        UsageError: Not a uint8 picture of 1, 3 or 4 channels, or an empty one.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape:
        raise UsageError(f"an image must be a uint8 array [h, w, 3] in BGR order, not {_described(image)}")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 3:
        return image
    if channels == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    if channels == 4:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2BGR), np.uint8)
    raise UsageError(f"an image must have 1, 3 or 4 channels, not {channels}")


def _described(image: object) -> str:
    """What was given in a picture's place, and what was probably meant."""
    if isinstance(image, np.ndarray):
        return f"{image.dtype} {list(image.shape)}"
    if image is None:
        return "None, which cv2.imread returns for a file that it cannot read"
    if isinstance(image, (str, Path)):
        return "a path: read it with cv2.imread, or give it to edge_sdk.Camera"
    hint = ": numpy.asarray(image)[..., ::-1] makes one of an RGB picture" if hasattr(image, "getbands") else ""
    return f"{type(image).__name__}{hint}"


class Preprocessor:
    """Letterboxes pictures straight into a model's input, without allocating per frame.

    The padded canvas is drawn once per source size; a frame is resized into its place on the canvas
    and converted from there into the input. Only the rows that the photo covers are converted again.
    """

    def __init__(self, card: ModelCard, spec: TensorSpec) -> None:
        """Checks that the input is an image of the card's shape.

        Raises:
            ModelError: It is not.
        """
        self.card = card
        self.spec = spec
        height, width = card.input_hw
        picture = (3, height, width) if card.layout == "nchw" else (height, width, 3)
        # Some models take one picture rather than a batch.
        self.shape: tuple[int, ...] = picture if len(spec.shape) == 3 else (1, *picture)
        if len(spec.shape) != len(self.shape) or any(
            has not in (-1, want) for has, want in zip(spec.shape, self.shape, strict=True)
        ):
            raise ModelError(
                f"input {spec.name!r} is {list(spec.shape)}, but the model card says {list(self.shape)} ({card.layout})"
            )
        self._canvas = np.full((height, width, 3), card.pad, np.uint8)
        # The canvas in the model's own order of channels: as three planes, or turned.
        self._planes = np.empty(picture, np.uint8)
        self._source_hw: tuple[int, int] | None = None
        # Inputs whose padding is already written, by id; those that are gone drop out.
        self._padded: WeakValueDictionary[int, Array] = WeakValueDictionary()
        table = self._stored_values()
        self._plain = bool((table == np.arange(256)[:, np.newaxis]).all())
        self._bits = _BITS[table.dtype.itemsize]
        # One table a plane, or one for all channels, which is twice as fast where one column will do.
        columns = 1 if (table == table[:, :1]).all() else 3
        tables = table.T if card.layout == "nchw" else table[np.newaxis, :, :columns]
        self._tables = [np.ascontiguousarray(one).view(self._bits).reshape(1, 256, -1) for one in tables]

    def _stored_values(self) -> Array:
        """What each pixel value 0..255 is stored as, [256, 3]: normalisation and input quantization in one.

        stored = (pixel - mean) / std / scale + zero_point, rounded and saturated where the input holds whole numbers.
        """
        scale, zero_point = self.spec.quantization or (1.0, 0)
        pixels = np.arange(256, dtype=np.float64)[:, np.newaxis]
        stored = (pixels - self.card.mean) / (np.asarray(self.card.std) * scale) + zero_point
        if np.issubdtype(self.spec.dtype, np.integer):
            limits = np.iinfo(self.spec.dtype)
            stored = np.clip(np.rint(stored), limits.min, limits.max)
        return stored.astype(self.spec.dtype)

    def __call__(self, image: NDArray[np.uint8], out: Array) -> Geometry:
        """Fills `out`, an array of the model's input shape and dtype, from a uint8 [h, w, 3] BGR picture."""
        source_hw = (image.shape[0], image.shape[1])
        geometry, (top, left, height, width) = fit(source_hw, self.card)
        if source_hw != self._source_hw:
            self._canvas[:] = self.card.pad
            self._source_hw = source_hw
            self._padded.clear()
        target = self._canvas[top : top + height, left : left + width]
        if (height, width) == source_hw:
            np.copyto(target, image)
        else:
            cv2.resize(image, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
        # The padding of an input array is written once per source size.
        if self._padded.get(id(out)) is out:
            self._convert(slice(top, top + height), out)
        else:
            self._convert(slice(0, self.card.input_hw[0]), out)
            self._padded[id(out)] = out
        return geometry

    def _convert(self, rows: slice, out: Array) -> None:
        canvas, image = self._canvas[rows], out[0] if out.ndim == 4 else out
        if self.card.layout == "nhwc":
            if self.card.colour == "rgb":
                canvas = cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB, dst=self._planes[rows])
            self._store(canvas, image[rows], self._tables[0])
            return
        # Splitting first makes every later pass run over contiguous memory: 3 times faster than slicing channels.
        planes = [plane[rows] for plane in self._planes]
        cv2.split(canvas, planes)
        if self.card.colour == "rgb":
            planes.reverse()
        for channel, plane in enumerate(planes):
            self._store(plane, image[channel, rows], self._tables[channel])

    def _store(self, pixels: NDArray[np.uint8], into: Array, table: Array) -> None:
        if self._plain:
            np.copyto(into, pixels, casting="unsafe")
        else:  # half floats and 64-bit integers go as bits of an OpenCV type of their size
            cv2.LUT(pixels, table, dst=into.view(self._bits))


def image_spec(inputs: Sequence[TensorSpec]) -> TensorSpec | None:
    """The input that takes the picture: a batch of colour pictures, else any with four axes, else one [3, h, w]."""
    batches = [spec for spec in inputs if len(spec.shape) == 4]
    colour = [spec for spec in batches if 3 in (spec.shape[1], spec.shape[3])]
    single = [spec for spec in inputs if len(spec.shape) == 3 and spec.shape[0] == 3]
    return next(iter(colour + batches + single), None)
