"""How fast a detector is: the bare engine and three runs, each until at least 10 s and 100 frames.

Run lengths and percentiles are MLPerf Inference LoadGen's: see `edge_sdk.measure.loadgen_rules`. Opening, the first
detection, the warm-up and the stages are in `edge_sdk.measure.single_stream`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.detector import Detector
from edge_sdk.errors import UsageError
from edge_sdk.measure.loadgen_rules import MIN_QUERIES, MIN_SECONDS, enough, percentiles
from edge_sdk.measure.record import Latency
from edge_sdk.measure.single_stream import SingleStream

MIN_FRAMES = MIN_QUERIES
WARM_UP_RUNS = 5

Scenario = Literal["bare", "single_stream", "camera", "throughput"]


@dataclass(frozen=True)
class Run:
    """One measured run.

    Args:
        scenario: "bare": the engine alone on a prepared input; "single_stream": the next picture on completion of the
            last; "camera": pictures at a fixed rate, the newest taken, latency counted from its arrival;
            "throughput": several detectors side by side, results a second over all.
        frames: Pictures processed.
        dropped: Pictures that were overtaken by a newer one ("camera" alone).
        seconds: Length of the run.
        rate: Results a second.
        latency_ms: p50, p90, p95, p97, p99, p99.9, min, max and mean; each percentile is an observed time. In "camera"
            from arrival to result.
    """

    scenario: Scenario
    frames: int
    dropped: int
    seconds: float
    rate: float
    latency_ms: dict[str, float]


Progress = Callable[[float], None]  # fraction of the run, 0..1


def bare(
    detector: Detector, image: NDArray[np.uint8], *, seconds: float = MIN_SECONDS, progress: Progress | None = None
) -> Run:
    """The engine alone, on one prepared picture: what all else is compared with."""
    with detector.lock:
        prepared = detector.prepare(image, detector.own)
        return _in_turn("bare", lambda: detector.infer(prepared), seconds, progress)


def single_stream(
    detector: Detector, image: NDArray[np.uint8], *, seconds: float = MIN_SECONDS, progress: Progress | None = None
) -> Run:
    """Whole detections one after another: prepare, infer and decode. `SingleStream` gives more of the same run."""
    stream = SingleStream(detector, image)
    for _ in range(WARM_UP_RUNS):
        stream.query()
    stream.forget()
    stream.run(seconds, progress=progress)
    return as_run(stream.latency(layers=False))


def camera(
    detector: Detector,
    image: NDArray[np.uint8],
    *,
    fps: float = 30.0,
    seconds: float = MIN_SECONDS,
    progress: Progress | None = None,
) -> Run:
    """Pictures that arrive at a fixed rate, as from a camera: a slow model drops frames and stays fresh.

    Raises:
        UsageError: `fps` is not above 0.
    """
    if not fps > 0:
        raise UsageError(f"fps must be above 0, not {fps}")
    for _ in range(WARM_UP_RUNS):
        detector(image)
    period = 1.0 / fps
    latencies: list[float] = []
    dropped = 0
    began = time.perf_counter()
    last = -1
    while (now := time.perf_counter()) - began < seconds or len(latencies) < MIN_FRAMES:
        newest = int((now - began) / period)
        if newest <= last:  # already taken: wait for the next
            time.sleep(max(0.0, began + (last + 1) * period - now))
            newest = max(last + 1, int((time.perf_counter() - began) / period))
        dropped += newest - last - 1
        last = newest
        detector(image)
        latencies.append((time.perf_counter() - began - newest * period) * 1000)
        if progress is not None:
            progress(min((now - began) / seconds, len(latencies) / MIN_FRAMES, 1.0))
    took = time.perf_counter() - began
    return Run("camera", len(latencies), dropped, took, len(latencies) / took, percentiles(latencies))


def throughput(
    make: Callable[[], Detector],
    image: NDArray[np.uint8],
    *,
    workers: int,
    seconds: float = MIN_SECONDS,
    progress: Progress | None = None,
) -> Run:
    """Several detectors of one thread each, side by side: the most results a second that this machine gives.

    Args:
        make: Opens a detector; each worker has its own.
        image: uint8 [h, w, 3] BGR.
        workers: How many.
        seconds: The least length of the run.
        progress: Told how far the run is.

    Raises:
        UsageError: `workers` is not above 0.
    """
    if workers < 1:
        raise UsageError(f"workers must be 1 or more, not {workers}")
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import ExitStack

    with ExitStack() as stack:
        detectors = [stack.enter_context(make()) for _ in range(workers)]
        for detector in detectors:
            for _ in range(WARM_UP_RUNS):
                detector(image)
        began = time.perf_counter()

        def work(detector: Detector) -> list[float]:
            times: list[float] = []
            while (now := time.perf_counter()) - began < seconds or len(times) * workers < MIN_FRAMES:
                detector(image)
                times.append((time.perf_counter() - now) * 1000)
                if progress is not None and detector is detectors[0]:
                    progress(min((now - began) / seconds, len(times) * workers / MIN_FRAMES, 1.0))
            return times

        with ThreadPoolExecutor(workers) as pool:
            latencies = [value for times in pool.map(work, detectors) for value in times]
        took = time.perf_counter() - began
    return Run("throughput", len(latencies), 0, took, len(latencies) / took, percentiles(latencies))


def as_run(measured: Latency) -> Run:
    """What a `SingleStream` measured, as the run that `single_stream` gives."""
    rate = measured.queries / measured.seconds
    return Run("single_stream", measured.queries, 0, measured.seconds, rate, dict(measured.percentiles_ms))


def _in_turn(scenario: Scenario, call: Callable[[], object], seconds: float, progress: Progress | None) -> Run:
    for _ in range(WARM_UP_RUNS):
        call()
    times: list[float] = []
    began = time.perf_counter()
    issued = 0.0
    while not (times and enough(len(times), issued, seconds, MIN_FRAMES)):
        now = time.perf_counter()
        issued = now - began
        call()
        times.append((time.perf_counter() - now) * 1000)
        if progress is not None:
            progress(min(issued / seconds, len(times) / MIN_FRAMES, 1.0))
    took = time.perf_counter() - began
    return Run(scenario, len(times), 0, took, len(times) / took, percentiles(times))
