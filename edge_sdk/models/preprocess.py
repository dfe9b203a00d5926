"""A photo into a model's input tensor, and the geometry of the way back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.errors import ModelError, UsageError
from edge_sdk.models.card import ModelCard


@dataclass(frozen=True)
class Geometry:
    """Model pixels to source pixels: source_xy = (model_xy - pad_xy) / scale_xy."""

    source_hw: tuple[int, int]
    scale_xy: tuple[float, float]
    pad_xy: tuple[float, float]

    def to_source(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Maps coordinates back and clips them to the picture.

        Args:
            points: float32 [..., 2k], x and y in turn, in model pixels.

        Returns:
            float32 of the same shape, in source pixels.
        """
        repeats = points.shape[-1] // 2
        pad = np.tile(np.asarray(self.pad_xy, np.float32), repeats)
        scale = np.tile(np.asarray(self.scale_xy, np.float32), repeats)
        height, width = self.source_hw
        limit = np.tile(np.asarray((width, height), np.float32), repeats)
        return np.clip((points - pad) / scale, np.float32(0), limit).astype(np.float32, copy=False)


def fit(source_hw: tuple[int, int], card: ModelCard) -> tuple[Geometry, tuple[int, int, int, int]]:
    """Where a photo of this size lands in the model's input.

    Returns:
        The geometry, and the photo's place in the input as (top, left, height, width) in model pixels.
    """
    height, width = source_hw
    input_h, input_w = card.input_hw
    if card.resize == "stretch":
        return Geometry(source_hw, (input_w / width, input_h / height), (0.0, 0.0)), (0, 0, input_h, input_w)
    ratio = min(input_h / height, input_w / width)
    # A 1 x 5000 photo would vanish: one pixel is the least that can be shown.
    new_h, new_w = max(1, int(height * ratio)), max(1, int(width * ratio))
    top, left = (0, 0) if card.resize == "letterbox_corner" else ((input_h - new_h) // 2, (input_w - new_w) // 2)
    # Rounding down makes the two axes differ by a fraction of a percent; each keeps its true scale.
    return Geometry(source_hw, (new_w / width, new_h / height), (float(left), float(top))), (top, left, new_h, new_w)


def as_bgr(image: Array) -> NDArray[np.uint8]:
    """A picture as uint8 [h, w, 3] BGR; grey and BGRA pictures are converted, as OpenCV reads them.

    Raises:
        UsageError: Not a uint8 picture of 1, 3 or 4 channels, or an empty one.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UsageError(f"an image must be a uint8 array [h, w, 3] in BGR order, not {found}")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 3:
        return image
    if channels == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    if channels == 4:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2BGR), np.uint8)
    raise UsageError(f"an image must have 1, 3 or 4 channels, not {channels}")


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
        self.shape = (1, 3, height, width) if card.layout == "nchw" else (1, height, width, 3)
        if len(spec.shape) != 4 or any(has not in (-1, want) for has, want in zip(spec.shape, self.shape, strict=True)):
            raise ModelError(
                f"input {spec.name!r} is {list(spec.shape)}, but the model card says {list(self.shape)} ({card.layout})"
            )
        self._canvas = np.full((height, width, 3), card.pad, np.uint8)
        self._source_hw: tuple[int, int] | None = None
        self._filled: set[int] = set()
        self._gain, self._offset, self._plain = self._affine()

    def _affine(self) -> tuple[list[float], list[float], bool]:
        """stored = pixel * gain + offset per channel: normalisation and input quantization in one."""
        scale, zero_point = self.spec.quantization or (1.0, 0)
        gain = [1.0 / (s * scale) for s in self.card.std]
        offset = [zero_point - m / (s * scale) for m, s in zip(self.card.mean, self.card.std, strict=True)]
        plain = all(abs(g - 1) < 1e-6 for g in gain) and all(abs(o) < 1e-6 for o in offset)
        return gain, offset, plain

    def __call__(self, image: NDArray[np.uint8], out: Array) -> Geometry:
        """Fills `out`, an array of the model's input shape and dtype, from a uint8 [h, w, 3] BGR picture."""
        source_hw = (image.shape[0], image.shape[1])
        geometry, (top, left, height, width) = fit(source_hw, self.card)
        if source_hw != self._source_hw:
            self._canvas[:] = self.card.pad
            self._source_hw = source_hw
            self._filled.clear()
        target = self._canvas[top : top + height, left : left + width]
        if (height, width) == source_hw:
            np.copyto(target, image)
        else:
            cv2.resize(image, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
        # The padding of an input array is written once per source size.
        if id(out) in self._filled:
            self._convert(slice(top, top + height), out)
        else:
            self._convert(slice(0, self.card.input_hw[0]), out)
            self._filled.add(id(out))
        return geometry

    def _convert(self, rows: slice, out: Array) -> None:
        canvas = self._canvas[rows]
        image = out[0]
        order = (2, 1, 0) if self.card.colour == "rgb" else (0, 1, 2)
        for channel, source in enumerate(order):
            plane = canvas[..., source]
            into = image[channel, rows] if self.card.layout == "nchw" else image[rows, :, channel]
            if self._plain:
                np.copyto(into, plane, casting="unsafe")
            elif np.issubdtype(into.dtype, np.integer):
                limits = np.iinfo(into.dtype)
                real = np.rint(plane * np.float32(self._gain[channel]) + np.float32(self._offset[channel]))
                np.copyto(into, np.clip(real, limits.min, limits.max), casting="unsafe")
            else:
                np.multiply(plane, into.dtype.type(self._gain[channel]), out=into, casting="unsafe")
                into += into.dtype.type(self._offset[channel])
