"""A source that is lost, stalls, comes back with another size, or never comes back; and the books over all of it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import BadFrameError, SourceError, SourceNotFoundError, UsageError
from edge_sdk.pipeline import supervisor as module
from edge_sdk.pipeline.books import Books
from edge_sdk.pipeline.life import Life
from edge_sdk.pipeline.supervisor import Reconnect, Supervisor
from edge_sdk.result import Frame

SOON_S = 20.0
QUICK = Reconnect(first_s=0.01, longest_s=0.05, restarts=1_000_000)
PICTURE = np.zeros((48, 64, 3), np.uint8)


class Wire:
    """A live source that gives what is put on it: a picture, an error to raise, or None for its end."""

    live, fps, total = True, 30.0, None

    def __init__(self, *things: object, name: str = "wire") -> None:
        self.name = name
        self.closed = 0
        self._things: queue.Queue[object] = queue.Queue()
        self._next_id = 0
        for thing in things:
            self._things.put(thing)

    def give(self, *things: object) -> None:
        for thing in things:
            self._things.put(thing)

    def read(self) -> Frame | None:
        thing = self._things.get()
        if isinstance(thing, BaseException):
            self._next_id += isinstance(thing, BadFrameError)
            raise thing
        if thing is None:
            return None
        frame = Frame(thing, self._next_id, self.name, time.monotonic_ns())
        self._next_id += 1
        return frame

    def close(self) -> None:
        self.closed += 1
        self._things.put(None)  # lets a read go


class Rig:
    """A supervisor with all that it tells."""

    def __init__(self, source: Wire, *, newest: bool = False, **more: object) -> None:
        self.books, self.life = Books(), Life("rig")
        self.heard: list[str] = []
        self.life.listen(lambda event: self.heard.append(event.state))
        self.supervisor = Supervisor(source, self.books, self.life, newest=newest, **more)
        self.supervisor.start()

    def take(self, count: int) -> list[Frame]:
        frames = []
        for _ in range(count):
            frame = self.supervisor.mailbox.take(SOON_S)
            assert frame is not None
            frames.append(frame)
            self.books.dropped("shutdown")  # stands for a result
        return frames


@pytest.fixture(autouse=True)
def _leaves_no_thread():
    yield
    deadline = time.monotonic() + SOON_S
    while left := [one.name for one in threading.enumerate() if one.name.startswith("edge-sdk")]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def one_after_another(*sources: object) -> Callable[[threading.Event], Wire]:
    """Opens these in turn; an error stands for an attempt that fails."""
    rest = list(sources)

    def reopen(_: threading.Event) -> Wire:
        source = rest.pop(0)
        if isinstance(source, Exception):
            raise source
        return source

    return reopen


def test_a_source_that_ends_closes_the_mailbox() -> None:
    rig = Rig(Wire(PICTURE, PICTURE, None))
    assert [frame.id for frame in rig.take(2)] == [0, 1]
    assert rig.supervisor.mailbox.take(SOON_S) is None
    assert rig.heard == ["starting", "streaming"]
    assert rig.supervisor.close()


def test_a_lost_source_is_opened_again_and_ids_go_on() -> None:
    first = Wire(PICTURE, PICTURE, SourceError("the cable was pulled"))
    second = Wire(np.zeros((24, 32, 3), np.uint8), PICTURE, name="wire")
    reopen = one_after_another(SourceNotFoundError("not there"), SourceError("still starting"), second)
    rig = Rig(first, reopen=reopen, policy=QUICK)
    frames = rig.take(4)
    assert [frame.id for frame in frames] == [0, 1, 2, 3]
    assert [frame.image.shape[:2] for frame in frames] == [(48, 64), (48, 64), (24, 32), (48, 64)]
    assert rig.heard == ["starting", "streaming", "reconnecting", "streaming"]
    assert rig.life.events[2].reason == "the cable was pulled"
    assert first.closed
    assert rig.life.reconnects == 1
    rig.supervisor.close()
    assert second.closed
    assert rig.books.stats().in_flight == 0


def test_without_a_way_to_open_it_again_its_error_is_raised() -> None:
    rig = Rig(Wire(PICTURE, SourceError("the cable was pulled")))
    rig.take(1)
    with pytest.raises(SourceError, match="the cable was pulled"):
        rig.supervisor.mailbox.take(SOON_S)
    assert rig.heard[-1] == "failed"
    rig.supervisor.close()


def test_a_mistake_in_a_source_is_raised_and_not_taken_for_a_loss() -> None:
    rig = Rig(Wire(PICTURE, ZeroDivisionError("a bug")), reopen=one_after_another(), policy=QUICK)
    rig.take(1)
    with pytest.raises(ZeroDivisionError):
        rig.supervisor.mailbox.take(SOON_S)
    rig.supervisor.close()


def test_a_silent_source_is_stalled_then_lost_and_a_frame_in_time_makes_it_stream_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STALL_S", 0.3)
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    first, second = Wire(), Wire(PICTURE, PICTURE)
    rig = Rig(first, reopen=one_after_another(second), policy=QUICK)
    first.give(PICTURE, PICTURE, PICTURE)
    rig.take(3)
    wait_for(lambda: rig.life.state == "stalled")
    first.give(PICTURE)
    rig.take(1)
    assert rig.heard == ["starting", "streaming", "stalled", "streaming"]
    assert [frame.id for frame in rig.take(2)] == [4, 5]
    assert rig.heard[4:7] == ["stalled", "reconnecting", "streaming"]
    assert "no frame for" in next(event.reason for event in rig.life.events if event.state == "reconnecting")
    assert rig.life.stalls == 2
    rig.supervisor.close()


def test_the_watchdog_is_not_armed_before_a_few_frames_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cameras take their time over the first frames: the limit for opening holds until then."""
    monkeypatch.setattr(module, "STALL_S", 0.05)
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    source = Wire(PICTURE, PICTURE)
    rig = Rig(source, reopen=one_after_another(), policy=QUICK, timeout_s=SOON_S)
    rig.take(2)
    time.sleep(0.3)
    source.give(PICTURE)
    rig.take(1)
    assert rig.heard == ["starting", "streaming"]
    rig.supervisor.close()


