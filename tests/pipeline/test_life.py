"""States, and which may follow which."""

from __future__ import annotations

import itertools
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.pipeline.life import TRANSITIONS, Life
from edge_sdk.result import Event

STATES = sorted(TRANSITIONS)


def test_a_run_goes_through_its_states_and_tells_of_each() -> None:
    life = Life("door")
    heard: list[Event] = []
    life.listen(heard.append)
    for state in ("starting", "streaming", "stalled", "reconnecting", "streaming", "stopped"):
        assert life.change(state, f"why {state}")
    assert [(event.previous, event.state) for event in heard] == [
        ("stopped", "starting"),
        ("starting", "streaming"),
        ("streaming", "stalled"),
        ("stalled", "reconnecting"),
        ("reconnecting", "streaming"),
        ("streaming", "stopped"),
    ]
    assert [event.reason for event in heard][2] == "why stalled"
    assert tuple(heard) == life.events
    assert (life.reconnects, life.stalls) == (1, 1)


@given(st.lists(st.sampled_from(STATES), max_size=40))
def test_no_order_of_calls_makes_an_illegal_transition(wanted: list) -> None:
    life = Life("door")
    heard: list[Event] = []
    life.listen(heard.append)
    for state in wanted:
        before = life.state
        assert life.change(state) == (state in TRANSITIONS[before])
    assert all(event.state in TRANSITIONS[event.previous] for event in heard)
    assert all(one.state == next_one.previous for one, next_one in itertools.pairwise(heard))
    assert [event.at_ns for event in heard] == sorted(event.at_ns for event in heard)


def test_from_every_state_another_run_can_be_reached() -> None:
    for state in STATES:
        reached, ahead = {state}, [state]
        while ahead:
            for following in TRANSITIONS[ahead.pop()] - reached:
                reached.add(following)
                ahead.append(following)
        assert "starting" in reached


def test_a_listener_that_fails_is_logged_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    life = Life("door")
    heard: list[Event] = []

    def broken(event: Event) -> None:
        raise ValueError("a mistake of somebody's")

    life.listen(broken)
    life.listen(heard.append)
    with caplog.at_level(logging.ERROR, "edge_sdk"):
        assert life.change("starting")
    assert len(heard) == 1
    assert "a mistake of somebody's" in caplog.text
    life.unlisten(broken)
    life.change("streaming")
    assert len(heard) == 2


def test_only_the_latest_events_are_kept() -> None:
    life = Life("door")
    for _ in range(1000):
        life.change("starting")
        life.change("stopped")
    assert len(life.events) == 256
