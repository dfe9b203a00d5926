"""A sink that raises, hangs, or whose disk is full costs itself results; the run and the other sinks go on."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edge_sdk
from edge_sdk.errors import SinkError
from edge_sdk.sinks.base import Sink
from edge_sdk.sinks.jsonl import JsonlSink
from edge_sdk.sinks.video import VideoSink
from edge_sdk.testing.fake_source import FakeSource

SOON_S = 30.0


@pytest.fixture(scope="module")
def detector(yolox: Path) -> Iterator[edge_sdk.Detector]:
    with edge_sdk.Detector(yolox, threads=1) as one:
        yield one


class Counting(Sink):
    name = "counting"

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.closed = False

    def put(self, result: edge_sdk.Result) -> None:
        self.ids.append(result.frame.id)

    def close(self) -> None:
        self.closed = True


class Raising(Counting):
    name = "raising"

    def put(self, result: edge_sdk.Result) -> None:
        raise SinkError("the other side says no")


class Hanging(Counting):
    name = "hanging"
    wants_image = True

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def put(self, result: edge_sdk.Result) -> None:
        self.go.wait(SOON_S)


def source() -> FakeSource:
    return FakeSource(itertools.cycle([np.full((240, 320, 3), 99, np.uint8)]), fps=200, live=True)


def test_broken_sinks_cost_the_others_nothing_and_the_run_ends_in_time(detector: edge_sdk.Detector) -> None:
    raising, hanging, counting = Raising(), Hanging(), Counting()
    full = JsonlSink("/dev/full", detector.class_names)
    camera = edge_sdk.Camera(source(), detector)
    ids = [result.frame.id for result in camera.detect(frames=40, sinks=[raising, hanging, full, counting])]
    ended = time.monotonic()
    stats = camera.stats
    assert counting.ids == ids
    assert counting.closed
    assert (stats.sinks["raising"].failed, stats.sinks["raising"].error) == (40, "the other side says no")
    assert stats.sinks["jsonl:/dev/full"].failed == 40
    assert "No space left on device" in stats.sinks["jsonl:/dev/full"].error
    assert stats.sinks["hanging"].dropped >= 35
    assert stats.processed == 40
    assert stats.in_flight == 0
    hanging.go.set()
    while any(thread.name.startswith("edge-sdk") for thread in threading.enumerate()):
        assert time.monotonic() - ended < SOON_S
        time.sleep(0.01)


def test_a_run_that_is_dropped_in_the_middle_does_not_wait_for_a_sink_that_hangs(detector: edge_sdk.Detector) -> None:
    hanging = Hanging()
    results = edge_sdk.Camera(source(), detector).detect(sinks=[hanging])
    for _ in range(5):
        next(results)
    began = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 2 + 4  # the promise, and what a busy machine takes
    hanging.go.set()


def test_a_full_disk_under_a_recording_leaves_the_frames_until_then(
    detector: edge_sdk.Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, lines = tmp_path / "out.avi", tmp_path / "out.jsonl"
    sink = VideoSink(clip, detector.class_names, 25.0)
    room = iter([True] * 10)

    def check_room() -> None:
        if not next(room, False):
            raise SinkError("the disk is full")

    monkeypatch.setattr(sink, "_check_room", check_room)
    camera = edge_sdk.Camera(source(), detector)
    list(camera.detect(frames=20, sinks=[sink, JsonlSink(lines, detector.class_names)]))
    assert len(lines.read_text().splitlines()) == 20
    written = camera.stats.sinks[f"video:{clip}"]
    assert (written.written, written.error) == (10, "the disk is full")
    assert len(list(edge_sdk.Camera(clip, detector).detect())) == 10
