"""Looking after what blocks: as long as it takes, and no longer."""

from __future__ import annotations

import threading
import time

import pytest

from edge_sdk.sources.watch import watching

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def test_it_looks_until_it_is_told_that_all_is_done():
    looks, done = [], threading.Event()

    def look():
        looks.append(threading.current_thread())
        done.set() if len(looks) == 3 else None
        return len(looks) == 3

    with watching(look, 0.01):
        done.wait(5)
        time.sleep(0.1)
    assert len(looks) == 3
    assert threading.current_thread() not in looks


def test_it_never_looks_after_the_block():
    looks = []
    with watching(lambda: bool(looks.append(1)), 0.005):
        while not looks:
            time.sleep(0.005)
    count = len(looks)
    time.sleep(0.05)
    assert len(looks) == count


def test_a_block_that_fails_ends_it_too():
    with pytest.raises(KeyError), watching(lambda: False, 0.005):
        raise KeyError
