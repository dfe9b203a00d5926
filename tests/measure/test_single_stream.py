"""Whole detections timed by stage, on a clock that the detector itself moves: every figure is known."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_sdk.backends.base import Layer
from edge_sdk.detector import Detector
from edge_sdk.errors import BackendError, UsageError
from edge_sdk.measure.single_stream import STAGES, SingleStream, measure_latency, read_layers

PHOTO = np.zeros((4, 4, 3), np.uint8)
MS = 1_000_000


class Clocked:
    """Stands in for a detector: moves a clock of its own, and checks that its lock is held."""

    def __init__(self, prepare: int = 2, infer: int = 10, decode: int = 1, open_ms: int = 300) -> None:
        self.now = 0
        self.took = {"prepare": prepare, "infer": infer, "decode": decode}
        self.open_ms = open_ms
        self.extra: list[int] = []  # milliseconds that the next inferences take besides
        self.calls: list[str] = []
        self.lock = threading.Lock()
        self.own = object()
        self.backend = "fake"
        self.session = SimpleNamespace(layers=self.layers)
        self.found: list[Layer] | Exception = []
        self.closed = False

    def clock(self) -> int:
        return self.now

    def opened(self) -> Clocked:
        self.now += self.open_ms * MS
        return self

    def _spend(self, what: str) -> None:
        assert self.lock.locked()
        assert not self.closed
        self.calls.append(what)
        self.now += self.took[what] * MS

    def prepare(self, image, into):
        assert (image is PHOTO, into is self.own) == (True, True)
        self._spend("prepare")
        return into

    def infer(self, prepared):
        assert prepared is self.own
        self._spend("infer")
        self.now += (self.extra.pop(0) if self.extra else 0) * MS
        return "outputs"

    def decode(self, outputs, prepared):
        assert (outputs, prepared) == ("outputs", self.own)
        self._spend("decode")

    def layers(self):
        assert self.lock.locked()
        self.calls.append("layers")
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def __enter__(self) -> Clocked:
        return self

    def __exit__(self, *exc: object) -> None:
        self.closed = True


def test_a_query_is_the_three_calls_of_a_detection_and_is_timed_by_stage() -> None:
    detector = Clocked(prepare=2, infer=10, decode=1)
    stream = SingleStream(detector, PHOTO, clock=detector.clock)
    for _ in range(3):
        stream.query()
    assert detector.calls == ["prepare", "infer", "decode"] * 3
    assert not detector.lock.locked()
    found = stream.latency(layers=False)
    assert found.queries == 3
    assert found.times_ms == (13.0, 13.0, 13.0)
    assert [found.stages_ms[stage]["p90"] for stage in STAGES] == [2.0, 10.0, 1.0]
    assert found.seconds == pytest.approx(0.039)


def test_percentiles_are_of_the_whole_and_stages_of_the_same_queries() -> None:
    detector = Clocked(prepare=2, infer=10, decode=1)
    detector.extra = [0] * 90 + list(range(10))
    stream = SingleStream(detector, PHOTO, clock=detector.clock)
    for _ in range(100):
        stream.query()
    found = stream.latency(layers=False)
    assert found.percentiles_ms["p50"] == 13.0
    assert found.percentiles_ms["p90"] == 13.0  # index 90 of 0..99: the first of the ten, which took nothing besides
    assert found.percentiles_ms["p95"] == 18.0
    assert found.percentiles_ms["max"] == 22.0
    assert found.percentiles_ms["mean"] == pytest.approx(13.45)
    assert found.stages_ms["infer"]["max"] == 19.0
    assert found.stages_ms["decode"]["max"] == 1.0
    assert found.early_stopping_ms == {"p90": 20.0, "p99": None}  # the third highest of a hundred


def test_opening_and_the_first_detection_are_timed_apart() -> None:
    detector = Clocked(open_ms=300)
    detector.extra = [100]
    with SingleStream.opened(detector.opened, PHOTO, clock=detector.clock) as stream:
        assert stream.queries == 0
        stream.query()
        found = stream.latency(layers=False)
    assert detector.closed
    assert (found.open_ms, found.first_ms, found.queries) == (300.0, 113.0, 1)
    assert (found.warm_up, found.warm_up_s) == (None, None)


def test_the_warm_up_is_counted_and_not_kept() -> None:
    detector = Clocked(infer=97)
    detector.extra = [300, 200, 100]
    with SingleStream.opened(detector.opened, PHOTO, clock=detector.clock) as stream:
        warmed = stream.warm_up()
        assert (warmed.runs, stream.queries) == (3, 0)
        stream.query()
        found = stream.latency(layers=False)
    assert found.warm_up == 3
    assert found.warm_up_s == pytest.approx(0.4 + 0.3 + 0.2)
    assert found.first_ms == 400.0


def test_a_run_lasts_until_a_query_was_issued_when_the_time_was_up() -> None:
    detector = Clocked(prepare=0, infer=70, decode=0)
    stream = SingleStream(detector, PHOTO, clock=detector.clock)
    # Issued at 0, 70, ... ms: the one at 9940 is complete at 10010, and the next one is the last.
    took_s = stream.run(10.0)
    assert stream.queries == 144
    assert took_s == pytest.approx(144 * 0.07)
    assert stream.latency(layers=False).seconds == pytest.approx(took_s)


def test_a_slow_detector_runs_until_there_are_a_hundred_queries() -> None:
    detector = Clocked(infer=500)
    stream = SingleStream(detector, PHOTO, clock=detector.clock)
    stream.run(10.0)
    assert stream.queries == 100


def test_each_query_is_told_and_progress_grows_to_done() -> None:
    detector = Clocked(infer=97)
    stream = SingleStream(detector, PHOTO, clock=detector.clock)
    parts: list[float] = []
    times: list[float] = []
    stream.run(10.0, progress=parts.append, on_query=times.append)
    assert times == [100.0] * stream.queries
    assert parts == sorted(parts)
    assert parts[-1] == 1.0


def test_a_second_run_adds_and_forgetting_drops_the_queries_alone() -> None:
    detector = Clocked(infer=97)
    with SingleStream.opened(detector.opened, PHOTO, clock=detector.clock) as stream:
        first = stream.run(1.0)
        assert stream.queries == 100
        second = stream.run(1.0)
        assert stream.queries == 200
        assert stream.latency(layers=False).seconds == pytest.approx(first + second)
        stream.forget()
        assert stream.queries == 0
        with pytest.raises(UsageError, match="no query was timed"):
            stream.latency()
        stream.query()
        assert stream.latency(layers=False).first_ms == 100.0


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_length_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError, match="seconds must be above 0"):
        SingleStream(Clocked(), PHOTO).run(seconds)


def test_layers_are_read_after_the_timed_run_slowest_first() -> None:
    detector = Clocked()
    detector.found = [
        Layer(("a",), "cpu", "fp32", 1.0),
        Layer(("b",), "cpu", None, None),
        Layer(("c",), "cpu", "int8", 3.0),
    ]
    stream = SingleStream(detector, PHOTO, clock=detector.clock)
    stream.query()
    found = stream.latency()
    assert detector.calls[-1] == "layers"
    assert [layer.nodes for layer in found.layers] == [("c",), ("a",), ("b",)]
    assert found.layers_reason is None
    assert stream.latency(layers=False).layers == ()
    assert stream.latency(layers=False).layers_reason == "they were not asked for"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ([], "fake does not say which layers it runs"),
        ([Layer(("a",), "cpu", None, None)], "fake names its layers and gives no times of them"),
        (BackendError("fake: the profiled run failed"), "fake: the profiled run failed"),
    ],
)
def test_a_backend_that_does_not_say_is_no_failure_and_the_reason_is_kept(found: object, reason: str) -> None:
    detector = Clocked()
    detector.found = found
    layers, said = read_layers(detector)
    assert said == reason
    assert len(layers) == (0 if isinstance(found, Exception) else len(found))
    assert not detector.lock.locked()


def test_a_failing_query_releases_the_lock_and_keeps_nothing() -> None:
    detector = Clocked()
    detector.decode = lambda outputs, prepared: 1 / 0
    stream = SingleStream(detector, PHOTO, clock=detector.clock)
    with pytest.raises(ZeroDivisionError):
        stream.query()
    assert not detector.lock.locked()
    assert stream.queries == 0


def test_a_real_detector_is_measured_from_opening_to_its_layers(shared: Path) -> None:
    model = shared / "models/ultraface/version-slim-320.onnx"
    image = np.zeros((240, 320, 3), np.uint8)
    opened: list[Detector] = []

    def factory() -> Detector:
        opened.append(Detector(model, backend="onnxruntime", threads=1))
        return opened[-1]

    found = measure_latency(factory, image, seconds=0.2)
    assert found.queries >= 100
    assert found.seconds >= 0.2
    assert found.open_ms is not None
    assert found.first_ms is not None
    assert min(found.open_ms, found.first_ms) > 0
    ms = found.percentiles_ms
    assert 0 < ms["min"] <= ms["p50"] <= ms["p90"] <= ms["p99"] <= ms["max"] == max(found.times_ms)
    # The stages are parts of the same queries: together no more than the whole, and nearly all of it.
    together = sum(found.stages_ms[stage]["mean"] for stage in STAGES)
    assert 0.9 * ms["mean"] < together <= ms["mean"]
    assert found.early_stopping_ms["p90"] in found.times_ms
    assert sum(layer.time_ms or 0 for layer in found.layers) > 0
    assert found.layers_reason is None
    with pytest.raises(BackendError, match="closed"):
        opened[0](image)
