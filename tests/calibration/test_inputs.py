"""A model's inputs: the same as at run time, and no more of them in memory than allowed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge_sdk
from edge_sdk.calibration.inputs import Inputs
from edge_sdk.errors import BadFrameError
from edge_sdk.sources.files import photos_in, read_photo

from .scenes import write_colour_detector, write_scenes

SIZE = 64 * 64 * 3 * 4 / (1 << 20)  # MiB of one input of the colour detector


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[edge_sdk.Detector]:
    with edge_sdk.Detector(write_colour_detector(tmp_path_factory.mktemp("m") / "colours.onnx"), threads=1) as one:
        yield one


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_scenes(tmp_path_factory.mktemp("photos"), range(6), (40, 56))


class Counting:
    """Prepares pictures as the detector does, and counts them."""

    def __init__(self, detector: edge_sdk.Detector) -> None:
        self.detector = detector
        self.prepared = 0

    def new_prepared(self) -> object:
        return self.detector.new_prepared()

    def prepare(self, image: np.ndarray, into: object) -> object:
        self.prepared += 1
        return self.detector.prepare(image, into)


def test_calibration_feeds_are_the_run_times_bit_by_bit(detector: edge_sdk.Detector, paths: list[Path]) -> None:
    for path, feeds in zip(paths, Inputs(detector, Path).each(paths), strict=True):
        own = detector.prepare(read_photo(path), detector.new_prepared()).feeds
        assert feeds.keys() == own.keys()
        for name, array in own.items():
            np.testing.assert_array_equal(feeds[name], array)
            assert feeds[name].dtype == array.dtype


@pytest.mark.parametrize("model", ["yolox_nano/yolox_nano.onnx", "picodet_s/picodet_s_320_coco.onnx",
                                   "ssd_mobilenet_v1_quant/detect.tflite"])  # fmt: skip
def test_real_models_feeds_are_the_run_times_too(model: str, shared: Path) -> None:
    if model.endswith(".tflite"):
        pytest.importorskip("ai_edge_litert")
    photos = photos_in(shared / "data/coco_calib/images")[:3]
    with edge_sdk.Detector(shared / "models" / model, threads=1) as detector:
        for path, feeds in zip(photos, Inputs(detector, Path).each(photos), strict=True):
            prepared = detector.prepare(read_photo(path), detector.new_prepared())
            assert feeds.keys() == prepared.feeds.keys()
            assert all(np.array_equal(feeds[name], array) for name, array in prepared.feeds.items())
            detector.session.run(feeds)


def test_feeds_stay_as_they_are_when_the_next_is_read(detector: edge_sdk.Detector, paths: list[Path]) -> None:
    each = list(Inputs(detector, Path, memory_mib=0).each(paths))
    again = list(Inputs(detector, Path, memory_mib=100).each(paths))
    assert all(np.array_equal(one["images"], other["images"]) for one, other in zip(each, again, strict=True))
    with pytest.raises(ValueError, match="read-only"):
        each[0]["images"][...] = 0


@settings(max_examples=30)
@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 4))
def test_memory_stays_within_its_bound(
    detector: edge_sdk.Detector, paths: list[Path], asked: list[int], room: int
) -> None:
    inputs = Inputs(detector, Path, memory_mib=room * SIZE + SIZE / 2)
    for number in asked:
        next(iter(inputs.each([paths[number]])))
        assert inputs.kept_bytes <= room * SIZE * (1 << 20) + 1
    assert inputs.kept_bytes == min(room, len(set(asked))) * int(SIZE * (1 << 20))


def test_what_is_kept_is_not_prepared_again(detector: edge_sdk.Detector, paths: list[Path]) -> None:
    counting = Counting(detector)
    inputs = Inputs(counting, Path)
    for _ in range(3):
        list(inputs.each(paths))
    assert counting.prepared == len(paths)
    inputs.clear()
    assert inputs.kept_bytes == 0


def test_all_in_turn_with_room_for_half_prepares_half_each_time(detector: edge_sdk.Detector, paths: list[Path]) -> None:
    counting = Counting(detector)
    inputs = Inputs(counting, Path, memory_mib=3.5 * SIZE)
    for _ in range(5):
        list(inputs.each(paths))
    assert counting.prepared == 6 + 4 * 3


def test_pictures_that_are_asked_for_often_push_out_those_asked_for_once(
    detector: edge_sdk.Detector, paths: list[Path]
) -> None:
    counting = Counting(detector)
    inputs = Inputs(counting, Path, memory_mib=3.5 * SIZE)
    list(inputs.each(paths[:3]))  # ranges
    for _ in range(10):
        list(inputs.each(paths[3:]))  # probes
    assert counting.prepared == 3 + 3 + 3


def test_a_photo_that_is_gone_says_so(tmp_path: Path) -> None:
    inputs = Inputs(SimpleNamespace(new_prepared=lambda: None, prepare=None), Path)
    with pytest.raises(BadFrameError, match="it is gone"):
        list(inputs.each([tmp_path / "a.jpg"]))


def test_a_model_of_16_bit_floats_is_fed_as_its_canonical_form_is(tmp_path: Path, paths: list[Path]) -> None:
    from edge_sdk.calibration.canonical import canonical

    from ..models.tiny_yolox import write  # noqa: TID252  there is no package of tests to name

    model = write(tmp_path / "half.onnx", "half")
    with edge_sdk.Detector(model, backend="onnxruntime", threads=1) as detector:
        assert detector.own.feeds["images"].dtype == np.float16
        (feeds,) = Inputs(detector, Path).each(paths[:1])
        own = detector.prepare(read_photo(paths[0]), detector.own).feeds["images"]
    np.testing.assert_array_equal(feeds["images"], own)
    assert feeds["images"].dtype == np.float32
    assert "16-bit floats" in "".join(canonical(model, feeds=feeds).notes)
