"""A camera is lost and comes back, through the real code of each kind of source; the books balance to the frame."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

import edge_sdk
from edge_sdk.errors import SourceError
from edge_sdk.pipeline.supervisor import Reconnect
from edge_sdk.testing.fake_source import FakeDevice

# The product's promise; tests allow for a busy machine on top.
NOTICED_S = BACK_S = 2.0
BUSY_S = 4.0
SOON_S = 30.0


@pytest.fixture(scope="module")
def detector(yolox: Path) -> Iterator[edge_sdk.Detector]:
    with edge_sdk.Detector(yolox, threads=1) as one:
        yield one


class Run:
    """A camera that detects in a thread of its own."""

    def __init__(self, camera: edge_sdk.Camera) -> None:
        self.camera = camera
        self.results: list[edge_sdk.Result] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._detect)
        self._thread.start()

    def _detect(self) -> None:
        try:
            for result in self.camera.detect():
                self.results.append(result)
        except Exception as error:  # noqa: BLE001  the test looks at it
            self.error = error

    def until(self, holds: Callable[[], bool], within_s: float = SOON_S) -> float:
        """How long it took."""
        began = time.monotonic()
        while not holds():
            assert time.monotonic() - began < within_s, (self.camera.state, self.camera.events, self.error)
            time.sleep(0.01)
        return time.monotonic() - began

    def until_more(self, count: int = 3, within_s: float = SOON_S) -> float:
        """Waits for some more results."""
        before = len(self.results)
        return self.until(lambda: len(self.results) >= before + count, within_s)

    def states(self) -> list[str]:
        return [event.state for event in self.camera.events]

    def end(self) -> None:
        self.camera.close()
        self._thread.join(SOON_S)
        assert not self._thread.is_alive()


@contextmanager
def running(camera: edge_sdk.Camera) -> Iterator[Run]:
    run = Run(camera)
    try:
        yield run
    finally:
        run.end()
    if run.error is not None:
        raise run.error
    ids = [result.frame.id for result in run.results]
    assert ids == sorted(set(ids))
    stats = camera.stats
    assert stats.captured == stats.processed + sum(stats.dropped.values())
    assert stats.in_flight == 0
    assert stats.processed == len(run.results)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edge-sdk")]


def pictures(height: int, width: int) -> list[np.ndarray]:
    return [np.full((height, width, 3), value, np.uint8) for value in (40, 80, 120)]


def shape(run: Run) -> tuple[int, ...]:
    return run.results[-1].frame.image.shape


def test_a_camera_that_is_unplugged_in_the_middle_of_a_read_comes_back_with_another_size(
    detector: edge_sdk.Detector,
) -> None:
    device = FakeDevice(pictures(480, 640), fps=60)
    with running(edge_sdk.Camera(device, detector)) as run:
        run.until_more()
        device.unplug()
        assert run.until(lambda: run.camera.state == "reconnecting") < NOTICED_S + BUSY_S
        time.sleep(1.0)
        device.plug(pictures(720, 1280))
        assert run.until_more(1) < BACK_S + BUSY_S
        run.until_more()
        assert shape(run) == (720, 1280, 3)
    assert run.states() == ["starting", "streaming", "reconnecting", "streaming", "stopped"]
    assert run.camera.stats.reconnects == 1
    assert run.camera.stats.captured == device.delivered  # to the frame
    assert device.in_use == 0


def test_a_camera_that_stalls_is_opened_again(detector: edge_sdk.Detector) -> None:
    device = FakeDevice(pictures(480, 640), fps=60)
    with running(edge_sdk.Camera(device, detector)) as run:
        run.until_more(5)
        device.stall()
        assert run.until(lambda: run.camera.state == "stalled") < NOTICED_S + BUSY_S
        run.until(lambda: run.camera.state == "reconnecting")
        device.resume()
        assert run.until_more(1) < BACK_S + BUSY_S
    assert run.states() == ["starting", "streaming", "stalled", "reconnecting", "streaming", "stopped"]
    assert run.camera.stats.captured == device.delivered


def test_a_camera_without_reconnection_fails_with_the_cause(detector: edge_sdk.Detector) -> None:
    device = FakeDevice(pictures(480, 640), fps=60)
    heard: list[str] = []
    camera = edge_sdk.Camera(device, detector, reconnect=False, on_event=lambda event: heard.append(event.state))
    results = camera.detect()
    next(results)
    device.unplug()
    with pytest.raises(SourceError, match="was unplugged after"):
        list(results)
    assert heard == ["starting", "streaming", "failed"]
    assert camera.stats.in_flight == 0


def test_no_made_up_picture_reaches_the_model_while_the_camera_is_away(detector: edge_sdk.Detector) -> None:
    device = FakeDevice(pictures(480, 640), fps=60)
    with running(edge_sdk.Camera(device, detector)) as run:
        run.until_more()
        device.unplug()
        run.until(lambda: run.camera.state == "reconnecting")
        run.until(lambda: run.camera.stats.in_flight == 0)  # what was on its way has arrived
        before = len(run.results)
        time.sleep(0.7)
        assert len(run.results) == before
        device.plug()
        run.until_more()
    assert {int(result.frame.image[0, 0, 0]) for result in run.results} <= {40, 80, 120}


def test_after_two_hundred_reconnections_threads_and_descriptors_are_those_of_the_beginning(
    detector: edge_sdk.Detector,
) -> None:
    def held() -> tuple[int, int]:
        gc.collect()
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    device = FakeDevice(pictures(48, 64), fps=1000)
    before = held()
    policy = Reconnect(first_s=0.001, longest_s=0.002, restarts=1_000_000)
    with running(edge_sdk.Camera(device, detector, reconnect=policy)) as run:
        for number in range(1, 201):
            device.unplug()
            device.plug()
            run.until(lambda number=number: run.camera.stats.reconnects >= number)
    assert run.camera.stats.captured == device.delivered
    deadline = time.monotonic() + SOON_S
    while held() != before:
        assert time.monotonic() < deadline, (held(), before)
        time.sleep(0.05)


def test_an_rtsp_server_is_killed_and_comes_back_with_another_size(detector: edge_sdk.Detector, rtsp_server) -> None:
    server = rtsp_server(width=640, height=480)
    with running(edge_sdk.Camera(server.url, detector)) as run:
        run.until_more()
        server.kill()
        assert run.until(lambda: run.camera.state == "reconnecting") < NOTICED_S + BUSY_S
        time.sleep(3.0)
        server.start(width=320, height=240)
        assert run.until_more(1) < BACK_S + BUSY_S
        run.until_more()
        assert shape(run) == (240, 320, 3)
    assert run.camera.stats.reconnects == 1


def test_an_rtsp_server_that_stalls_is_noticed_and_streams_again_when_it_goes_on(
    detector: edge_sdk.Detector, rtsp_server
) -> None:
    server = rtsp_server(width=640, height=480)
    with running(edge_sdk.Camera(server.url, detector)) as run:
        run.until_more(10)
        server.stall()
        assert run.until(lambda: run.camera.state == "stalled") < NOTICED_S + BUSY_S
        time.sleep(5.0)
        assert run.camera.state == "reconnecting"
        server.go_on()
        assert run.until_more(1) < BACK_S + BUSY_S
    assert run.states()[:5] == ["starting", "streaming", "stalled", "reconnecting", "streaming"]


def test_a_short_silence_needs_no_new_connection(detector: edge_sdk.Detector, rtsp_server) -> None:
    server = rtsp_server(width=640, height=480)
    with running(edge_sdk.Camera(server.url, detector)) as run:
        run.until_more(10)
        server.stall()
        run.until(lambda: run.camera.state == "stalled")
        server.go_on()
        run.until_more()
    assert run.states() == ["starting", "streaming", "stalled", "streaming", "stopped"]
    assert (run.camera.stats.stalls, run.camera.stats.reconnects) == (1, 0)


WEBCAM_RUN = """
import json, os, sys, threading
import edge_sdk
camera = edge_sdk.Camera(sys.argv[1], sys.argv[2], threads=1,
                         on_event=lambda event: print(json.dumps({"state": event.state}), flush=True))
