"""Statistics on disk: they come back exactly, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.calibration.activations import Statistics, TensorStatistics
from edge_sdk.calibration.histogram import GrowingHistogram
from edge_sdk.errors import DatasetError, SinkError


def statistics() -> Statistics:
    random = np.random.default_rng(2)
    tensors = {}
    for number, name in enumerate(["stem", "a/b:0", "empty", "ß"]):
        growing = GrowingHistogram()
        photos = np.array([np.nan] * 3, np.float32)
        if name != "empty":
            values = random.normal(0, 3.0**number, (3, 500)).astype(np.float32)
            growing.add(values)
            photos = values.min(axis=1)
        channels = random.normal(size=4).astype(np.float32) if number % 2 else None
        tensors[name] = TensorStatistics(growing.snapshot(), photos, photos, channels, channels, number, "x" * number)
    return Statistics(tensors, ("a.jpg", "b.jpg", "c.jpg"), "m" * 64, "f" * 64, "onnxruntime 1")


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    saved = statistics()
    saved.save(tmp_path / "s.npz")
    loaded = Statistics.load(tmp_path / "s.npz")
    assert list(loaded.tensors) == list(saved.tensors)
    for name, one in saved.tensors.items():
        other = loaded.tensors[name]
        for field in ("counts", "exponent", "first", "zeros", "low", "high"):
            assert np.array_equal(getattr(one.histogram, field), getattr(other.histogram, field)), field
        assert np.array_equal(one.photo_lows, other.photo_lows, equal_nan=True)
        assert (one.channel_lows is None) == (other.channel_lows is None)
        assert one.channel_lows is None or np.array_equal(one.channel_lows, other.channel_lows)
        assert (one.not_finite, one.note) == (other.not_finite, other.note)
    for field in ("photos", "model_sha256", "feeds_sha256", "runtime"):
        assert getattr(loaded, field) == getattr(saved, field)
    assert loaded.to_bytes() == saved.to_bytes()


def test_the_same_statistics_make_the_same_file() -> None:
    assert statistics().to_bytes() == statistics().to_bytes()


def test_no_changed_byte_gives_other_statistics() -> None:
    sound = statistics().to_bytes()
    expected = Statistics.from_bytes(sound)
    noticed = 0
    for place in range(0, len(sound), max(1, len(sound) // 300)):
        damaged = bytearray(sound)
        damaged[place] ^= 0x41
        try:
            # A byte that stands for nothing, such as a date in the zip's directory, may differ.
            assert Statistics.from_bytes(bytes(damaged)).to_bytes() == expected.to_bytes()
        except DatasetError:
            noticed += 1
    assert noticed > 200


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"not a zip", b"\x93NUMPY"])
def test_what_is_something_else_is_a_clear_error(data: bytes) -> None:
    with pytest.raises(DatasetError, match=r"ranges\.npz: cannot be read as calibration statistics"):
        Statistics.from_bytes(data, "ranges.npz")


def test_a_file_that_was_cut_short_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    statistics().save(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DatasetError, match="cannot be read as calibration statistics"):
        Statistics.load(path)


def test_no_file_and_no_folder_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        Statistics.load(tmp_path / "nowhere.npz")
    with pytest.raises(SinkError, match="cannot be written"):
        statistics().save(tmp_path / "nowhere" / "s.npz")


def test_no_tensors_at_all_can_be_kept() -> None:
    none = Statistics({}, ("a",), "m", "f", "r")
    assert dict(Statistics.from_bytes(none.to_bytes()).tensors) == {}
