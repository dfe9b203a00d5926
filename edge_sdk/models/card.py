"""The model card: how to feed and read one model, and where that is written down.

Three places, the first that speaks wins: a sidecar TOML (``model.toml`` beside ``model.onnx``, or a
path the caller gives), metadata in the file, and recognition by a head.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from edge_sdk.errors import ModelError, ModelNotFoundError, one_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Layout = Literal["nchw", "nhwc"]
Colour = Literal["rgb", "bgr"]
Resize = Literal["letterbox_corner", "letterbox_centre", "stretch"]

_MAX_SIDECAR_BYTES = 1 << 20  # a card is a page, not a book
_MAX_SIDE_PX = 16384
_MAX_PIXELS = 1 << 24  # 4096 x 4096: the input alone has 200 MiB then


@dataclass(frozen=True)
class ModelCard:
    """How to feed and read one model; from a sidecar, metadata, or a head that recognised it.

    Args:
        head: Name of the head that decodes the outputs.
        input_hw: Height and width of the input in pixels.
        classes: Class names by id.
        layout: Order of the input's axes.
        colour: Order of the input's channels.
        resize: How a photo of another shape is made to fit.
        mean, std: The model is fed (pixel - mean) / std, on the 0..255 scale, in `colour` order.
        pad: Grey value 0..255 of the area a letterbox leaves free.
        licence: Of the weights; None where nobody says.
    """

    head: str
    input_hw: tuple[int, int]
    classes: tuple[str, ...]
    layout: Layout = "nchw"
    colour: Colour = "rgb"
    resize: Resize = "letterbox_centre"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pad: int = 114
    licence: str | None = None

    def __post_init__(self) -> None:
        for name, kind in (("layout", Layout), ("colour", Colour), ("resize", Resize)):
            if getattr(self, name) not in get_args(kind):
                raise ModelError(
                    f"model card: {name} is {getattr(self, name)!r}, must be one of {', '.join(get_args(kind))}"
                )
        if len(self.input_hw) != 2 or not all(isinstance(v, int) and 1 <= v <= _MAX_SIDE_PX for v in self.input_hw):
            raise ModelError(f"model card: input_hw is {self.input_hw!r}, must be two whole pixel counts")
        if self.input_hw[0] * self.input_hw[1] > _MAX_PIXELS:
            raise ModelError(f"model card: input_hw is {self.input_hw!r}, more than {_MAX_PIXELS} pixels")
        if not self.classes:
            raise ModelError("model card: classes is empty")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(map(math.isfinite, self.mean + self.std)):
            raise ModelError("model card: mean and std are three finite numbers each")
        if 0 in self.std:
            raise ModelError(f"model card: std is {self.std!r}, none of which may be 0")
        if not 0 <= self.pad <= 255:
            raise ModelError(f"model card: pad is {self.pad}, must be 0..255")


def sidecar_path(model: Path) -> Path:
    """Where the card of a model file lies: the same name with .toml."""
    return model.with_suffix(".toml")


def read_sidecar(path: Path) -> dict[str, Any]:
    """Reads the fields that a sidecar states; those left out come from metadata or recognition.

    Raises:
        ModelNotFoundError: No such file.
        ModelError: Not TOML, an unknown key, or a value of the wrong kind.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_SIDECAR_BYTES + 1)
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{path}: no such model card") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {one_line(error)}") from error
    if len(raw) > _MAX_SIDECAR_BYTES:
        raise ModelError(f"{path}: more than {_MAX_SIDECAR_BYTES} bytes is too long for a model card")
    try:
        table = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number of 5000 digits, lists in lists
        raise ModelError(f"{path}: not a TOML model card: {one_line(error)}") from error
    return checked_fields(table, str(path))


def checked_fields(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A card's fields from plain values, of the right kinds; unknown keys are refused.

    Raises:
        ModelError: As said, naming `where`, the key and what was expected.
    """
    known = {field.name for field in fields(ModelCard)}
    unknown = sorted(set(table) - known)
    if unknown:
        raise ModelError(f"{where}: unknown key {unknown[0]!r}; a model card has {', '.join(sorted(known))}")
    lengths = {"input_hw": (2, (int,)), "mean": (3, (int, float)), "std": (3, (int, float)), "classes": (None, (str,))}
    chosen: dict[str, Any] = {}
    for key, value in table.items():
        if key in lengths:
            length, kinds = lengths[key]
            if not isinstance(value, (list, tuple)) or not all(
                isinstance(v, kinds) and not isinstance(v, bool) for v in value
            ):
                raise ModelError(f"{where}: {key} must be a list of {' or '.join(k.__name__ for k in kinds)}")
            if length is not None and len(value) != length:
                raise ModelError(f"{where}: {key} must have {length} values, not {len(value)}")
            chosen[key] = _floats(value) if key in ("mean", "std") else tuple(value)
        else:
            kind = int if key == "pad" else str
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ModelError(f"{where}: {key} must be {'a whole number' if kind is int else 'text'}")
            chosen[key] = value
    return chosen


def _floats(values: Sequence[int | float]) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in values)
    except OverflowError:  # a whole number beyond any float
        return (math.inf,) * len(values)
