"""Whole detections one after another, each timed as a whole and by stage: MLPerf's single stream.

The stages are timed inside the very queries that give the percentiles: three calls are what `Detector.__call__` is, and
the five looks at the clock between them take about 0.1 us each.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from edge_sdk.detector import Detector
from edge_sdk.errors import BackendError, UsageError
from edge_sdk.measure import loadgen_rules as rules
from edge_sdk.measure.record import Latency, LayerTime
from edge_sdk.measure.warm_up import WINDOW_S, WarmUp, warm_up

STAGES = ("preprocess", "infer", "decode")

Progress = Callable[[float], None]  # part of the run that is over, 0..1


class SingleStream:
    """Does detections on one picture and keeps their times.

    A recipe that measures something else beside calls `query` as often as it likes, in as many windows; `run` is the
    timed run by LoadGen's rule. Both gather what `latency` reports::

        with SingleStream.opened(lambda: Detector("yolox_nano.onnx"), image) as stream:
            stream.warm_up()
            stream.run(seconds=10)
            print(stream.latency().percentiles_ms["p90"])

    Args:
        detector: Open. Its lock is held during each query, not between them.
        image: uint8 [h, w, 3] BGR.
        open_ms: What opening it took, where that is known.
        clock: Monotonic nanoseconds.
    """

    def __init__(
        self,
        detector: Detector,
        image: NDArray[np.uint8],
        *,
        open_ms: float | None = None,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.detector = detector
        self.open_ms = open_ms
        self.first_ms: float | None = None
        self.warmed: WarmUp | None = None
        self._image = image
        self._clock = clock
        self._run_s = 0.0
        self._whole = array("q")
        self._stages = tuple(array("q") for _ in STAGES)

    @classmethod
    @contextmanager
    def opened(
        cls,
        factory: Callable[[], Detector],
        image: NDArray[np.uint8],
        *,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> Iterator[SingleStream]:
        """Opens a detector, timed, and does the first detection; closes the detector at the end."""
        began = clock()
        with factory() as detector:
            stream = cls(detector, image, open_ms=(clock() - began) / 1e6, clock=clock)
            stream.first()
            yield stream

    @property
    def queries(self) -> int:
        """How many are kept."""
        return len(self._whole)

    @property
    def last_ms(self) -> float:
        """What the latest took; 0 before any."""
        return self._whole[-1] / 1e6 if self._whole else 0.0

    def query(self) -> None:
        """One whole detection, its times kept."""
        whole, *stages = self._timed()
        self._whole.append(whole)
        for kept, took in zip(self._stages, stages, strict=True):
            kept.append(took)

    def unkept(self) -> None:
        """One whole detection that is no query: before a window, so that the board is at work when it begins."""
        self._timed()

    def first(self) -> float:
        """The first detection after the model was opened: its milliseconds, kept apart from the queries'."""
        self.first_ms = self._timed()[0] / 1e6
        return self.first_ms

    def warm_up(self, seconds: float = rules.MIN_SECONDS, *, progress: Progress | None = None) -> WarmUp:
        """Detects until latency is steady, by the rule of `edge_sdk.measure.warm_up`; none of it is kept as queries.

        Args:
            seconds: Of the timed run that follows; the warm-up gives up after as many.
            progress: Told how far the time is over.
        """
        first_s = (self.first_ms if self.first_ms is not None else self.first()) / 1e3
        self.warmed = warm_up(
            lambda: self._timed()[0] / 1e9,
            first_s,
            window_s=min(WINDOW_S, seconds / 20),
            limit_s=seconds,
            told=progress,
        )
        return self.warmed

    def run(
        self,
        seconds: float = rules.MIN_SECONDS,
        *,
        progress: Progress | None = None,
        on_query: Callable[[float], None] | None = None,
    ) -> float:
        """The timed run: the next query when the last is complete, until LoadGen's stop rule holds.

        Args:
            seconds: The least length; 100 queries at least.
            progress: Told how far the run is, between queries.
            on_query: Told each query's milliseconds, between queries.

        Returns:
            How long it was, in seconds.

        Raises:
            UsageError: `seconds` is not above 0.
        """
        if not seconds > 0:
            raise UsageError(f"seconds must be above 0, not {seconds}")
        before = self.queries
        began = self._clock()
        done, issued_s = 0, 0.0
        while not (done and rules.enough(done, issued_s, seconds)):
            issued_s = (self._clock() - began) / 1e9
            self.query()
            done = self.queries - before
            if progress is not None:
                progress(min(issued_s / seconds, done / rules.MIN_QUERIES, 1.0))
            if on_query is not None:
                on_query(self.last_ms)
        took_s = (self._clock() - began) / 1e9
        self._run_s += took_s
        return took_s

    def forget(self) -> None:
        """Drops the queries that are kept; the first detection and the warm-up stay."""
        self._run_s = 0.0
        for kept in (self._whole, *self._stages):
            del kept[:]

    def latency(self, *, layers: bool = True, seconds: float | None = None) -> Latency:
        """What the queries kept so far come to.

        Args:
            layers: Read the layers back from the engine, now, when nothing is timed.
            seconds: Over which the queries were; left out, the length of the runs, or what the queries took together.

        Raises:
            UsageError: No query was timed.
        """
        if not self._whole:
            raise UsageError("no query was timed: call query or run first")
        times_ms = tuple(value / 1e6 for value in self._whole)
        if seconds is None:
            seconds = self._run_s or sum(self._whole) / 1e9
        early = {name: rules.early_stopping_percentile(times_ms, part) for name, part in rules.EARLY_STOPPING.items()}
        found, reason = read_layers(self.detector) if layers else ((), "they were not asked for")
        return Latency(
            queries=self.queries,
            seconds=seconds,
            percentiles_ms=rules.percentiles(times_ms),
            stages_ms={
                name: rules.percentiles([value / 1e6 for value in kept])
                for name, kept in zip(STAGES, self._stages, strict=True)
            },
            times_ms=times_ms,
            open_ms=self.open_ms,
            first_ms=self.first_ms,
            warm_up=self.warmed.runs if self.warmed is not None else None,
            warm_up_s=self.warmed.seconds if self.warmed is not None else None,
            early_stopping_ms=early,
            layers=tuple(sorted(found, key=lambda layer: layer.time_ms or 0.0, reverse=True)),
            layers_reason=reason,
        )

    def _timed(self) -> tuple[int, int, int, int]:
        """One detection: nanoseconds of the whole, of prepare, of infer and of decode."""
        detector, clock = self.detector, self._clock
        issued = clock()
        with detector.lock:
            began = clock()
            prepared = detector.prepare(self._image, detector.own)
            ready = clock()
            outputs = detector.infer(prepared)
            inferred = clock()
            detector.decode(outputs, prepared)
            done = clock()
        return done - issued, ready - began, inferred - ready, done - inferred


