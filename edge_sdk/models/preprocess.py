"""A photo into a model's input tensor, and the geometry of the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

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
        pad, scale = _repeated(self.pad_xy, self.scale_xy, points.shape[-1] // 2)
        return np.asarray((points - pad) / scale, np.float32)


@lru_cache(maxsize=64)
def _repeated(
    pad_xy: tuple[float, float], scale_xy: tuple[float, float], times: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both as float32 [2 * times]. A camera's are the same for each frame."""
    return np.array(pad_xy * times, np.float32), np.array(scale_xy * times, np.float32)


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

    The canvas is its own, so each thread and each camera has one of these. The padding of the canvas and of the input
    is written anew only where the pictures' size or the input array is another than the last time.
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
        self._canvas = np.empty((height, width, 3), np.uint8)
        # The canvas in the model's own order of channels: as three planes, or turned.
        self._planes = np.empty(picture, np.uint8)
        self._source_hw: tuple[int, int] | None = None
        self._padded: Array | None = None  # the input whose padding is written
        self._store = _storing(card, spec)

    def __call__(self, image: NDArray[np.uint8], out: Array) -> Geometry:
        """Fills `out`, an array of the model's input shape and dtype, from a uint8 [h, w, 3] BGR picture."""
        source_hw = (image.shape[0], image.shape[1])
        if source_hw != self._source_hw:
            self._geometry, self._place = fit(source_hw, self.card)
            self._canvas[:] = self.card.pad
            self._source_hw, self._padded = source_hw, None
        top, left, height, width = self._place
        target = self._canvas[top : top + height, left : left + width]
        if (height, width) == source_hw:
            np.copyto(target, image)
        else:
            cv2.resize(image, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
        self._convert(slice(top, top + height) if self._padded is out else slice(None), out)
        self._padded = out
        return self._geometry

    def _convert(self, rows: slice, out: Array) -> None:
        canvas, image = self._canvas[rows], out[0] if out.ndim == 4 else out
        if self.card.layout == "nhwc":
            if self.card.colour == "rgb":
                canvas = cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB, dst=self._planes[rows])
            self._store(canvas, image[rows])
            return
        # Splitting first makes every later pass run over contiguous memory: 3 times faster than slicing channels.
        planes = self._planes[:, rows]
        cv2.split(canvas, list(planes if self.card.colour == "bgr" else planes[::-1]))
        self._store(planes, image[:, rows])


def _storing(card: ModelCard, spec: TensorSpec) -> Callable[[NDArray[np.uint8], Array], None]:
    """What writes pixels, in the model's order of axes and channels, as the input stores them.

    stored = (pixel - mean) / std / scale + zero_point, rounded and saturated where the input holds whole numbers:
    normalisation and input quantization in one.
    """
    scale, zero_point = spec.quantization or (1.0, 0)
    pixels = np.arange(256, dtype=np.float64)[:, np.newaxis]
    divisor = np.asarray(card.std) * scale
    stored = (pixels - card.mean) / divisor + zero_point
    if np.issubdtype(spec.dtype, np.integer):
        limits = np.iinfo(spec.dtype)
        stored = np.clip(np.rint(stored), limits.min, limits.max)
    table = stored.astype(spec.dtype)  # [256, 3]: a column a channel
    if (table == pixels).all():
        return lambda pixels, into: np.copyto(into, pixels, casting="unsafe")
    uniform = bool((table == table[:, :1]).all())
    if spec.dtype == np.float32 and uniform:
        return _scaled(1 / divisor[0], stored[0, 0])
    if card.layout == "nhwc":
        return _looked_up(table[:, :1] if uniform else table)  # one column is twice as fast
    if spec.dtype == np.float32:
        return _scaled(1 / divisor.reshape(3, 1, 1), stored[0].reshape(3, 1, 1))
    columns = [_looked_up(table[:, channel : channel + 1]) for channel in range(3)]

    def each_plane(planes: NDArray[np.uint8], into: Array) -> None:
        for store, plane, place in zip(columns, planes, into, strict=True):
            store(plane, place)

    return each_plane


def _scaled(factor: Array, offset: Array) -> Callable[[NDArray[np.uint8], Array], None]:
    """pixel * factor + offset in float32: twice as fast as a table, and within 1e-6 of it."""
    factor, offset = factor.astype(np.float32), offset.astype(np.float32)
    shifts = bool(offset.any())

    def store(pixels: NDArray[np.uint8], into: Array) -> None:
        np.multiply(pixels, factor, out=into, dtype=np.float32)
        if shifts:
            np.add(into, offset, out=into)

    return store


def _looked_up(table: Array) -> Callable[[NDArray[np.uint8], Array], None]:
    """By a table [256, channels]; half floats and 64-bit integers go as bits of an OpenCV type of their size."""
    bits = _BITS[table.dtype.itemsize]
    table = np.ascontiguousarray(table).view(bits).reshape(1, 256, -1)
    return lambda pixels, into: cv2.LUT(pixels, table, dst=into.view(bits))


def image_spec(inputs: Sequence[TensorSpec]) -> TensorSpec | None:
    """The input that takes the picture: a batch of colour pictures, else any with four axes, else one [3, h, w]."""
    batches = [spec for spec in inputs if len(spec.shape) == 4]
    colour = [spec for spec in batches if 3 in (spec.shape[1], spec.shape[3])]
    single = [spec for spec in inputs if len(spec.shape) == 3 and spec.shape[0] == 3]
    return next(iter(colour + batches + single), None)
