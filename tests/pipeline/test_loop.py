"""Frames into results: nothing is seen twice, nothing vanishes, what overlaps gives the same as what does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.detections import Detections
from edge_sdk.errors import BackendError, BadFrameError, SourceError
from edge_sdk.pipeline.books import Books
from edge_sdk.pipeline.engine import Engine, Job
from edge_sdk.pipeline.life import Life
from edge_sdk.pipeline.loop import Loop
from edge_sdk.pipeline.supervisor import Supervisor
from edge_sdk.result import Frame
from edge_sdk.testing.fake_source import FakeSource

SOON_S = 20.0


class Prepared:
    """What a slow detector fills."""

    value = -1


class SlowDetector:
    """Finds one box: the picture's first pixel says where. Every stage takes its time and tells when it ran."""

    def __init__(self, *, prepare_s: float = 0.0, infer_s: float = 0.0, fails: Callable[[int], bool] = lambda _: False):
        self.lock = threading.Lock()
        self.prepare_s, self.infer_s, self.fails = prepare_s, infer_s, fails
        self.prepared: list[Prepared] = []
        self.at_once = self.most_at_once = 0

    def new_prepared(self) -> Prepared:
        self.prepared.append(Prepared())
        return self.prepared[-1]

    def prepare(self, image: np.ndarray, into: Prepared) -> Prepared:
        time.sleep(self.prepare_s)
        into.value = int(image[0, 0, 0])
        return into

    def infer(self, prepared: Prepared) -> dict[str, int]:
        assert self.lock.locked()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        value = prepared.value
        time.sleep(self.infer_s)
        assert prepared.value == value, "the input was written while it was read"
        self.at_once -= 1
        if self.fails(value):
            raise BackendError("the engine hiccuped")
        return {"value": value}

    def decode(self, outputs: dict[str, int], prepared: Prepared) -> Detections:
        assert outputs["value"] == prepared.value, "the buffers were used again before they were decoded"
        found = Detections.empty()
        return Detections(
            np.array([[prepared.value, 0, prepared.value + 1, 1]], np.float32),
            np.ones(1, np.float32),
            np.zeros(1, np.int32),
        ) if prepared.value >= 0 else found  # fmt: skip


def picture(value: int) -> np.ndarray:
    return np.full((4, 4, 3), value, np.uint8)


def run(source, detector, *, overlap: bool, newest: bool, fresh: bool = True, frames=None, seconds=None, body=None):
    """Ids and values of all results, and the books."""
    books = Books()
    supervisor = Supervisor(source, books, Life("loop"), newest=newest)
    supervisor.start()
    loop = Loop(
        detector, supervisor, books, newest=newest, fresh=fresh, overlap=overlap, after=lambda _, found: (found, {})
    )
    seen = []
    results = loop.results(frames, seconds)
    try:
        for result in results:
            seen.append((result.frame.id, int(result.detections.xyxy[0, 0])))
            if body is not None:
                body(result)
    finally:
        results.close()
        supervisor.close()
    return seen, books.stats()


@pytest.mark.parametrize("overlap", [False, True])
def test_of_a_file_every_frame_gives_its_own_result_in_order(overlap: bool) -> None:
    detector = SlowDetector(prepare_s=0.001, infer_s=0.002)
    seen, stats = run(FakeSource([picture(i) for i in range(60)]), detector, overlap=overlap, newest=False)
    assert seen == [(i, i) for i in range(60)]
    assert (stats.captured, stats.processed, dict(stats.dropped), stats.in_flight) == (60, 60, {}, 0)
    assert detector.most_at_once == 1


def test_overlapped_stages_take_the_time_of_the_longest() -> None:
    """Sleeping stages, so that the machine's speed has no part in it."""

    def took(overlap: bool) -> float:
        began = time.monotonic()
        run(
            FakeSource([picture(i) for i in range(30)]),
            SlowDetector(prepare_s=0.02, infer_s=0.02),
            overlap=overlap,
            newest=False,
        )
        return time.monotonic() - began

    assert took(True) < 0.75 * took(False)


