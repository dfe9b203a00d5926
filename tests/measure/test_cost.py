"""Processor time of what repeats."""

from __future__ import annotations

import threading
import time

from edge_sdk.measure.cost import Cost


def work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_in_the_same_thread_only_the_blocks_count() -> None:
    cost = Cost()
    for _ in range(3):
        work(0.02)
        with cost:
            work(0.01)
    assert 0.03 <= cost.seconds < 0.06


def test_in_a_thread_of_its_own_what_lies_between_counts_too() -> None:
    cost = Cost()

    def run() -> None:
        for _ in range(3):
            with cost:
                work(0.01)
            work(0.02)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert 0.07 <= cost.seconds < 0.12


def test_waiting_costs_nothing() -> None:
    cost = Cost()
    with cost:
        time.sleep(0.05)
    assert cost.seconds < 0.02