def test_a_slow_camera_is_not_taken_for_a_stalled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_S", 0.01)
    monkeypatch.setattr(module, "LOOK_S", 0.005)
    source = Wire()
    rig = Rig(source, reopen=one_after_another(), policy=QUICK)
    for _ in range(8):  # several times STALL_S apart, but steadily so
        time.sleep(0.1)
        source.give(PICTURE)
        rig.take(1)
    assert rig.heard == ["starting", "streaming"]
    rig.supervisor.close()


def test_nothing_but_spoilt_frames_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_S", 0.1)
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    first, second = Wire(PICTURE, PICTURE, PICTURE), Wire(PICTURE)
    rig = Rig(first, reopen=one_after_another(second), policy=QUICK)
    rig.take(3)
    stop = threading.Event()

    def smear() -> None:
        while not stop.wait(0.01):
            first.give(BadFrameError("smeared"))

    smearing = threading.Thread(target=smear)
    smearing.start()
    rig.take(1)
    stop.set()
    smearing.join()
    assert rig.life.reconnects == 1
    rig.supervisor.close()
    stats = rig.books.stats()
    assert stats.dropped["decode_error"] > 3
    assert stats.in_flight == 0


def test_a_source_that_comes_and_goes_is_given_up_with_the_first_cause() -> None:
    policy = Reconnect(first_s=0.001, longest_s=0.002, restarts=3, within_s=60)
    sources = [Wire(SourceError(f"loss {number}")) for number in range(1, 9)]
    rig = Rig(Wire(SourceError("loss 0")), reopen=one_after_another(*sources), policy=policy)
    with pytest.raises(SourceError, match=r"lost 4 times within 60 s and given up; first: loss 0") as caught:
        rig.supervisor.mailbox.take(SOON_S)
    assert str(caught.value.__cause__) == "loss 0"
    assert rig.heard[-1] == "failed"
    rig.supervisor.close()


def test_a_source_that_stays_away_too_long_is_given_up_with_the_first_cause_and_the_last() -> None:
    def gone(_: threading.Event) -> Wire:
        raise SourceNotFoundError("no such camera")

    policy = Reconnect(first_s=0.01, longest_s=0.02, give_up_s=0.2)
    rig = Rig(Wire(PICTURE, SourceError("unplugged")), reopen=gone, policy=policy)
    rig.take(1)
    with pytest.raises(SourceError, match=r"given up; first: unplugged; at last: no such camera"):
        rig.supervisor.mailbox.take(SOON_S)
    rig.supervisor.close()


def test_a_source_that_is_seen_to_be_back_is_not_waited_for_any_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEARCH_S", 0.01)
    there = iter([False, False, False, True, True])
    policy = Reconnect(first_s=SOON_S, longest_s=SOON_S)
    second = Wire(PICTURE)
    began = time.monotonic()
    rig = Rig(Wire(SourceError("lost")), reopen=one_after_another(second), is_back=lambda: next(there), policy=policy)
    rig.take(1)
    assert time.monotonic() - began < SOON_S
    rig.supervisor.close()


def test_closing_ends_a_wait_for_the_source_at_once() -> None:
    rig = Rig(Wire(SourceError("lost")), reopen=one_after_another(), policy=Reconnect(first_s=500, longest_s=500))
    wait_for(lambda: rig.life.state == "reconnecting")
    began = time.monotonic()
    assert rig.supervisor.close(SOON_S)
    assert time.monotonic() - began < 5
    assert rig.supervisor.mailbox.over


def test_a_source_that_opens_after_all_when_nobody_wants_it_any_more_is_closed() -> None:
    late = Wire(PICTURE)
    opening, go_on = threading.Event(), threading.Event()

    def slow(_: threading.Event) -> Wire:
        opening.set()
        go_on.wait(SOON_S)
        return late

    rig = Rig(Wire(SourceError("lost")), reopen=slow, policy=QUICK)
    assert opening.wait(SOON_S)
    assert not rig.supervisor.close(0.05)
    go_on.set()
    wait_for(lambda: late.closed > 0)
    assert rig.books.stats().captured == 0


