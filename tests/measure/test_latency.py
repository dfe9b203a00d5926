"""Runs of a detector whose speed is known; no assertion that a busy machine could break."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import numpy as np
import pytest

from edge_sdk.errors import UsageError
from edge_sdk.measure import latency

PHOTO = np.zeros((4, 4, 3), np.uint8)


class Sleeper:
    """Stands in for a detector: every part takes at least so long, as sleep promises."""

    def __init__(self, infer_s: float = 0.0, rest_s: float = 0.0) -> None:
        self.lock = threading.Lock()
        self.own = object()
        self.infer_s, self.rest_s = infer_s, rest_s
        self.calls = 0
        self.closed = False

    def prepare(self, image, into):
        time.sleep(self.rest_s)
        return into

    def infer(self, prepared):
        assert not self.closed
        self.calls += 1
        time.sleep(self.infer_s)

    def decode(self, outputs, prepared):
        pass

    def __call__(self, image):
        with self.lock:
            self.infer(self.prepare(image, self.own))

    def __enter__(self) -> Sleeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True


def consistent(run: latency.Run) -> None:
    """What holds of every run, however slow the machine."""
    ms = run.latency_ms
    assert run.rate == pytest.approx(run.frames / run.seconds)
    assert 0 <= ms["p50"] <= ms["p90"] <= ms["p99"] <= ms["max"]
    assert ms["max"] <= run.seconds * 1000


@pytest.mark.parametrize("run", [latency.bare, latency.single_stream, latency.camera])
def test_a_fast_detector_runs_until_the_time_is_up(run) -> None:
    extra = {"fps": 2000.0} if run is latency.camera else {}
    found = run(Sleeper(), PHOTO, seconds=0.25, **extra)
    assert found.seconds >= 0.25
    assert found.frames >= latency.MIN_FRAMES
    consistent(found)


@pytest.mark.parametrize("run", [latency.bare, latency.single_stream, latency.camera])
def test_a_slow_detector_runs_until_there_are_a_hundred_frames(run) -> None:
    detector = Sleeper(infer_s=0.001)
    extra = {"fps": 5000.0} if run is latency.camera else {}
    found = run(detector, PHOTO, seconds=0.0001, **extra)
    assert found.frames == latency.MIN_FRAMES
    assert found.seconds >= 0.1
    assert detector.calls == latency.MIN_FRAMES + latency.WARM_UP_RUNS  # warming up is not counted
    consistent(found)


def test_the_bare_engine_is_timed_without_the_rest() -> None:
    detector = Sleeper(infer_s=0.001, rest_s=0.002)
    prepared = []
    detector.prepare = lambda image, into: prepared.append(into) or into
    bare = latency.bare(detector, PHOTO, seconds=0.0001)
    assert prepared == [detector.own]  # once, before the clock runs
    assert bare.scenario == "bare"
    assert bare.latency_ms["p50"] >= 1.0


def test_a_single_stream_times_prepare_and_infer() -> None:
    found = latency.single_stream(Sleeper(infer_s=0.001, rest_s=0.002), PHOTO, seconds=0.0001)
    assert found.scenario == "single_stream"
    assert (found.dropped, found.frames) == (0, 100)
    assert found.latency_ms["p50"] >= 3.0
    assert found.rate <= 1000 / 3


def test_a_camera_faster_than_the_model_drops_what_it_cannot_keep_up_with() -> None:
    fps, service_s = 2000.0, 0.002
    found = latency.camera(Sleeper(infer_s=service_s), PHOTO, fps=fps, seconds=0.0001)
    assert found.scenario == "camera"
    # Each picture takes 4 periods, so at least 3 go by unseen, the last one's aside.
    assert found.dropped >= 3 * (found.frames - 1)
    assert found.frames + found.dropped <= found.seconds * fps + 1
    assert found.latency_ms["p50"] >= service_s * 1000
    consistent(found)


def test_a_slow_camera_is_waited_for_and_no_picture_is_seen_twice() -> None:
    fps = 400.0
    found = latency.camera(Sleeper(), PHOTO, fps=fps, seconds=0.0001)
    # A hundred pictures arrive over 99 periods, the first at once.
    assert found.seconds >= 99 / fps
    assert found.frames + found.dropped <= found.seconds * fps + 1
    assert found.rate <= fps * 100 / 99
    consistent(found)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_none_is_refused(fps: float) -> None:
    with pytest.raises(UsageError, match="fps must be above 0"):
        latency.camera(Sleeper(), PHOTO, fps=fps)


def test_throughput_counts_the_results_of_all_workers_and_closes_them() -> None:
    made: list[Sleeper] = []

    def make() -> Sleeper:
        made.append(Sleeper(infer_s=0.001))
        return made[-1]

    found = latency.throughput(make, PHOTO, workers=3, seconds=0.1)
    assert len(made) == 3
    assert all(one.closed for one in made)
    assert found.scenario == "throughput"
    assert found.frames == sum(one.calls - latency.WARM_UP_RUNS for one in made)
    assert found.frames >= latency.MIN_FRAMES
    assert all(one.calls > latency.WARM_UP_RUNS for one in made)
    assert found.seconds >= 0.1
    consistent(found)


def test_throughput_closes_what_it_opened_when_a_worker_fails() -> None:
    made: list[Sleeper] = []

    def make() -> Sleeper:
        made.append(Sleeper(infer_s=0.001))
        if len(made) == 2:
            made[-1].infer = lambda prepared: 1 / 0
        return made[-1]

    with pytest.raises(ZeroDivisionError):
        latency.throughput(make, PHOTO, workers=2, seconds=0.01)
    assert [one.closed for one in made] == [True, True]


def test_no_worker_is_refused() -> None:
    with pytest.raises(UsageError, match="workers must be 1 or more, not 0"):
        latency.throughput(Sleeper, PHOTO, workers=0)


@pytest.mark.parametrize("run", ["bare", "single_stream", "camera", "throughput"])
def test_progress_grows_from_nothing_to_done(run: str) -> None:
    told: list[float] = []
    if run == "throughput":
        latency.throughput(lambda: Sleeper(infer_s=0.001), PHOTO, workers=2, seconds=0.05, progress=told.append)
    else:
        extra = {"fps": 5000.0} if run == "camera" else {}
        getattr(latency, run)(Sleeper(infer_s=0.0005), PHOTO, seconds=0.05, progress=told.append, **extra)
    assert told == sorted(told)
    assert 0 <= told[0] <= 0.02  # one frame of a hundred, of each worker
    assert 0.9 < told[-1] <= 1.0  # the sleeps before the last frame alone take so long