@settings(max_examples=25)
@given(
    bad=st.sets(st.integers(0, 30)),
    failing=st.sets(st.integers(0, 30)),
    overlap=st.booleans(),
    frames=st.one_of(st.none(), st.integers(1, 35)),
)
def test_whatever_fails_the_books_balance_and_the_others_are_right(
    bad: set[int], failing: set[int], overlap: bool, frames: int | None
) -> None:
    longest = max(
        (len(one) for one in "".join("x" if i in failing - bad else " " for i in range(31)).split()), default=0
    )
    source = FakeSource(
        [picture(i) for i in range(31)], script={i: BadFrameError(f"frame {i} is smeared") for i in bad}
    )
    detector = SlowDetector(fails=lambda value: value in failing)
    good = [i for i in range(31) if i not in bad | failing]
    try:
        seen, stats = run(source, detector, overlap=overlap, newest=False, frames=frames)
    except BackendError:
        assert longest >= 10 or not good or len(failing - bad) >= 10
        return
    assert seen == [(i, i) for i in good][:frames]
    assert stats.captured == stats.processed + sum(stats.dropped.values())
    assert stats.in_flight == 0


def test_two_runs_bounded_by_frames_lose_nothing_between_them() -> None:
    books, detector = Books(), SlowDetector(infer_s=0.001)
    supervisor = Supervisor(FakeSource([picture(i) for i in range(20)]), books, Life("loop"), newest=False)
    seen: list[int] = []
    for frames in (3, 5, None):
        supervisor.start()
        loop = Loop(
            detector, supervisor, books, newest=False, fresh=False, overlap=True, after=lambda _, found: (found, {})
        )
        seen += [result.frame.id for result in loop.results(frames, None)]
    supervisor.close()
    assert seen == list(range(20))


def test_a_run_cut_off_in_the_middle_goes_on_with_what_was_in_its_engine() -> None:
    books, detector = Books(), SlowDetector(infer_s=0.001)
    supervisor = Supervisor(FakeSource([picture(i) for i in range(20)]), books, Life("loop"), newest=False)
    seen: list[int] = []
    for _ in range(20):
        supervisor.start()
        loop = Loop(
            detector, supervisor, books, newest=False, fresh=False, overlap=True, after=lambda _, found: (found, {})
        )
        results = loop.results(None, None)
        seen += [next(results).frame.id]
        results.close()
    supervisor.close()
    assert seen == list(range(20))
    assert books.stats().in_flight == 0


@pytest.mark.parametrize("overlap", [False, True])
def test_of_a_fast_live_source_no_frame_is_seen_twice_and_results_are_fresh(overlap: bool) -> None:
    period_s, infer_s = 0.02, 0.12
    source = FakeSource((picture(i % 256) for i in range(10**6)), fps=1 / period_s, live=True)
    ages: list[float] = []
    seen, stats = run(
        source,
        SlowDetector(prepare_s=0.001, infer_s=infer_s),
        overlap=overlap,
        newest=True,
        seconds=4.0,
        body=lambda result: ages.append((time.monotonic_ns() - result.frame.captured_ns) / 1e9),
    )
    ids = [number for number, _ in seen]
    assert ids == sorted(set(ids))
    assert all(value == number % 256 for number, value in seen)
    assert stats.captured == stats.processed + sum(stats.dropped.values())
    assert stats.dropped["overwritten"] > stats.processed
    assert np.median(ages) < 1.6 * infer_s  # a frame that waits through a whole inference is twice as old as one


