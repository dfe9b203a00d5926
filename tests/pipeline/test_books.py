"""The accounting of a run."""

from __future__ import annotations

import threading
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk import Timing
from edge_sdk.pipeline.books import WINDOW_FRAMES, Books, Stats, percentiles
from edge_sdk.pipeline.mailbox import Mailbox


def timing(ms: float = 1.0) -> Timing:
    return Timing(wait_ms=ms, preprocess_ms=2 * ms, infer_ms=3 * ms, decode_ms=4 * ms, total_ms=10 * ms)


def balanced(stats: Stats) -> bool:
    return stats.captured == stats.processed + sum(stats.dropped.values()) + stats.in_flight


def test_new_books_are_empty() -> None:
    stats = Books().stats()
    assert (stats.captured, stats.processed, stats.dropped, stats.in_flight) == (0, 0, {}, 0)
    assert stats.percentiles == {field.name: {} for field in fields(Timing)}


def test_a_captured_frame_is_in_flight_until_it_is_accounted_for() -> None:
    books = Books()
    for _ in range(4):
        books.captured()
    assert books.stats().in_flight == 4
    books.processed(timing())
    books.dropped("overwritten", 2)
    books.dropped("decode_error")
    stats = books.stats()
    assert (stats.captured, stats.processed, stats.in_flight) == (4, 1, 0)
    assert stats.dropped == {"overwritten": 2, "decode_error": 1}


def test_no_frame_dropped_names_no_cause() -> None:
    books = Books()
    books.dropped("overwritten", 0)
    assert books.stats().dropped == {}


def test_figures_that_were_read_do_not_change_afterwards() -> None:
    books = Books()
    books.captured()
    books.dropped("shutdown")
    before = books.stats()
    books.captured()
    books.dropped("shutdown")
    assert (before.captured, before.dropped) == (1, {"shutdown": 1})


causes = st.sampled_from(["overwritten", "decode_error", "inference_error", "shutdown"])


@settings(deadline=None)
@given(st.lists(st.one_of(st.just("processed"), st.just("in flight"), causes), max_size=60))
def test_whatever_becomes_of_frames_the_sum_is_right(fates: list[str]) -> None:
    books = Books()
    for fate in fates:
        books.captured()
        if fate == "processed":
            books.processed(timing())
        elif fate != "in flight":
            books.dropped(fate)
        assert balanced(books.stats())
    stats = books.stats()
    assert (stats.captured, stats.processed, stats.in_flight) == (
        len(fates), fates.count("processed"), fates.count("in flight"),
    )  # fmt: skip
    assert all(stats.dropped[cause] == fates.count(cause) for cause in stats.dropped)


@pytest.mark.parametrize("frames", [1, 3000])
def test_a_capture_thread_and_a_loop_account_for_every_frame(frames: int) -> None:
    books, box = Books(), Mailbox[int]()
    wrong: list[Stats] = []
    done = threading.Event()

    def capture() -> None:
        for number in range(frames):
            books.captured()
            if number % 7 == 3:
                books.dropped("decode_error")
            elif box.put(number) is not None:
                books.dropped("overwritten")
        box.close()

    def watch() -> None:
        while not done.is_set():
            stats = books.stats()
            if stats.in_flight < 0 or not balanced(stats):
                wrong.append(stats)

    threads = [threading.Thread(target=work, daemon=True) for work in (capture, watch)]
    for thread in threads:
        thread.start()
    handed_over = 0
    while box.take(30) is not None:
        books.processed(timing())
        handed_over += 1
    threads[0].join(30)
    done.set()
    threads[1].join(30)
    stats = books.stats()
    assert wrong == []
    assert (stats.captured, stats.processed, stats.in_flight) == (frames, handed_over, 0)
    assert balanced(stats)


def test_percentiles_are_numpys_own() -> None:
    values = np.random.default_rng(0).uniform(0, 100, 999).tolist()
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    assert percentiles(values) == {"p50": p50, "p90": p90, "p99": p99, "max": max(values)}
    assert percentiles([5.0]) == {"p50": 5.0, "p90": 5.0, "p99": 5.0, "max": 5.0}
    assert percentiles([]) == {}


def test_each_stage_has_percentiles_of_its_own() -> None:
    books = Books()
    for ms in (1.0, 2.0, 3.0):
        books.processed(timing(ms))
    shown = books.stats().percentiles
    assert {name: one["p50"] for name, one in shown.items()} == {
        "wait_ms": 2.0, "preprocess_ms": 4.0, "infer_ms": 6.0, "decode_ms": 8.0, "total_ms": 20.0,
    }  # fmt: skip
    assert shown["infer_ms"]["max"] == 9.0


def test_percentiles_are_of_the_latest_frames_and_counts_of_all() -> None:
    books = Books()
    books.processed(timing(1000.0))
    for _ in range(WINDOW_FRAMES):
        books.processed(timing(1.0))
    stats = books.stats()
    assert stats.processed == WINDOW_FRAMES + 1
    assert stats.percentiles["infer_ms"]["max"] == 3.0
