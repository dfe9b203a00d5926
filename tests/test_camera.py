"""The camera: real clips through the loop, and a fake source where frames must come and go on demand."""

from __future__ import annotations

import gc
import logging
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import edge_sdk
from edge_sdk.errors import BackendError, BadFrameError, SourceError, SourceNotFoundError, UsageError
from edge_sdk.pipeline.failures import IN_A_ROW
from edge_sdk.sinks.jsonl import JsonlSink
from edge_sdk.sinks.video import VideoSink
from edge_sdk.testing.fake_source import FakeSource


@pytest.fixture(scope="module")
def detector(yolox: Path):
    with edge_sdk.Detector(yolox, threads=1) as one:
        yield one


@pytest.fixture(scope="module")
def picture(bear: Path) -> np.ndarray:
    return cv2.imread(str(bear))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_clip_is_read_to_its_last_frame_and_nothing_is_lost(highway: Path, detector: edge_sdk.Detector) -> None:
    with edge_sdk.Camera(highway, detector) as camera:
        results = list(camera.detect())
    assert [result.frame.id for result in results] == list(range(38))
    cars = [sum(detector.class_names[i] == "car" for i in r.detections.class_id) for r in results]
    assert min(cars) >= 2
    stats = camera.stats
    assert (stats.captured, stats.processed, dict(stats.dropped), stats.in_flight) == (38, 38, {}, 0)


def test_timing_adds_up(highway: Path, detector: edge_sdk.Detector) -> None:
    with edge_sdk.Camera(highway, detector) as camera:
        for result in camera.detect(frames=5):
            timing = result.timing
            stages = timing.wait_ms + timing.preprocess_ms + timing.infer_ms + timing.decode_ms
            assert stages == pytest.approx(timing.total_ms, abs=1e-6)
            assert min(timing.wait_ms, timing.preprocess_ms, timing.infer_ms, timing.decode_ms) >= 0


def test_it_works_without_a_with_and_leaves_nothing_behind(highway: Path, yolox: Path) -> None:
    list(edge_sdk.Camera(highway, yolox).detect(frames=1))  # what the engine allocates once is there now
    gc.collect()
    files, threads = open_files(), threading.active_count()
    for _ in range(3):
        for _result in edge_sdk.Camera(highway, yolox).detect():
            break
    gc.collect()
    assert open_files() == files
    assert threading.active_count() == threads


def test_a_live_camera_dropped_in_the_middle_leaves_no_thread(detector: edge_sdk.Detector, picture: np.ndarray) -> None:
    before = {thread.ident for thread in threading.enumerate()}
    source = FakeSource(_forever(picture), fps=200, live=True)
    for _result in edge_sdk.Camera(source, detector).detect():
        break
    gc.collect()
    assert {t.ident for t in threading.enumerate()} <= before
    assert source.closed


def test_frames_and_seconds_bound_a_run(detector: edge_sdk.Detector, picture: np.ndarray) -> None:
    with edge_sdk.Camera(FakeSource(_forever(picture)), detector) as camera:
        assert len(list(camera.detect(frames=3))) == 3
        began = time.monotonic()
        assert len(list(camera.detect(seconds=0.2))) >= 1
        assert time.monotonic() - began < 5


def test_of_a_fast_live_source_the_newest_is_taken_and_every_frame_is_accounted_for(
    detector: edge_sdk.Detector, picture: np.ndarray
) -> None:
    """The source is several times faster than the model: frames are overwritten, none is seen twice, none vanishes."""
    source = FakeSource(_forever(picture), fps=400, live=True)
    with edge_sdk.Camera(source, detector) as camera:
        ids = [result.frame.id for result in camera.detect(frames=20)]
    assert ids == sorted(set(ids))
    stats = camera.stats
    assert stats.dropped["overwritten"] > 0
    assert stats.captured == stats.processed + sum(stats.dropped.values()) + stats.in_flight
    assert stats.in_flight == 0
    assert stats.processed == 20