def test_results_that_wait_for_a_slow_caller_are_dropped_as_stale_and_he_gets_fresh_ones() -> None:
    ages: list[float] = []

    def slow(result) -> None:
        ages.append((time.monotonic_ns() - result.frame.captured_ns) / 1e9)
        time.sleep(0.2)

    def source() -> FakeSource:
        return FakeSource((picture(i % 256) for i in range(10**6)), fps=200, live=True)

    _, stats = run(source(), SlowDetector(infer_s=0.01), overlap=True, newest=True, frames=6, body=slow)
    assert np.median(ages) < 0.1
    assert stats.dropped.get("stale", 0) <= 2  # after the first, none is made ahead
    assert stats.in_flight == 0

    ages.clear()  # throughput lets them wait instead
    run(source(), SlowDetector(infer_s=0.01), overlap=True, newest=True, fresh=False, frames=6, body=slow)
    assert np.median(ages) > 0.1


def test_where_preparing_takes_longer_than_the_engine_results_keep_coming_and_the_run_ends_in_time() -> None:
    source = FakeSource((picture(i % 256) for i in range(10**6)), fps=200, live=True)
    began = time.monotonic()
    seen, stats = run(source, SlowDetector(prepare_s=0.02, infer_s=0.002), overlap=True, newest=True, seconds=1.5)
    assert time.monotonic() - began < SOON_S / 2
    assert len(seen) > 10
    assert stats.dropped.get("stale", 0) <= len(seen) + 1


@pytest.mark.parametrize("overlap", [False, True])
def test_what_was_read_before_the_source_failed_still_gives_its_results(overlap: bool) -> None:
    source = FakeSource([picture(i) for i in range(9)], script={4: SourceError("the disk is gone")})
    books, seen = Books(), []
    supervisor = Supervisor(source, books, Life("loop"), newest=False)
    supervisor.start()
    loop = Loop(
        SlowDetector(infer_s=0.01), supervisor, books, newest=False, fresh=False, overlap=overlap,
        after=lambda _, found: (found, {}),
    )  # fmt: skip
    with pytest.raises(SourceError, match="the disk is gone"):
        seen.extend(result.frame.id for result in loop.results(None, None))
    supervisor.close()
    assert seen == [0, 1, 2, 3]


def test_a_run_ends_in_time_although_no_frame_comes() -> None:
    source = FakeSource([picture(0)] * 3, fps=100, live=True, script={1: SOON_S})
    began = time.monotonic()
    seen, stats = run(source, SlowDetector(), overlap=True, newest=True, seconds=0.3)
    assert len(seen) == 1
    assert time.monotonic() - began < SOON_S / 2
    assert stats.in_flight == 0


class TestEngine:
    def job(self, value: int) -> Job:
        prepared = Prepared()
        prepared.value = value
        return Job(Frame(picture(value), value, "camera", 0), prepared, 0, 0)  # type: ignore[arg-type]

    def test_it_runs_the_newest_of_the_jobs_that_wait_and_returns_the_others(self) -> None:
        woken = threading.Event()
        engine = Engine(SlowDetector(infer_s=0.1), woken.set)  # type: ignore[arg-type]
        engine.start()
        engine.offer(self.job(1))
        assert engine.offer(self.job(2)) is None
        replaced = engine.offer(self.job(3))
        assert replaced is not None
        assert replaced.frame.id == 2
        assert [engine.collect().frame.id, engine.collect().frame.id] == [1, 3]
        assert engine.collect() is None
        assert woken.is_set()
        assert engine.typical_s == pytest.approx(0.1, rel=0.5)
        assert engine.close() == []

    def test_closing_waits_for_the_present_run_and_returns_what_nobody_collected(self) -> None:
        engine = Engine(SlowDetector(infer_s=0.05), lambda: None)  # type: ignore[arg-type]
        engine.start()
        engine.offer(self.job(1))
        engine.offer(self.job(2))
        assert [job.frame.id for job in engine.close()] == [1, 2]
        assert not [one for one in threading.enumerate() if one.name == "edge-sdk-engine"]

    def test_what_fails_is_handed_to_whoever_collects(self) -> None:
        engine = Engine(SlowDetector(fails=lambda _: True), lambda: None)  # type: ignore[arg-type]
        engine.start()
        engine.offer(self.job(1))
        job = engine.collect()
        assert isinstance(job.error, BackendError)
        engine.close()
