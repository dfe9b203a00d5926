"""Weights as integers: what lies on a grid already stays on it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.calibration.engines.integers import (
    PAIR_LIMIT,
    channel_scales,
    from_order,
    in_order,
    pair_sums,
    quantize_weights,
)


def any_weights(rng: np.random.Generator) -> np.ndarray:
    shape = (int(rng.integers(1, 6)), int(rng.integers(1, 9)), *[int(rng.integers(1, 4))] * 2)
    return (rng.normal(0, 10.0 ** rng.integers(-6, 3), shape) ** 3).astype(np.float32)


def any_integers(rng: np.random.Generator, *, pairs: bool) -> np.ndarray:
    """Rows whose largest integer is 63 to 127, and whose neighbours hold the rule where there is one."""
    rows = rng.integers(-127, 128, (int(rng.integers(1, 6)), int(rng.integers(2, 30))))
    if pairs:
        rows = np.clip(rows, -64, 64)
    rows[:, 0] = rng.integers(63, 65 if pairs else 128, len(rows))
    return rows


class TestRounding:
    @given(st.integers(0, 100_000), st.booleans(), st.sampled_from([None, 0.1, 1e6]))
    def test_a_second_time_changes_nothing(self, seed: int, pairs: bool, bias: float | None) -> None:
        rng = np.random.default_rng(seed)
        weights = any_weights(rng)
        offsets = None if bias is None else rng.normal(0, bias, len(weights)).astype(np.float32)
        once = quantize_weights(weights, 0, 0.1, offsets, pairs=pairs)
        twice = quantize_weights(once.real, 0, 0.1, offsets, pairs=pairs)
        assert np.allclose(twice.real, once.real, rtol=3e-7, atol=0)

    @given(st.integers(0, 100_000), st.booleans())
    def test_keeps_integers_that_were_chosen_elsewhere(self, seed: int, pairs: bool) -> None:
        rng = np.random.default_rng(seed)
        chosen = any_integers(rng, pairs=pairs)
        scales = 10.0 ** rng.uniform(-6, 2, len(chosen))
        made = quantize_weights((chosen * scales[:, None]).astype(np.float32), 0, 0.1, pairs=pairs)
        # A row of multiples of two may be stored as half of them: the same weights.
        times = np.abs(chosen).max(axis=1) / np.abs(made.stored.astype(int)).max(axis=1)
        assert np.array_equal(made.stored * times[:, None], chosen)
        assert np.allclose(made.scales / times, scales, rtol=3e-7)

    def test_gives_up_chosen_integers_whose_pairs_would_overflow(self) -> None:
        chosen = np.array([[127, 127, 3, -5]], np.float32)
        assert np.array_equal(quantize_weights(chosen, 0, 0.1).stored, chosen)
        made = quantize_weights(chosen, 0, 0.1, pairs=True)
        assert pair_sums(made.stored.astype(float))[0] <= PAIR_LIMIT

    def test_takes_the_least_scale_for_weights_on_no_grid(self) -> None:
        weights = np.random.default_rng(1).normal(0, 1, (6, 40)).astype(np.float32)
        made = quantize_weights(weights, 0, 0.1)
        assert np.allclose(made.scales, np.abs(weights).max(axis=1) / 127)
        assert np.abs(made.real - weights).max() <= 0.5001 * made.scales.max()


@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(0, 1))
def test_weights_come_back_from_their_rows(shape: list[int], axis: int) -> None:
    weights = np.arange(np.prod(shape)).reshape(shape)
    rows = in_order(weights, axis)
    assert len(rows) == shape[axis]
    assert np.array_equal(from_order(rows, shape, axis), weights)


def test_rows_run_through_the_channels_of_one_place_first() -> None:
    weights = np.arange(8).reshape(1, 2, 2, 2)
    assert in_order(weights, 0).tolist() == [[0, 4, 1, 5, 2, 6, 3, 7]]


def test_the_scale_of_pairs_holds_both() -> None:
    rows = np.array([[1.0, 1.0], [1.0, -1.0]])
    assert np.allclose(channel_scales(rows, pairs=True), [2 / 127, 1 / 127])
