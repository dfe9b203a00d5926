"""What was seen of a model's activations, and the file that keeps it.

The file is an .npz with one entry of JSON for the small things and a checksum over everything, so that one that was
cut short or damaged is noticed and never trusted.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.histogram import Histogram
from edge_sdk.errors import DatasetError, one_line
from edge_sdk.files import replacing

FORMAT = 1  # raised whenever the same model and photos would give another file

_ARRAYS = {"counts": np.int64, "by_photo": np.float32, "by_channel": np.float32}


@dataclass(frozen=True, eq=False)
class TensorStatistics:
    """What was seen of one tensor over all photos.

    Args:
        histogram: Of all finite values.
        photo_lows, photo_highs: float32 [photos], the extremes in each photo; nan where it had no finite value.
        channel_lows, channel_highs: float32 [channels], the extremes in each channel over all photos, of tensors
            [n, channels, h, w]; None for others.
        not_finite: Number of values that are infinite or no number; they are in nothing of the above.
        note: What is unusual, in words; empty where nothing is.
    """

    histogram: Histogram
    photo_lows: NDArray[np.float32]
    photo_highs: NDArray[np.float32]
    channel_lows: NDArray[np.float32] | None = None
    channel_highs: NDArray[np.float32] | None = None
    not_finite: int = 0
    note: str = ""

    @property
    def zero_fraction(self) -> float:
        """Of the values, how many are exactly zero: those cost nothing in any precision."""
        return self.histogram.zeros / max(1, self.histogram.total)

    @property
    def one_sided(self) -> bool:
        """No value on one side of zero: after ReLU or sigmoid, for example."""
        return self.histogram.low >= 0 or self.histogram.high <= 0

    @property
    def constant(self) -> bool:
        """All values are the same."""
        return self.histogram.low == self.histogram.high


@dataclass(frozen=True, eq=False)
class Statistics:
    """What was seen of a model's activations in one pass over the calibration photos.

    Args:
        tensors: By name, in the model's order.
        photos: Names of the photos, in their order.
        model_sha256: Of the model.
        feeds_sha256: Of all that it was fed.
        runtime: What ran it: "onnxruntime 1.31.1".
    """

    tensors: Mapping[str, TensorStatistics]
    photos: tuple[str, ...]
    model_sha256: str
    feeds_sha256: str
    runtime: str

    def to_bytes(self) -> bytes:
        """The file's content; the same for the same statistics."""
        arrays = self._arrays()
        about = json.dumps(self._about(), sort_keys=True, allow_nan=False).encode()
        arrays["about"] = np.frombuffer(about, np.uint8)
        arrays["sha256"] = np.frombuffer(_checksum(arrays), np.uint8)
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "statistics") -> Statistics:
        """Reads what `to_bytes` gave.

        Raises:
            DatasetError: Damaged, cut short, of another version, or something else; the message begins with `where`.
        """
        try:
            # A damaged zip raises whatever it met first.
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            stated = arrays.pop("sha256").tobytes()
            if stated != _checksum(arrays):
                raise ValueError("the checksum does not match")
            about = json.loads(arrays["about"].tobytes())
            if about["format"] != FORMAT:
                raise ValueError(f"format {about['format']} is not {FORMAT}, which this version reads")
            return cls._rebuilt(about, arrays)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError,
                AttributeError, IndexError, MemoryError) as error:  # fmt: skip
            raise DatasetError(f"{where}: cannot be read as calibration statistics: {one_line(error)}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes them, whole or not at all.

        Raises:
            SinkError: The folder is not there, or cannot be written.
        """
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Statistics:
        """Reads what `save` wrote, exactly.

        Raises:
            DatasetError: Not there, damaged, or of another version.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from error
        return cls.from_bytes(data, str(path))

    def _about(self) -> dict[str, Any]:
        rows = [
            {
                "name": name,
                "exponent": one.histogram.exponent,
                "first": one.histogram.first,
                "bins": len(one.histogram.counts),
                "zeros": one.histogram.zeros,
                "low": one.histogram.low,
                "high": one.histogram.high,
                "channels": None if one.channel_lows is None else len(one.channel_lows),
                "not_finite": one.not_finite,
                "note": one.note,
            }
            for name, one in self.tensors.items()
        ]
        head = {"model_sha256": self.model_sha256, "feeds_sha256": self.feeds_sha256, "runtime": self.runtime}
        return {"format": FORMAT, "photos": list(self.photos), **head, "tensors": rows}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        all_of = list(self.tensors.values())
        channels = [
            ends for one in all_of for ends in (one.channel_lows, one.channel_highs) if ends is not None
        ]  # fmt: skip
        return {
            "counts": _joined([one.histogram.counts for one in all_of], np.int64),
            "by_photo": _joined([ends for one in all_of for ends in (one.photo_lows, one.photo_highs)], np.float32),
            "by_channel": _joined(channels, np.float32),
        }

    @classmethod
    def _rebuilt(cls, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Statistics:
        takers = {name: _Taker(arrays[name].astype(kind, casting="no")) for name, kind in _ARRAYS.items()}
        photos = len(about["photos"])
        tensors = {}
        for row in about["tensors"]:
            counts = takers["counts"].take(row["bins"])
            histogram = Histogram(row["exponent"], row["first"], counts, row["zeros"], row["low"], row["high"])
            by_photo = takers["by_photo"].take(photos), takers["by_photo"].take(photos)
            channels = row["channels"]
            lows = None if channels is None else takers["by_channel"].take(channels)
            highs = None if channels is None else takers["by_channel"].take(channels)
            tensors[row["name"]] = TensorStatistics(
                histogram, by_photo[0], by_photo[1], lows, highs, row["not_finite"], row["note"]
            )
        return cls(tensors, tuple(about["photos"]), about["model_sha256"], about["feeds_sha256"], about["runtime"])


class _Taker:
    """Takes an array apart from the front."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array, self._at = array, 0

    def take(self, count: int) -> NDArray[Any]:
        piece = self._array[self._at : self._at + count]
        if len(piece) != count:
            raise ValueError("an array is too short")
        self._at += count
        return piece


def _joined(pieces: Sequence[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(pieces).astype(kind, casting="no") if pieces else np.zeros(0, kind)


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """sha256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