def test_a_bad_frame_is_reported_counted_and_passed_over(
    detector: edge_sdk.Detector, picture: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    source = FakeSource([picture] * 4, script={1: BadFrameError("frame 1 is smeared")})
    with caplog.at_level(logging.WARNING, "edge_sdk"), edge_sdk.Camera(source, detector) as camera:
        ids = [result.frame.id for result in camera.detect()]
    assert ids == [0, 2, 3]
    assert "frame 1 is smeared" in caplog.text
    assert camera.stats.dropped == {"decode_error": 1}
    assert camera.stats.captured == 4


@pytest.mark.parametrize("live", [False, True])
def test_a_source_that_fails_raises_its_own_error(detector: edge_sdk.Detector, picture: np.ndarray, live: bool) -> None:
    source = FakeSource([picture] * 5, fps=50, live=live, script={3: SourceError("the cable was pulled")})
    with edge_sdk.Camera(source, detector) as camera, pytest.raises(SourceError, match="the cable was pulled"):
        list(camera.detect())
    assert camera.stats.in_flight == 0


def test_several_cameras_share_one_detector(highway: Path, bear: Path, detector: edge_sdk.Detector) -> None:
    with edge_sdk.Camera(highway, detector) as street, edge_sdk.Camera(bear, detector) as wood:
        both = zip(street.detect(frames=1), wood.detect(), strict=True)
        ((cars, bears),) = [(first.detections, second.detections) for first, second in both]
    assert detector.class_names[cars.class_id[0]] == "car"
    assert detector.class_names[bears.class_id[0]] == "bear"
    detector(cv2.imread(str(bear)))  # it was lent, so it is still open


def test_no_camera_found_says_what_else_can_be_named(
    yolox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_SDK_ROOT", str(tmp_path))
    with pytest.raises(SourceNotFoundError, match="no camera found on this machine"):
        edge_sdk.Camera(model=yolox)


def test_a_model_that_cannot_be_opened_closes_the_source(picture: np.ndarray) -> None:
    source = FakeSource([picture])
    with pytest.raises(FileNotFoundError):
        edge_sdk.Camera(source, "nope.onnx")
    assert source.closed


def test_a_closed_camera_says_so(highway: Path, detector: edge_sdk.Detector) -> None:
    camera = edge_sdk.Camera(highway, detector)
    camera.close()
    camera.close()
    with pytest.raises(UsageError, match="the camera is closed"):
        camera.detect()


def test_it_detects_once_at_a_time(highway: Path, detector: edge_sdk.Detector) -> None:
    with edge_sdk.Camera(highway, detector) as camera:
        first = camera.detect()
        next(first)
        with pytest.raises(UsageError, match="already detecting"):
            camera.detect()


def test_two_iterators_made_before_either_began_do_not_both_run(highway: Path, detector: edge_sdk.Detector) -> None:
    with edge_sdk.Camera(highway, detector) as camera:
        first, second = camera.detect(), camera.detect()
        next(first)
        with pytest.raises(UsageError, match="already detecting"):
            next(second)
        assert next(first).frame.id == 1


@pytest.mark.parametrize("live", [False, True])
def test_closing_inside_the_loop_ends_it(yolox: Path, picture: np.ndarray, live: bool) -> None:
    camera = edge_sdk.Camera(FakeSource(_forever(picture), fps=400 if live else None, live=live), yolox)
    count = 0
    for _result in camera.detect():
        count += 1
        time.sleep(0.05)  # a newer frame is waiting by now
        camera.close()
    assert count == 1
    assert set(camera.stats.dropped) <= {"overwritten", "stale", "shutdown"}
    assert camera.stats.in_flight == 0


def test_closing_from_another_thread_ends_the_loop(yolox: Path, picture: np.ndarray) -> None:
    camera = edge_sdk.Camera(FakeSource(_forever(picture), fps=400, live=True), yolox, threads=1)
    closing = threading.Thread(target=camera.close)
    for number, _result in enumerate(camera.detect()):
        if number == 2:
            closing.start()
    closing.join()
    assert set(camera.stats.dropped) <= {"overwritten", "stale", "shutdown"}
    assert camera.stats.in_flight == 0


def test_what_was_overwritten_is_not_in_flight_while_a_frame_is_worked_on(
    detector: edge_sdk.Detector, picture: np.ndarray
) -> None:
    with edge_sdk.Camera(FakeSource(_forever(picture), fps=400, live=True), detector) as camera:
        for _result in camera.detect(frames=3):
            time.sleep(0.1)
            assert camera.stats.in_flight <= 3  # one waits, one is run ahead, one may be about to be counted
            assert camera.stats.dropped["overwritten"] > 2


def test_a_camera_of_nothing_but_bad_frames_says_so_and_ends_its_thread(detector: edge_sdk.Detector) -> None:
    class Smeared(FakeSource):
        def read(self) -> None:
            time.sleep(0.01)
            raise BadFrameError("smeared")

    before = threading.active_count()
    with edge_sdk.Camera(Smeared([], fps=30, live=True), detector) as camera:
        camera._supervisor._timeout_s = 0.2
        with pytest.raises(SourceError, match="no frame for"):
            list(camera.detect())
        assert threading.active_count() == before
    assert camera.stats.in_flight == 0


def test_a_frame_that_a_driver_gives_too_late_is_counted(
    detector: edge_sdk.Detector, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The capture thread is stuck in its driver when the loop ends, and comes back with a frame."""
    late, back = threading.Event(), threading.Event()

    class Stuck(FakeSource):
        def read(self):
            if self._next_id > 0:
                late.wait(30)
            frame = super().read()
            back.set()
            return frame

    monkeypatch.setattr("edge_sdk.camera._LAST_FRAME_S", 0.05)
    with edge_sdk.Camera(Stuck(_forever(picture), fps=100, live=True), detector) as camera:
        assert len(list(camera.detect(frames=1))) == 1
        back.clear()
        late.set()
        assert back.wait(30)
        for thread in threading.enumerate():
            if thread.name == "edge-sdk-capture":
                thread.join(30)
        assert camera.stats.dropped == {"shutdown": 1}
        assert camera.stats.in_flight == 0


@pytest.mark.parametrize("source", [np.int64(0), object(), ["a.jpg"]], ids=["int64", "object", "list"])
def test_what_is_no_source_is_refused_before_anything_is_opened(source: object) -> None:
    with pytest.raises(UsageError, match="a source is a name, a camera's index or an open source, not "):
        edge_sdk.Camera(source, "nope.onnx")  # type: ignore[arg-type]


@pytest.mark.parametrize("bound", [{"frames": 0}, {"seconds": -1}, {"seconds": float("nan")}])
def test_a_bound_that_means_nothing_is_refused(highway: Path, detector: edge_sdk.Detector, bound: dict) -> None:
    with edge_sdk.Camera(highway, detector) as camera, pytest.raises(UsageError, match="must be above 0"):
        camera.detect(**bound)


def test_the_same_failure_many_times_in_a_row_is_raised_and_every_one_is_counted(highway: Path, yolox: Path) -> None:
    with edge_sdk.Camera(highway, yolox) as camera:
        results = camera.detect()
        next(results)
        camera.detector.session.close()
        with pytest.raises(BackendError, match="the session is closed"):
            list(results)
        assert camera.stats.dropped["inference_error"] == IN_A_ROW
    assert camera.stats.in_flight == 0


@pytest.mark.parametrize("mode", ["latency", "throughput", "eco"])
def test_one_failing_inference_costs_its_frame_alone(
    highway: Path, yolox: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    with edge_sdk.Camera(highway, yolox, mode=mode) as camera:
        run, calls = camera.detector.session.run, iter(range(1000))

        def fails_at_times(feeds):
            if next(calls) % 4 == 1:
                raise BackendError("the engine hiccuped")
            return run(feeds)

        camera.detector.session.run = fails_at_times
        ids = [result.frame.id for result in camera.detect()]
    assert ids == [number for number in range(38) if number % 4 != 1]
    assert camera.stats.dropped == {"inference_error": 38 - len(ids)}
    assert "frame 1: no result: the engine hiccuped" in caplog.text


def test_where_every_picture_fails_the_error_is_raised_however_few_they_are(bear: Path, yolox: Path) -> None:
    camera = edge_sdk.Camera(bear, yolox)
    camera.detector.session.close()
    with pytest.raises(BackendError):
        list(camera.detect())


def _forever(picture: np.ndarray):
    while True:
        yield picture


def test_options_of_a_detector_beside_an_open_one_are_refused(highway: Path, detector: edge_sdk.Detector) -> None:
    with pytest.raises(UsageError, match="confidence, classes: an open Detector was given"):
        edge_sdk.Camera(highway, detector, confidence=0.9, classes=["dog"])


def test_the_first_frame_of_a_clip_has_not_waited_for_the_model_to_load(highway: Path, yolox: Path) -> None:
    with edge_sdk.Camera(highway, yolox) as camera:
        opened = time.monotonic_ns()
        result = next(camera.detect())
    assert result.timing.wait_ms < (time.monotonic_ns() - opened) / 1e6 + 50


def test_a_result_prints_without_its_picture(highway: Path, detector: edge_sdk.Detector) -> None:
    with edge_sdk.Camera(highway, detector) as camera:
        text = repr(next(camera.detect()))
    assert "array" not in text
    assert "Detections(" in text


def test_a_size_is_asked_of_cameras_alone(highway: Path, detector: edge_sdk.Detector) -> None:
    with pytest.raises(UsageError, match="width, height and fps are asked of a camera"):
        edge_sdk.Camera(highway, detector, width=640)


@pytest.mark.parametrize(("mode", "threads"), [("eco", "1 thread"), ("latency", "thread"), ("throughput", "thread")])
def test_a_mode_chooses_threads_and_gives_the_same_results(highway: Path, yolox: Path, mode: str, threads: str) -> None:
    with edge_sdk.Camera(highway, yolox, mode=mode) as camera:
        assert threads in camera.detector.session.active
        boxes = [len(result.detections) for result in camera.detect(frames=10)]
    with edge_sdk.Detector(yolox, threads=1) as detector:
        assert boxes == [len(result.detections) for result in edge_sdk.Camera(highway, detector).detect(frames=10)]


def test_run_detects_for_the_sinks_alone(highway: Path, yolox: Path, tmp_path: Path) -> None:
    lines = tmp_path / "out.jsonl"
    with edge_sdk.Camera(highway, yolox) as camera:
        stats = camera.run(sinks=[JsonlSink(lines, camera.detector.class_names)])
        assert camera.ended
    assert stats.processed == len(lines.read_text().splitlines()) == 38


def test_leaving_the_block_in_the_middle_of_a_run_closes_its_sinks(highway: Path, yolox: Path, tmp_path: Path) -> None:
    clip = tmp_path / "out.mp4"
    with edge_sdk.Camera(highway, yolox) as camera:
        results = camera.detect(sinks=[VideoSink(clip, camera.detector.class_names, 25.0)])
        next(results)
    assert camera.state == "stopped"
    assert clip.exists()
    assert camera.stats.in_flight == 0
    with pytest.raises(StopIteration):
        next(results)


def test_stop_ends_a_run_also_before_its_first_result(detector: edge_sdk.Detector, picture: np.ndarray) -> None:
    with edge_sdk.Camera(FakeSource(_forever(picture), fps=100, live=True), detector) as camera:
        results = camera.detect()
        camera.stop()
        assert list(results) == []
        ids = []
        for result in camera.detect():
            ids.append(result.frame.id)
            if len(ids) == 3:
                camera.stop()
        assert len(ids) == 3
