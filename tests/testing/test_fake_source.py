"""The double for sources behaves like one."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest

from edge_sdk.errors import BadFrameError, SourceError, UsageError
from edge_sdk.sources.base import Source
from edge_sdk.testing.fake_source import FakeSource


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
