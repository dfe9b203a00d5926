"""The double for sources behaves like one."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest

from edge_sdk.errors import BadFrameError, SourceError, SourceNotFoundError, UsageError
from edge_sdk.sources.base import Source
from edge_sdk.testing.fake_source import FakeDevice, FakeSource


def images(count):
    return [np.full((4, 6, 3), number, np.uint8) for number in range(count)]


def test_it_gives_what_it_was_given_and_ends():
    source: Source = FakeSource(images(3))
    assert (source.live, source.fps, source.total, source.name) == (False, None, 3, "fake")
    frames = [source.read() for _ in range(3)]
    assert [(frame.id, int(frame.image[0, 0, 0])) for frame in frames] == [(0, 0), (1, 1), (2, 2)]
    assert source.read() is None
    assert source.read() is None


def test_it_keeps_a_rate_without_losing_a_frame():
    source = FakeSource(images(6), fps=50)
    started = time.monotonic()
    assert [source.read().id for _ in range(6)] == list(range(6))
    assert 0.09 < time.monotonic() - started < 1


def test_live_it_loses_what_is_not_read_in_time():
    source = FakeSource((np.zeros((4, 6, 3), np.uint8) for _ in itertools.count()), fps=100, live=True)
    assert source.total is None
    first = source.read().id
    time.sleep(0.2)
    assert 10 < source.read().id - first < 100


def test_it_fails_where_the_script_says():
    source = FakeSource(images(5), script={1: BadFrameError("smeared"), 3: SourceError("unplugged")})
    assert source.read().id == 0
    with pytest.raises(BadFrameError, match="smeared"):
        source.read()
    assert source.read().id == 2
    for _ in range(2):
        with pytest.raises(SourceError, match="unplugged"):
            source.read()


def test_it_stalls_where_the_script_says():
    source = FakeSource(images(2), script={1: 0.2})
    source.read()
    started = time.monotonic()
    assert source.read().id == 1
    assert time.monotonic() - started >= 0.2


def test_closing_ends_a_stall():
    source = FakeSource(images(2), script={0: 30.0})
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(source.read()))
    thread.start()
    source.close()
    source.close()
    thread.join(2)
    assert outcome == [None]
    assert source.closed
    assert source.read() is None


def test_what_is_no_source_is_refused():
    with pytest.raises(UsageError, match="give fps"):
        FakeSource(images(1), live=True)
    with pytest.raises(UsageError, match="above 0"):
        FakeSource(images(1), fps=0)
    with pytest.raises(UsageError, match="BGR"):
        FakeSource([np.zeros((4, 6), np.uint8)]).read()


def reading(source):
    """A thread that reads to the end; what it saw, the reason of the end last."""
    seen = []

    def read_on():
        try:
            while (frame := source.read()) is not None:
                seen.append(frame.id)
            seen.append(None)
        except SourceError as error:
            seen.append(str(error))

    thread = threading.Thread(target=read_on)
    thread.start()
    while not seen:
        time.sleep(0.01)
    return thread, seen


def test_a_device_shows_its_images_over_and_over_at_its_rate():
    device = FakeDevice(images(3), fps=50)
    source: Source = device()
    assert (source.live, source.fps, source.total, source.name) == (True, 50, None, "fake")
    started = time.monotonic()
    frames = [source.read() for _ in range(7)]
    assert time.monotonic() - started > 0.1
    assert [frame.id for frame in frames] == list(range(7))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 1, 2, 0, 1, 2, 0]
    source.close()
    source.close()
    assert (device.opened, device.in_use, device.delivered) == (1, 0, 7)


def test_a_device_that_is_unplugged_fails_the_read_in_progress_and_every_later_one():
    device = FakeDevice(images(1), fps=100)
    source = device()
    thread, seen = reading(source)
    device.unplug()
    thread.join(5)
    assert "was unplugged after" in seen[-1]
    with pytest.raises(SourceError, match="plug it in again"):
        source.read()
    with pytest.raises(SourceNotFoundError, match="no such camera"):
        device()
    device.plug()
    with pytest.raises(SourceError, match="plug it in again"):
        source.read()  # what was open stays lost
    source.close()
    assert device.delivered == len(seen) - 1


def test_a_device_comes_back_with_other_images_and_counts_its_frames_on():
    device = FakeDevice(images(1), fps=100)
    first = device()
    first.read()
    device.unplug()
    first.close()
    device.plug([np.full((8, 9, 3), 7, np.uint8)])
    second = device()
    assert second.read().image.shape == (8, 9, 3)
    assert second.read().id == 1
    assert (device.opened, device.in_use, device.delivered) == (2, 1, 3)
    second.close()


def test_a_device_that_stalls_gives_nothing_until_it_goes_on():
    device = FakeDevice(images(1), fps=100)
    source = device()
    thread, seen = reading(source)
    device.stall()
    before = device.delivered
    time.sleep(0.1)
    assert device.delivered == before
    assert thread.is_alive()
    device.resume()
    while device.delivered == before:
        time.sleep(0.01)
    source.close()
    thread.join(5)
    assert seen[-1] is None


def test_closing_ends_the_read_of_a_device_that_stalls_and_it_cannot_be_opened_meanwhile():
    device = FakeDevice(images(1), fps=100)
    source = device()
    thread, seen = reading(source)
    device.stall()
    source.close()
    thread.join(5)
    assert seen[-1] is None
    with pytest.raises(SourceError, match="opens but gives no frame"):
        device()
    device.unplug()
    device.plug()  # which mends it
    device().close()


def test_a_device_that_somebody_has_open_is_in_use():
    device = FakeDevice(images(1))
    source = device()
    with pytest.raises(SourceError, match="it is in use; close what was opened before"):
        device()
    source.close()
    device().close()


def test_frames_of_a_device_that_nobody_reads_in_time_are_gone():
    device = FakeDevice((np.full((4, 6, 3), number % 256, np.uint8) for number in itertools.count()), fps=100)
    source = device()
    source.read()
    time.sleep(0.3)
    source.read()
    started = time.monotonic()
    for _ in range(5):
        source.read()
    assert time.monotonic() - started > 0.02  # not a heap of old ones at once
    source.close()


def test_the_images_of_a_device_may_end():
    source = FakeDevice(iter(images(2)), fps=100)()
    assert [source.read() is None for _ in range(3)] == [False, False, True]
    with pytest.raises(UsageError, match="above 0"):
        FakeDevice(images(1), fps=0)
