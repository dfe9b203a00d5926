"""Sinks behind queues: a slow, broken or hanging one costs itself results, and nobody else."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref

import numpy as np
import pytest

from edge_sdk import Detections, Frame, Result, Timing
from edge_sdk.errors import SinkError
from edge_sdk.pipeline import outlets as module
from edge_sdk.pipeline.outlets import QUEUE, Outlets
from edge_sdk.result import Event
from edge_sdk.sinks.base import Sink

SOON_S = 20.0


def result(number: int) -> Result:
    return Result(
        Frame(np.full((4, 4, 3), number % 256, np.uint8), number, "camera", number),
        Detections.empty(),
        Timing(0, 0, 0, 0, 0),
    )


class Kept(Sink):
    """Keeps what it was given."""

    def __init__(self, name: str = "kept", *, wants_image: bool = False, complete: bool = False) -> None:
        self.name, self.wants_image, self.complete = name, wants_image, complete
        self.results: list[Result] = []
        self.events: list[Event] = []
        self.closed = 0
        self.thread = ""
        self.go = threading.Event()
        self.go.set()

    def put(self, result: Result) -> None:
        self.go.wait(SOON_S)
        self.results.append(result)

    def event(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1
        self.thread = threading.current_thread().name


def ids(sink: Kept) -> list[int]:
    return [one.frame.id for one in sink.results]


def test_every_sink_gets_every_result_in_order_and_is_closed_in_its_own_thread() -> None:
    sinks = [Kept("one"), Kept("two", wants_image=True, complete=True)]
    outlets = Outlets(sinks, lossless=True)
    for number in range(50):
        outlets.put(result(number))
    outlets.close(in_peace=True)
    for sink in sinks:
        assert ids(sink) == list(range(50))
        assert sink.closed == 1
        assert sink.name in sink.thread
    assert {name: (one.written, one.dropped, one.failed, one.waiting) for name, one in outlets.stats().items()} == {
        "one": (50, 0, 0, 0),
        "two": (50, 0, 0, 0),
    }
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edge-sdk-sink")]


def test_pictures_go_only_to_sinks_that_want_them() -> None:
    plain, looking = Kept("plain"), Kept("looking", wants_image=True)
    outlets = Outlets([plain, looking], lossless=False)
    outlets.put(result(7))
    outlets.close(in_peace=True)
    assert plain.results[0].frame.image.shape == (0, 0, 3)
    assert looking.results[0].frame.image[0, 0, 0] == 7


def test_a_slow_sink_loses_its_oldest_results_and_no_other_sink_loses_any() -> None:
    slow, quick = Kept("slow"), Kept("quick")
    slow.go.clear()
    outlets = Outlets([slow, quick], lossless=False)
    count = QUEUE + 100
    for number in range(count):
        outlets.put(result(number))
        if number % 100 == 0:
            wait_for(lambda: outlets.stats()["quick"].waiting == 0)
    stats = outlets.stats()["slow"]
    assert stats.waiting == QUEUE
    assert stats.dropped == count - QUEUE - 1  # one is held by the sink itself
    slow.go.set()
    outlets.close(in_peace=True)
    assert ids(quick) == list(range(count))
    assert ids(slow) == [0, *range(count - QUEUE, count)]
    stats = outlets.stats()["slow"]
    assert (stats.written + stats.dropped + stats.failed, stats.waiting) == (count, 0)


def test_of_a_file_a_complete_sink_is_waited_for_and_misses_nothing() -> None:
    class Slow(Kept):
        def put(self, result: Result) -> None:
            time.sleep(0.002)
            super().put(result)

    sink = Slow("clip", wants_image=True, complete=True)
    outlets = Outlets([sink], lossless=True)
    for number in range(60):
        outlets.put(result(number))
    outlets.close(in_peace=True)
    assert ids(sink) == list(range(60))


def test_a_complete_sink_that_hangs_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    sink = Kept("clip", wants_image=True, complete=True)
    sink.go.clear()
    outlets = Outlets([sink], lossless=True)
    with caplog.at_level(logging.WARNING, "edge_sdk"):
        for number in range(200):
            outlets.put(result(number))
    assert caplog.text.count("takes nothing for 0.05 s") == 1
    assert outlets.stats()["clip"].dropped > 100
    sink.go.set()
    outlets.close(in_peace=True)
    assert ids(sink)[-1] == 199


def test_a_sink_that_raises_loses_those_results_and_is_reported_once_a_streak(caplog: pytest.LogCaptureFixture) -> None:
    class Full(Kept):
        def put(self, result: Result) -> None:
            if 10 <= result.frame.id < 30:
                raise SinkError("the disk is full")
            super().put(result)

    sink = Full("full")
    outlets = Outlets([sink], lossless=False)
    with caplog.at_level(logging.INFO, "edge_sdk"):
        for number in range(40):
            outlets.put(result(number))
        outlets.close(in_peace=True)
    stats = outlets.stats()["full"]
    assert (stats.written, stats.failed, stats.error) == (20, 20, "the disk is full")
    assert caplog.text.count("the disk is full") == 1
    assert caplog.text.count("works again") == 1


@pytest.mark.parametrize("fault", [ValueError("a bug"), MemoryError(), RecursionError("deep")])
def test_whatever_a_sink_raises_stays_its_own_affair(fault: Exception) -> None:
    class Broken(Kept):
        def put(self, result: Result) -> None:
            raise fault

        def close(self) -> None:
            raise fault

    broken, fine = Broken("broken"), Kept("fine")
    outlets = Outlets([broken, fine], lossless=False)
    for number in range(10):
        outlets.put(result(number))
    outlets.close(in_peace=True)
    assert ids(fine) == list(range(10))
    assert outlets.stats()["broken"].failed == 10


def test_a_sink_that_hangs_is_left_behind_in_time(caplog: pytest.LogCaptureFixture) -> None:
    hanging, fine = Kept("hanging"), Kept("fine")
    hanging.go.clear()
    outlets = Outlets([hanging, fine], lossless=False)
    for number in range(20):
        outlets.put(result(number))
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "edge_sdk"):
        outlets.close(in_peace=True)
    assert time.monotonic() - began < 5
    assert "hanging: does not end" in caplog.text
    assert (fine.closed, hanging.closed) == (1, 0)
    stats = outlets.stats()["hanging"]
    assert (stats.dropped, stats.waiting) == (19, 0)
    hanging.go.set()  # its thread ends by itself once the sink lets it
    wait_for(lambda: hanging.closed == 1)


def test_a_sink_that_can_be_interrupted_is_and_ends() -> None:
    class Retrying(Kept):
        interruptible = True

        def close(self) -> None:
            super().close()
            self.go.set()

    sink = Retrying("retrying")
    sink.go.clear()
    outlets = Outlets([sink], lossless=False)
    outlets.put(result(0))
    outlets.close(in_peace=False)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edge-sdk-sink")]


def test_many_sinks_that_hang_take_no_longer_than_one() -> None:
    sinks = [Kept(f"hanging {number}") for number in range(8)]
    for sink in sinks:
        sink.go.clear()
    outlets = Outlets(sinks, lossless=False)
    outlets.put(result(0))
    began = time.monotonic()
    outlets.close(in_peace=False)
    assert time.monotonic() - began < 8 * module.HURRY_S
    for sink in sinks:
        sink.go.set()
        wait_for(lambda sink=sink: sink.closed == 1)


def test_events_are_told_in_order_between_the_results_and_never_dropped() -> None:
    sink = Kept("slow")
    sink.go.clear()
    outlets = Outlets([sink], lossless=False)
    events = [Event("streaming", "starting", 1), Event("stalled", "streaming", 2)]
    outlets.event(events[0])
    for number in range(QUEUE + 50):
        outlets.put(result(number))
    outlets.event(events[1])
    sink.go.set()
    outlets.close(in_peace=True)
    assert sink.events == events


def test_a_changed_picture_is_made_once_and_a_failure_shows_the_unchanged_one_to_nobody() -> None:
    made: list[int] = []

    def blurred(one: Result) -> Result:
        made.append(one.frame.id)
        if one.frame.id == 1:
            raise ValueError("the face model failed")
        return one.with_image(np.zeros_like(one.frame.image))

    first, second, plain = Kept("a", wants_image=True), Kept("b", wants_image=True), Kept("c")
    outlets = Outlets([first, second, plain], lossless=True, change=blurred)
    for number in range(3):
        outlets.put(result(number))
    outlets.close(in_peace=True)
    assert ids(first) == ids(second) == [0, 2]
    assert ids(plain) == [0, 1, 2]
    assert not any(one.frame.image.any() for one in first.results + second.results)
    assert [number for number in made if number != 1] == [0, 2]
    assert outlets.stats()["a"].failed == 1


def test_who_closes_a_window_ends_the_run_and_a_reader_that_has_gone_raises_in_it() -> None:
    class Window(Kept):
        finished = False

    window = Window("window")
    outlets = Outlets([window], lossless=False)
    assert not outlets.finished
    window.finished = True
    assert outlets.finished
    outlets.close(in_peace=True)

    class Pipe(Kept):
        is_output = True

        def put(self, result: Result) -> None:
            raise BrokenPipeError

    outlets = Outlets([Pipe("pipe")], lossless=False)
    outlets.put(result(0))
    wait_for(lambda: outlets.stats()["pipe"].failed == 1)
    with pytest.raises(BrokenPipeError):
        _ = outlets.finished
    outlets.close(in_peace=True)


def test_a_peer_that_hangs_up_costs_its_own_sink_results_and_ends_no_run() -> None:
    class Peer(Kept):
        def put(self, result: Result) -> None:
            raise BrokenPipeError

    outlets = Outlets([Peer("peer")], lossless=False)
    outlets.put(result(0))
    wait_for(lambda: outlets.stats()["peer"].failed == 1)
    assert not outlets.finished
    outlets.close(in_peace=True)


def test_pictures_are_made_in_the_frames_order_whichever_sink_looks_first() -> None:
    made: list[int] = []
    at_once = threading.Lock()

    def change(one: Result) -> Result:
        assert at_once.acquire(blocking=False), "two at once"
        made.append(one.frame.id)
        time.sleep(0.001)
        at_once.release()
        return one

    sinks = [Kept(f"sink {number}", wants_image=True, complete=True) for number in range(3)]
    outlets = Outlets(sinks, lossless=True, change=change)
    for number in range(60):
        outlets.put(result(number))
    outlets.close(in_peace=True)
    assert made == list(range(60))
    assert all(ids(sink) == list(range(60)) for sink in sinks)


def test_a_failing_sink_holds_on_to_no_picture() -> None:
    class Down(Kept):
        wants_image = True

        def put(self, result: Result) -> None:
            raise SinkError(f"no server for {result.frame.id}")

    outlets = Outlets([Down("down")], lossless=False)
    one = result(0)
    picture = weakref.ref(one.frame)
    gc.disable()
    try:
        outlets.put(one)
        del one
        wait_for(lambda: picture() is None)
    finally:
        gc.enable()
    outlets.close(in_peace=True)


def test_a_file_that_is_being_finished_is_waited_for_also_in_a_hurry() -> None:
    class SlowCard(Kept):
        def close(self) -> None:
            time.sleep(3 * module.HURRY_S)
            super().close()

    sink = SlowCard("clip", complete=True)
    outlets = Outlets([sink], lossless=False)
    outlets.put(result(0))
    outlets.close(in_peace=False)
    assert sink.closed == 1


def test_two_sinks_of_one_name_are_told_apart() -> None:
    outlets = Outlets([Kept("x"), Kept("x")], lossless=False)
    outlets.close(in_peace=True)
    assert list(outlets.stats()) == ["x", "x 2"]


def wait_for(holds) -> None:
    deadline = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)