def test_what_a_driver_gives_after_its_source_was_given_up_is_counted_and_shown_to_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STALL_S", 0.05)
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    go_on = threading.Event()

    class Stuck(Wire):
        def read(self) -> Frame | None:
            frame = super().read()
            if frame is not None and frame.id == 3:
                go_on.wait(SOON_S)  # in the driver, whatever `close` says
            return frame

        def close(self) -> None:
            self.closed += 1

    stuck, second = Stuck(*[PICTURE] * 4), Wire(PICTURE)
    rig = Rig(stuck, reopen=one_after_another(second), policy=QUICK)
    assert [frame.id for frame in rig.take(4)] == [0, 1, 2, 3]  # the last one is the second source's
    assert rig.life.reconnects == 1
    go_on.set()
    wait_for(lambda: rig.books.stats().captured == 5)
    rig.supervisor.close()
    assert rig.books.stats().in_flight == 0
    assert rig.supervisor.mailbox.take(0) is None


def test_a_run_that_was_stopped_while_its_source_was_away_goes_on_looking_for_it_in_the_next() -> None:
    second = Wire(PICTURE)
    rig = Rig(Wire(SourceError("lost")), reopen=one_after_another(second), policy=Reconnect(first_s=1, longest_s=1))
    wait_for(lambda: rig.life.state == "reconnecting")
    rig.supervisor.stop(SOON_S)
    rig.life.change("stopped")
    rig.supervisor.start()
    assert [frame.id for frame in rig.take(1)] == [0]
    assert rig.heard[-3:] == ["starting", "reconnecting", "streaming"]
    rig.supervisor.close()


def test_after_a_long_pause_the_source_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OLD_S", 0.0)
    first, second = Wire(PICTURE), Wire(PICTURE)
    rig = Rig(first, reopen=one_after_another(second), policy=QUICK)
    rig.take(1)
    rig.supervisor.stop(0)
    rig.life.change("stopped")
    first.give(None)
    rig.supervisor.start()
    rig.take(1)
    assert first.closed
    assert rig.life.reconnects == 0
    rig.supervisor.close()


def test_a_closed_one_is_not_started_again() -> None:
    rig = Rig(Wire(PICTURE))
    rig.supervisor.close()
    with pytest.raises(UsageError, match="the camera is closed"):
        rig.supervisor.start()


def test_a_slow_taker_is_no_silence_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_S", 0.2)
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    source = Wire(*[PICTURE] * 12)
    rig = Rig(source, reopen=one_after_another(), policy=QUICK)
    for _ in range(3):
        rig.take(1)
        time.sleep(0.5)  # the mailbox is full meanwhile, and the reader waits
    rig.take(2)
    assert rig.heard == ["starting", "streaming"]
    rig.supervisor.close()


def test_of_a_live_source_only_the_newest_frame_waits() -> None:
    source = Wire()
    rig = Rig(source, newest=True)
    for _ in range(10):
        source.give(PICTURE)
    wait_for(lambda: rig.books.stats().captured == 10)
    assert [frame.id for frame in rig.take(1)] == [9]
    assert rig.books.stats().dropped["overwritten"] == 9
    rig.supervisor.close()


def test_after_a_stop_it_can_be_started_again_with_the_same_source() -> None:
    source = Wire(PICTURE)
    rig = Rig(source)
    rig.take(1)
    rig.supervisor.stop(0)
    rig.life.change("stopped")
    source.give(PICTURE)  # ends the read that was under way: nobody asked for this frame
    wait_for(lambda: rig.books.stats().captured == 2)
    rig.supervisor.start()
    source.give(PICTURE)
    assert [frame.id for frame in rig.take(1)] == [2]
    rig.supervisor.close()
    assert rig.books.stats().in_flight == 0


def test_after_two_hundred_reconnections_threads_and_descriptors_are_what_they_were() -> None:
    def held() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    before = held()
    rounds = 200

    def reopen(_: threading.Event) -> Wire:
        return Wire(PICTURE, SourceError("lost"))

    rig = Rig(Wire(PICTURE, SourceError("lost")), reopen=reopen, policy=Reconnect(0.001, 0.001, restarts=10**6))
    frames = rig.take(rounds + 1)
    assert [frame.id for frame in frames] == list(range(rounds + 1))
    assert rig.life.reconnects >= rounds
    rig.supervisor.close()
    wait_for(lambda: held() == before)


@given(
    st.floats(0.01, 5),
    st.floats(1, 100),
    st.integers(0, 100_000),
)
def test_the_wait_is_never_below_the_first_nor_above_the_longest(first_s: float, times: float, attempt: int) -> None:
    policy = Reconnect(first_s=first_s, longest_s=first_s * times)
    assert first_s <= policy.delay_s(attempt) <= policy.longest_s * (1 + 1e-9)


@pytest.mark.parametrize(
    "wrong", [{"first_s": 0}, {"longest_s": -1}, {"give_up_s": 0}, {"restarts": 0}, {"first_s": 5, "longest_s": 1}]
)
def test_a_policy_that_means_nothing_is_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match="must"):
        Reconnect(**wrong)


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)