def measure_latency(
    detector_factory: Callable[[], Detector],
    image: NDArray[np.uint8],
    *,
    seconds: float = rules.MIN_SECONDS,
    layers: bool = True,
    progress: Progress | None = None,
    on_query: Callable[[float], None] | None = None,
) -> Latency:
    """Opens a detector and measures it: opening, first detection, warm-up, the timed run, and then its layers.

    Args:
        detector_factory: Opens the detector; it is closed here.
        image: uint8 [h, w, 3] BGR.
        seconds: Least length of the timed run; 100 queries at least.
        layers: Read the layers back, after the timed run.
        progress: Told how far the timed run is.
        on_query: Told each query's milliseconds, between queries.

    Raises:
        UsageError: `seconds` is not above 0, or the image is no such array.
        EdgeSdkError: What opening and detecting raise.
    """
    with SingleStream.opened(detector_factory, image) as stream:
        stream.warm_up(seconds)
        stream.run(seconds, progress=progress, on_query=on_query)
        return stream.latency(layers=layers)


def read_layers(detector: Detector) -> tuple[tuple[LayerTime, ...], str | None]:
    """A detector's layers in the engine's order, and why there are none or no times of them.

    Never during a timed run: engines read back by running once more.
    """
    try:
        with detector.lock:
            found = detector.session.layers()
    except BackendError as error:
        return (), str(error)
    layers = tuple(LayerTime(layer.nodes, layer.unit, layer.precision, layer.time_ms) for layer in found)
    reason = None
    if not layers:
        reason = f"{detector.backend} does not say which layers it runs"
    elif all(layer.time_ms is None for layer in layers):
        reason = f"{detector.backend} names its layers and gives no times of them"
    return layers, reason
