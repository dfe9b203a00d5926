"""Results as JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_sdk import Detections, Reading, Result
from edge_sdk.errors import SinkError
from edge_sdk.sinks.jsonl import JsonlSink, as_record

NAMES = ("person", "人")
IMAGE = np.zeros((4, 4, 3), np.uint8)
MakeResult = Callable[..., Result]


def two(**more) -> Detections:
    return Detections(
        np.array([[1.005, 2, 3, 4.123456], [5, 6, 7, 8]], np.float32),
        np.array([0.912345, 0.5], np.float32),
        np.array([1, 7], np.int32),
        **more,
    )


def test_a_line_has_the_keys_of_the_design(make_result: MakeResult) -> None:
    record = as_record(make_result(IMAGE, two(), id=12, source="rtsp://***@cam/1"), NAMES)
    assert list(record) == ["frame", "source", "captured_ns", "detections", "timing", "power", "counts"]
    assert (record["frame"], record["source"], record["captured_ns"]) == (12, "rtsp://***@cam/1", 7_000_000_000)
    assert record["power"] is None
    assert record["timing"] == {
        "wait_ms": 0.1, "preprocess_ms": 1.235, "infer_ms": 20.0, "decode_ms": 2.0, "total_ms": 23.5,
    }  # fmt: skip
    first, second = record["detections"]
    assert list(first) == ["xyxy", "confidence", "class_id", "class_name", "track_id"]
    assert first["xyxy"] == pytest.approx([1.0, 2.0, 3.0, 4.12], abs=0.006)
    assert (first["confidence"], first["class_id"], first["class_name"], first["track_id"]) == (0.9123, 1, "人", None)
    assert (second["class_id"], second["class_name"]) == (7, None)  # the model has no name for it


def test_a_class_id_below_zero_is_not_the_last_name(make_result: MakeResult) -> None:
    odd = replace(two(), class_id=np.array([-1, 0], np.int32))
    assert [one["class_name"] for one in as_record(make_result(IMAGE, odd), NAMES)["detections"]] == [None, "person"]


def test_tracks_landmarks_and_power_are_there_where_they_are_known(make_result: MakeResult) -> None:
    found = two(track_id=np.array([4, 5], np.int64), landmarks=np.ones((2, 2, 2), np.float32))
    result = replace(make_result(IMAGE, found), power=Reading("VDD_IN", 5.4999, "w", "sensor_total", 9, None))
    record = json.loads(json.dumps(as_record(result, NAMES)))
    assert [one["track_id"] for one in record["detections"]] == [4, 5]
    assert record["detections"][0]["landmarks"] == [[1.0, 1.0], [1.0, 1.0]]
    assert record["power"] == {
        "name": "VDD_IN", "value": 5.5, "unit": "w", "method": "sensor_total", "at_ns": 9, "reason": None,
    }  # fmt: skip


def test_a_sensor_that_fails_is_told_with_its_reason(make_result: MakeResult) -> None:
    result = replace(make_result(IMAGE, two()), power=Reading("board", None, "w", None, 9, "gone (ENODEV)"))
    power = json.loads(json.dumps(as_record(result, NAMES)))["power"]
    assert (power["value"], power["method"], power["reason"]) == (None, None, "gone (ENODEV)")


def test_each_frame_is_a_line_that_is_there_at_once(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("from before\n")
    with JsonlSink(path, NAMES) as sink:
        for number in range(3):
            sink.put(make_result(IMAGE, two(), id=number))
            lines = path.read_text(encoding="utf-8").splitlines()
            assert [json.loads(line)["frame"] for line in lines] == list(range(number + 1))
    assert path.read_bytes().endswith(b"\n")


def test_no_frame_makes_an_empty_file_and_closing_twice_is_nothing(tmp_path: Path) -> None:
    sink = JsonlSink(str(tmp_path / "out.jsonl"), NAMES)
    sink.close()
    sink.close()
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_a_closed_file_takes_no_result(tmp_path: Path, make_result: MakeResult) -> None:
    sink = JsonlSink(tmp_path / "out.jsonl", NAMES)
    sink.close()
    with pytest.raises(SinkError, match="closed file"):
        sink.put(make_result(IMAGE))


def test_a_dash_is_standard_output_which_stays_open(
    make_result: MakeResult, capsys: pytest.CaptureFixture[str]
) -> None:
    with JsonlSink("-", NAMES) as sink:
        sink.put(make_result(IMAGE, two()))
    print("after")  # noqa: T201
    line, after = capsys.readouterr().out.splitlines()
    assert (json.loads(line)["frame"], after) == (0, "after")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"gone/out\.jsonl: cannot be written"):
        JsonlSink(tmp_path / "gone/out.jsonl", NAMES)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error_of_the_sink(make_result: MakeResult) -> None:
    sink = JsonlSink("/dev/full", NAMES)
    with pytest.raises(SinkError, match="results cannot be written"):
        sink.put(make_result(IMAGE))
    with pytest.raises(SinkError, match="results cannot be written"):  # the line is still waiting to be written
        sink.close()
    sink.close()


def test_a_reader_that_has_gone_is_told_apart_from_a_full_disk(make_result: MakeResult) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    sink = JsonlSink(f"/dev/fd/{writer}", NAMES)
    with pytest.raises(BrokenPipeError):
        sink.put(make_result(IMAGE))
    with pytest.raises(BrokenPipeError):
        sink.close()
    os.close(writer)
