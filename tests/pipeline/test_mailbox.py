"""Between a thread that makes and one that takes."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_sdk.errors import SourceError
from edge_sdk.pipeline.mailbox import Mailbox

SOON_S = 30.0  # what should come at once; a busy machine may take its time


def test_the_newest_item_wins_and_who_puts_it_hears_of_the_other() -> None:
    box: Mailbox[int] = Mailbox()
    assert [box.put(item) for item in range(5)] == [None, 0, 1, 2, 3]
    assert box.take(0) == 4


def test_an_item_is_handed_over_once() -> None:
    box: Mailbox[str] = Mailbox()
    box.put("one")
    assert box.take(0) == "one"
    with pytest.raises(TimeoutError):
        box.take(0)
    assert box.put("two") is None


def test_an_item_that_looks_like_nothing_is_an_item() -> None:
    box: Mailbox[object] = Mailbox()
    for item in (0, "", [], False):
        box.put(item)
        assert box.take(0) == item


def test_waiting_ends_at_its_time() -> None:
    box: Mailbox[int] = Mailbox()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        box.take(0.05)
    assert time.monotonic() - began >= 0.05


def waiting(box: Mailbox[int]) -> tuple[threading.Thread, list[object]]:
    """A thread that waits for an item, and where it leaves what it got."""
    got: list[object] = []
    about_to = threading.Event()

    def wait() -> None:
        about_to.set()
        try:
            got.append(box.take())
        except BaseException as error:  # noqa: BLE001
            got.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert about_to.wait(SOON_S)
    return thread, got


def test_an_item_wakes_who_waits() -> None:
    box: Mailbox[int] = Mailbox()
    thread, got = waiting(box)
    box.put(7)
    thread.join(SOON_S)
    assert got == [7]


def test_closing_wakes_who_waits_with_nothing() -> None:
    box: Mailbox[int] = Mailbox()
    thread, got = waiting(box)
    box.close()
    thread.join(SOON_S)
    assert got == [None]


def test_closing_wakes_all_who_wait() -> None:
    box: Mailbox[int] = Mailbox()
    waiters = [waiting(box) for _ in range(4)]
    box.close()
    for thread, got in waiters:
        thread.join(SOON_S)
        assert got == [None]


def test_the_error_that_closed_it_comes_out_where_it_is_read() -> None:
    box: Mailbox[int] = Mailbox()
    fault = SourceError("the cable is out")
    thread, got = waiting(box)
    box.close(fault)
    thread.join(SOON_S)
    assert got == [fault]
    with pytest.raises(SourceError, match="the cable is out"):  # and whenever it is read again
        box.take()


def test_what_was_put_before_closing_is_still_handed_over() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(1)
    box.close(SourceError("the end"))
    assert box.take() == 1
    with pytest.raises(SourceError):
        box.take()


def test_the_first_closing_counts() -> None:
    box: Mailbox[int] = Mailbox()
    box.close()
    box.close(SourceError("too late"))
    assert box.take() is None


def test_what_is_put_after_closing_comes_back() -> None:
    box: Mailbox[int] = Mailbox()
    box.close()
    assert box.put(1) == 1
    assert box.take() is None


def test_abandoning_closes_and_returns_what_was_left() -> None:
    box: Mailbox[int] = Mailbox(3)
    for item in range(3):
        box.put(item)
    assert box.abandon() == [0, 1, 2]
    assert box.abandon() == []
    assert box.over
    assert box.take() is None


def test_without_loss_who_puts_waits_for_room() -> None:
    box: Mailbox[int] = Mailbox(2, newest=False)
    came_back: list[int | None] = []

    def put() -> None:
        came_back.extend(box.put(item) for item in range(6))
        box.close()

    thread = threading.Thread(target=put, daemon=True)
    thread.start()
    assert [box.take(SOON_S) for _ in range(7)] == [0, 1, 2, 3, 4, 5, None]
    thread.join(SOON_S)
    assert came_back == [None] * 6


def test_closing_lets_who_waits_for_room_go_with_the_item() -> None:
    box: Mailbox[int] = Mailbox(1, newest=False)
    box.put(1)
    came_back: list[int | None] = []
    thread = threading.Thread(target=lambda: came_back.append(box.put(2)), daemon=True)
    thread.start()
    time.sleep(0.02)  # it waits by now; where it does not, closing comes first, with the same end
    assert box.abandon() == [1]
    thread.join(SOON_S)
    assert came_back == [2]


def test_what_was_taken_but_not_used_can_be_put_back_in_front() -> None:
    box: Mailbox[int] = Mailbox(2, newest=False)
    for item in (3, 4):
        box.put(item)
    box.put_back([1, 2])
    assert [box.take(0) for _ in range(4)] == [1, 2, 3, 4]


def test_waiting_ends_with_nothing_once_there_is_another_reason() -> None:
    box: Mailbox[int] = Mailbox()
    enough = threading.Event()
    got: list[int | None] = []
    thread = threading.Thread(target=lambda: got.append(box.take(unless=enough.is_set)), daemon=True)
    thread.start()
    enough.set()
    box.wake()
    thread.join(SOON_S)
    assert got == [None]
    box.put(1)
    assert box.take(unless=enough.is_set) == 1  # what is there is handed over all the same


class AnyOrder(RuleBasedStateMachine):
    """Every order of calls from one thread, against what a mailbox is: a queue that keeps the newest items."""

    @initialize(capacity=st.integers(1, 3), newest=st.booleans())
    def make(self, capacity: int, newest: bool) -> None:
        self.box: Mailbox[int] = Mailbox(capacity, newest=newest)
        self.capacity, self.newest = capacity, newest
        self.left: list[int] = []
        self.put_count = self.gone = 0
        self.closed = False
        self.fault: Exception | None = None

    @precondition(lambda self: self.closed or self.newest or len(self.left) < self.capacity)
    @rule()
    def put(self) -> None:
        item, self.put_count = self.put_count, self.put_count + 1
        back = self.box.put(item)
        if self.closed:
            assert back == item
        else:
            self.left.append(item)
            assert back == (self.left.pop(0) if len(self.left) > self.capacity else None)
        self.gone += back is not None

    @rule()
    def take(self) -> None:
        if self.left:
            assert self.box.take(0) == self.left.pop(0)
            self.gone += 1
        elif not self.closed:
            with pytest.raises(TimeoutError):
                self.box.take(0)
        elif self.fault is None:
            assert self.box.take(0) is None
        else:
            with pytest.raises(type(self.fault)):
                self.box.take(0)

    @rule()
    def abandon(self) -> None:
        assert self.box.abandon() == self.left
        self.gone += len(self.left)
        self.left = []
        self.closed = True

    @precondition(lambda self: not self.closed)
    @rule(fault=st.sampled_from([None, SourceError("x"), ValueError("y")]))
    def close(self, fault: Exception | None) -> None:
        self.box.close(fault)
        self.closed, self.fault = True, fault

    @invariant()
    def every_item_is_somewhere_once(self) -> None:
        if hasattr(self, "box"):
            assert self.put_count == self.gone + len(self.left)
            assert len(self.box) == len(self.left)
            assert self.box.over == (self.closed and not self.left)


AnyOrder.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)
TestAnyOrderOfCalls = AnyOrder.TestCase


@pytest.mark.parametrize("readers", [1, 3])
def test_between_threads_each_item_is_handed_over_at_most_once_and_in_order(readers: int) -> None:
    items = 5000
    box: Mailbox[int] = Mailbox()
    got: list[list[int]] = [[] for _ in range(readers)]

    def read(into: list[int]) -> None:
        while (item := box.take(SOON_S)) is not None:
            into.append(item)

    threads = [threading.Thread(target=read, args=(one,), daemon=True) for one in got]
    for thread in threads:
        thread.start()
    lost = 0
    for item in range(items):
        lost += box.put(item) is not None
        if item % 50 == 0:
            time.sleep(0)  # lets a reader in
    box.close()
    for thread in threads:
        thread.join(SOON_S)
        assert not thread.is_alive()
    taken = [item for one in got for item in one]
    assert all(one == sorted(one) for one in got)
    assert len(taken) == len(set(taken)) == items - lost
    assert max(taken) == items - 1  # the last one is never lost