def close_when_told():
    sys.stdin.readline()
    camera.close()
threading.Thread(target=close_when_told, daemon=True).start()
last = None
for result in camera.detect():
    if result.frame.image.shape != last:
        last = result.frame.image.shape
        print(json.dumps({"shape": last}), flush=True)
stats = camera.stats
left = [one.name for one in threading.enumerate() if one.name.startswith("edge-sdk")]
print(json.dumps({"captured": stats.captured, "processed": stats.processed, "dropped": dict(stats.dropped),
                  "reconnects": stats.reconnects, "left": left}), flush=True)
"""


def test_a_webcam_is_unplugged_and_comes_back_through_opencvs_own_code(
    webcam, yolox: Path, shared: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small.jpg"
    cv2.imwrite(str(small), np.full((240, 320, 3), 90, np.uint8))
    process = webcam.popen("-c", WEBCAM_RUN, "/dev/video0", str(yolox), EDGE_SDK_ROOT=str(webcam.root))
    said: list[dict] = []
    assert process.stdout is not None

    def read() -> None:
        said.extend(json.loads(line) for line in process.stdout)

    reading = threading.Thread(target=read)
    reading.start()

    def until(line: dict, within_s: float) -> None:
        began = time.monotonic()
        while line not in said:
            assert time.monotonic() - began < within_s, said
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)

    try:
        until({"state": "streaming"}, SOON_S)
        webcam.unplug()
        until({"state": "reconnecting"}, NOTICED_S + BUSY_S)
        time.sleep(1.0)
        webcam.plug(small)
        until({"shape": [240, 320, 3]}, BACK_S + BUSY_S)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(SOON_S) == 0
    finally:
        process.kill()
        reading.join()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
    last = said[-1]
    assert last["captured"] == last["processed"] + sum(last["dropped"].values())
    assert (last["reconnects"], last["left"]) == (1, [])


def test_a_file_that_ends_in_the_middle_of_a_frame_ends_the_run_with_what_it_has(
    detector: edge_sdk.Detector, shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 25, (640, 480))
    for value in range(60):
        writer.write(np.full((480, 640, 3), value * 4, np.uint8))
    writer.release()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    camera = edge_sdk.Camera(cut, detector)
    began = time.monotonic()
    results = list(camera.detect())
    assert time.monotonic() - began < SOON_S
    assert 20 < len(results) < 60
    stats = camera.stats
    assert stats.captured == stats.processed + sum(stats.dropped.values())
    assert "the file is cut off" in caplog.text
