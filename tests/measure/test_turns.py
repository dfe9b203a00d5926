"""Models in turns: the order is balanced, the ratio stands on a machine that is neither idle nor steady."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk import targets
from edge_sdk.backends import onnxruntime
from edge_sdk.errors import UsageError
from edge_sdk.measure.turns import Order, Turns, measure_in_turns, paired_ratio, run_in_turns


class Machine:
    """A simulated one: calls that take their own time, times a slow drift, plus what other processes take.

    Args:
        own_ms: Of each call.
        seed: Of the noise.
        busy: How often a call is held up, 0..1, by 3 ms on average.
        threads: That a call works in.
    """

    def __init__(self, own_ms: Mapping[str, float], seed: int, *, busy: float = 0.3, threads: int = 1) -> None:
        self._drawn = np.random.default_rng(seed)
        self._busy, self._threads = busy, threads
        self._wall = self._thread = self._process = self._waits = 0
        self.runs = {name: self._call(ms) for name, ms in own_ms.items()}

    def _call(self, ms: float) -> Callable[[], object]:
        def call() -> None:
            drift = 1 + 0.2 * np.sin(self._wall / 3e9)  # clocks that move by a fifth within seconds
            took = ms * drift * self._drawn.lognormal(0.0, 0.02) * 1e6
            held = self._drawn.exponential(3e6) if self._drawn.random() < self._busy else 0.0
            self._thread += int(took)
            self._process += int(took * self._threads)
            self._wall += int(took + held)
            self._waits += self._threads > 1

        return call

    def in_turns(self, **settings: object) -> Turns:
        ticks = (lambda: self._wall, lambda: self._thread, lambda: self._process, lambda: self._waits)
        return run_in_turns(self.runs, ticks=ticks, **settings)  # type: ignore[arg-type]


@given(st.integers(1, 12), st.integers(0, 5))
def test_each_model_stands_in_each_place_and_behind_each_other_equally_often(count: int, seed: int) -> None:
    order = Order(count, seed)
    passes = [tuple(order.of(number)) for number in range(order.cycle)]
    places = Counter((place, model) for row in passes for place, model in enumerate(row))
    behind = Counter(pair for row in passes for pair in itertools.pairwise(row))
    assert all(sorted(row) == list(range(count)) for row in passes)
    assert len(set(places.values())) == 1
    assert len(places) == count * count
    assert len(behind) == count * (count - 1)
    assert len(set(behind.values())) <= 1


def test_a_seed_fixes_the_order() -> None:
    orders = [[Order(6, seed).of(number) for number in range(12)] for seed in (3, 3, 4)]
    assert orders[0] == orders[1] != orders[2]


def test_the_same_file_twice_gives_an_interval_that_holds_one_in_ninety_of_a_hundred_runs() -> None:
    held = 0
    for seed in range(100):
        turn = Machine({"a": 10.0, "b": 10.0}, seed).in_turns(reference="a", seed=seed, clock="wall").models["b"]
        held += turn.low <= 1.0 <= turn.high
    assert held >= 90


def test_a_true_ratio_is_found_through_drift_and_company() -> None:
    errors = []
    for seed in range(20):
        turns = Machine({"a": 10.0, "b": 8.8, "c": 11.5}, seed, busy=0.6).in_turns(reference="a", seed=seed)
        errors += [turns.models["b"].ratio / 0.88 - 1, turns.models["c"].ratio / 1.15 - 1]
    assert np.abs(errors).max() < 0.03


def test_the_threads_own_time_is_counted_where_it_works_alone() -> None:
    alone = Machine({"a": 10.0, "b": 5.0}, 0, busy=0.9).in_turns(reference="a")
    assert alone.clock == "thread"
    assert alone.models["a"].ms < alone.models["a"].wall_ms
    shared = Machine({"a": 10.0, "b": 5.0}, 0, threads=2).in_turns(reference="a")
    assert shared.clock == "wall"
    assert shared.models["a"].ms == shared.models["a"].wall_ms


def test_the_reference_is_one() -> None:
    turn = Machine({"a": 10.0, "b": 5.0}, 0).in_turns(reference="a").models["a"]
    assert (turn.low, turn.ratio, turn.high) == (1.0, 1.0, 1.0)


def test_rounds_are_a_least_and_seconds_go_on_after_them() -> None:
    short = Machine({"a": 1.0, "b": 1.0}, 0).in_turns(reference="a", rounds=5, passes=2, block=2)
    assert (short.rounds, len(short.models["b"].times_ms)) == (5, 20)
    told: list[float] = []
    long = Machine({"a": 1.0, "b": 1.0}, 0).in_turns(reference="a", rounds=5, seconds=0.5, progress=told.append)
    assert long.rounds > 5
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_the_interval_is_the_same_for_a_seed() -> None:
    drawn = np.random.default_rng(0)
    ours, base = drawn.lognormal(16, 0.1, 9), drawn.lognormal(16, 0.1, 9)
    assert paired_ratio(ours, base, seed=1) == paired_ratio(ours, base, seed=1)
    ratio, low, high = paired_ratio(ours, base)
    assert low <= ratio <= high


@pytest.mark.parametrize("wrong", [{"reference": "z"}, {"rounds": 4}, {"passes": 0}, {"block": 0}, {"seconds": -1.0}])
def test_what_means_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Machine({"a": 1.0}, 0).in_turns(**{"reference": "a", **wrong})


def test_open_sessions_are_timed_by_their_own_cpu_time(shared: Path) -> None:
    file = shared / "models/ultraface/version-slim-320.onnx"
    board = targets.load("generic-x86_64")
    with (
        onnxruntime.BACKEND.open(file, board, threads=1, options={}) as one,
        onnxruntime.BACKEND.open(file, board, threads=1, options={}) as other,
    ):
        turns = measure_in_turns({"one": one, "other": other}, reference="one", rounds=9, passes=2, block=2)
    assert turns.clock == "thread"
    assert 0.8 < turns.models["other"].ratio < 1.25
