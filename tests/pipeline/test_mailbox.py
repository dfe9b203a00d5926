"""One slot between a capture thread and its reader."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_sdk.errors import SourceError
from edge_sdk.pipeline.mailbox import Mailbox

SOON_S = 30.0  # what should come at once; a busy machine may take its time


def test_the_newest_item_wins_and_who_puts_it_hears_of_the_other() -> None:
    box: Mailbox[int] = Mailbox()
    assert [box.put(item) for item in range(5)] == [False, True, True, True, True]
    assert box.take(0) == 4


def test_an_item_is_handed_over_once() -> None:
    box: Mailbox[str] = Mailbox()
    box.put("one")
    assert box.take(0) == "one"
    with pytest.raises(TimeoutError):
        box.take(0)
    assert not box.put("two")


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


def test_abandoning_says_whether_something_was_left() -> None:
    box: Mailbox[int] = Mailbox()
    assert not box.abandon()
    box.put(1)
    assert box.abandon()
    assert not box.abandon()
    with pytest.raises(TimeoutError):
        box.take(0)


class AnyOrder(RuleBasedStateMachine):
    """Every order of calls from one thread, against what a mailbox is: the last item put and not yet taken."""

    def __init__(self) -> None:
        super().__init__()
        self.box: Mailbox[int] = Mailbox()
        self.left: int | None = None
        self.put_count = self.taken = self.thrown = self.lost = 0
        self.closed = False
        self.fault: Exception | None = None

    @rule()
    def put(self) -> None:
        replaced = self.left is not None
        assert self.box.put(self.put_count) == replaced
        self.lost += replaced
        self.left = self.put_count
        self.put_count += 1

    @rule()
    def take(self) -> None:
        if self.left is not None:
            assert self.box.take(0) == self.left
            self.left, self.taken = None, self.taken + 1
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
        assert self.box.abandon() == (self.left is not None)
        self.thrown += self.left is not None
        self.left = None

    @precondition(lambda self: not self.closed)
    @rule(fault=st.sampled_from([None, SourceError("x"), ValueError("y")]))
    def close(self, fault: Exception | None) -> None:
        self.box.close(fault)
        self.closed, self.fault = True, fault

    @invariant()
    def every_item_is_somewhere_once(self) -> None:
        assert self.put_count == self.taken + self.lost + self.thrown + (self.left is not None)


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
        lost += box.put(item)
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
