"""Integers chosen for a layer's outputs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")

from edge_sdk.calibration.engines.integers import PAIR_LIMIT, channel_scales, pair_sums
from edge_sdk.calibration.repairs.weight_rounding import second_order


def layer(seed: int, blocks: int, out: int, width: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights, curvature of inputs that go together as those of real layers do, and how far to shrink the scales."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 1, (blocks, out, width)) ** 3
    few = max(width // 4, 1)
    inputs = rng.normal(0, 1, (blocks, 200, few)) @ rng.normal(0, 1, (blocks, few, width))
    return weights, np.matmul(inputs.transpose(0, 2, 1), inputs) / 200 + 0.01 * np.eye(width), rng.uniform(0.5, 1)


def errors(stored: np.ndarray, weights: np.ndarray, curvature: np.ndarray, steps: np.ndarray) -> np.ndarray:
    off = stored * steps[:, :, None] - weights
    return np.asarray(np.einsum("bok,bkl,bol->bo", off, curvature, off))


class TestSecondOrderRounding:
    @given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 4), st.integers(1, 12), st.booleans())
    @settings(max_examples=60)
    def test_stays_on_the_grid(self, seed: int, blocks: int, out: int, width: int, pairs: bool) -> None:
        weights, curvature, shrink = layer(seed, blocks, out, width)
        rows = weights.reshape(-1, width)
        steps = shrink * channel_scales(rows, pairs=pairs).reshape(blocks, out)
        stored = second_order(weights, curvature, steps, pairs=pairs)
        assert np.array_equal(stored, np.rint(stored))
        assert np.abs(stored).max() <= 127
        if pairs:
            assert pair_sums(stored.reshape(-1, width)).max() <= PAIR_LIMIT

    @pytest.mark.parametrize("pairs", [False, True])
    def test_makes_a_smaller_error_than_the_nearest_integers(self, pairs: bool) -> None:
        weights, curvature, _ = layer(3, 2, 8, 30)
        steps = channel_scales(weights.reshape(-1, 30), pairs=pairs).reshape(2, 8)
        nearest = np.rint(weights / steps[:, :, None])
        found = second_order(weights, curvature, steps, pairs=pairs)
        before, after = (errors(one, weights, curvature, steps) for one in (nearest, found))
        assert after.sum() < 0.5 * before.sum()

    @given(st.integers(0, 1000))
    @settings(max_examples=30)
    def test_is_no_worse_than_the_best_of_all_neighbours_by_much(self, seed: int) -> None:
        weights, curvature, _ = layer(seed, 1, 1, 5)
        steps = np.abs(weights).max(axis=2) / 3
        found = errors(second_order(weights, curvature, steps, pairs=False), weights, curvature, steps)[0, 0]
        below = np.floor(weights / steps[:, :, None])
        every = [
            errors(below + np.array(up), weights, curvature, steps)[0, 0] for up in product((-1, 0, 1, 2), repeat=5)
        ]
        nearest = errors(np.rint(weights / steps[:, :, None]), weights, curvature, steps)[0, 0]
        assert min(every) <= found + 1e-9
        assert found <= max(nearest, 4 * min(every)) + 1e-9

    def test_is_plain_rounding_where_inputs_have_nothing_to_do_with_each_other(self) -> None:
        weights = np.random.default_rng(0).normal(0, 1, (1, 6, 20))
        steps = np.abs(weights).max(axis=2) / 127
        found = second_order(weights, np.eye(20)[None], steps, pairs=False)
        assert np.array_equal(found, np.rint(weights / steps[:, :, None]))
