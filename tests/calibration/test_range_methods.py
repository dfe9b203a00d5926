"""Range methods: what they propose, and that the expected error is the one that quantizing really makes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sdk.calibration.histogram import GrowingHistogram, Histogram
from edge_sdk.calibration.range_methods import METHODS, SCHEMES, SILU_LOW, ErrorModel, Scheme, entropy, mse, silu

SIZE = 40_000
RANDOM = np.random.default_rng(3)
BELL = RANDOM.normal(0.3, 1.0, SIZE)
SHAPES = {
    "bell": BELL,
    "heavy tails": RANDOM.standard_t(3, SIZE),
    "relu": np.maximum(BELL, 0),
    "silu": 4 * BELL / (1 + np.exp(-4 * BELL)),
    "sigmoid": 1 / (1 + np.exp(-6 * BELL)),
    "far from zero": BELL + 50,
    "negative": -np.abs(BELL),
    "steps": np.round(BELL),
    "an outlier": np.append(BELL, 500.0),
}


def values_of(shape: str) -> NDArray[np.float32]:
    return SHAPES[shape].astype(np.float32)


def histogram_of(values: object) -> Histogram:
    growing = GrowingHistogram()
    growing.add(np.asarray(values, np.float32))
    return growing.snapshot()


def true_error(values: NDArray[np.float32], scheme: Scheme, low: float, high: float) -> float:
    """Quantized and back, value by value."""
    scale, zero = scheme.grid(low, high)
    stored = np.clip(np.rint(values / scale) + zero, scheme.lowest, scheme.highest)
    return float((((stored - zero) * scale - values.astype(np.float64)) ** 2).mean())


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_expected_error_is_that_of_quantizing_every_value(shape: str, scheme: Scheme) -> None:
    values = values_of(shape)
    histogram = histogram_of(values)
    error = ErrorModel(histogram, scheme)
    for part in (1.0, 0.5, 0.05):
        low, high = histogram.low * part, histogram.high * part
        expected, true = float(error([low], [high])[0]), true_error(values, scheme, low, high)
        # A spike that lies between zero and the ends is spread over its bin.
        slack = histogram.width**2 / 3
        assert expected == pytest.approx(true, rel=0.1, abs=slack), (part, expected, true)


def test_the_expected_error_of_many_ranges_is_that_of_each() -> None:
    error = ErrorModel(histogram_of(values_of("bell")), SCHEMES["uint8"])
    lows, highs = -np.linspace(0.1, 4, 50), np.linspace(0.2, 5, 50)
    one_by_one = [float(error([low], [high])[0]) for low, high in zip(lows, highs, strict=True)]
    assert error(lows, highs) == pytest.approx(one_by_one)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_mse_is_as_good_as_the_best_of_a_thousand_ranges(shape: str, scheme: Scheme) -> None:
    histogram = histogram_of(values_of(shape))
    error = ErrorModel(histogram, scheme)
    parts = np.linspace(0.02, 1, 33)
    pairs = np.array(list(itertools.product(min(0.0, histogram.low) * parts, max(0.0, histogram.high) * parts)))
    low, high = mse(histogram, scheme)
    assert float(error([low], [high])[0]) <= 1.03 * error(pairs[:, 0], pairs[:, 1]).min()
    assert float(error([low], [high])[0]) <= float(error([histogram.low], [histogram.high])[0])


@given(values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=30))
def test_every_method_proposes_a_range_within_what_was_seen(values: list[float]) -> None:
    histogram = histogram_of(values)
    for name, method in METHODS.items():
        for scheme in SCHEMES.values():
            proposed = method(histogram, scheme)
            if proposed is not None:
                low, high = proposed
                assert np.isfinite([low, high]).all()
                assert low <= high, name
                peak = max(abs(histogram.low), abs(histogram.high))
                assert max(abs(low), abs(high)) <= max(peak, -SILU_LOW) * (1 + 1e-6), name


@given(low=st.floats(-1e4, 0), high=st.floats(0, 1e4))
def test_the_reach_of_a_range_holds_zero_exactly_and_keeps_its_grid(low: float, high: float) -> None:
    for scheme in SCHEMES.values():
        bottom, top = scheme.reach(low, high)
        scale, zero = scheme.grid(low, high)
        assert bottom <= 0 <= top
        assert zero == int(zero)
        assert scheme.lowest <= zero <= scheme.highest
        if bottom != top:
            again, zero_again = scheme.grid(bottom, top)
            assert again == pytest.approx(float(scale), rel=1e-6)
            assert zero_again == zero


def test_the_grid_is_that_of_onnx_runtimes_quantizer() -> None:
    quantization = pytest.importorskip("onnxruntime.quantization.quant_utils")
    for low, high in [(-0.2785, 7.3), (0.0, 1.0), (-3.0, 0.0), (-128.0, 138.0), (2.0, 5.0), (-1e-3, 4.0)]:
        for name in ("uint8", "int8", "uint16"):
            scheme = SCHEMES[name]
            zero, scale = quantization.compute_scale_zp(
                np.float32(low), np.float32(high), np.array(scheme.lowest, name), np.array(scheme.highest, name)
            )
            assert scheme.grid(low, high) == (pytest.approx(float(scale), rel=1e-6), int(zero)), (name, low, high)


@pytest.mark.parametrize("scheme", [SCHEMES["uint8"], SCHEMES["int8_symmetric"]], ids=["uint8", "int8_symmetric"])
@pytest.mark.parametrize("shape", ["bell", "heavy tails", "relu", "an outlier"])
def test_entropy_finds_the_threshold_of_the_classical_loop(shape: str, scheme: Scheme) -> None:
    """The algorithm as it is told, bin by bin: S. Migacz, GTC 2017."""
    histogram = histogram_of(values_of(shape))
    values = histogram.absolute()
    values = values.coarser(max(0, (len(values.counts) - 1).bit_length() - 11))
    counts = values.spread.astype(float)
    one_sided = not scheme.symmetric and histogram.low >= 0
    groups = 256 if one_sided else (scheme.highest - scheme.lowest + 1) // 2

    def divergence(end: int) -> float:
        reference, inside = counts[:end].copy(), counts[:end]
        reference[-1] += counts[end:].sum()
        candidate = np.zeros(end)
        borders = end * np.arange(groups + 1) // groups
        for start, stop in itertools.pairwise(borders):
            filled = reference[start:stop] > 0
            if filled.any():
                candidate[start:stop][filled] = inside[start:stop].sum() / filled.sum()
        p, q = reference / reference.sum(), candidate / candidate.sum()
        q[q == 0] = 1e-4
        return float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())

    proposed = entropy(histogram, scheme)
    assert proposed is not None
    threshold = max(-proposed[0], proposed[1])
    ends = np.unique(np.linspace(groups, len(counts), min(256, len(counts) - groups + 1)).astype(int))
    chosen = len(counts) if threshold >= values.high else round(threshold / values.width)
    assert divergence(chosen) <= min(divergence(end) for end in [*ends[::8], ends[-1]]) + 1e-9


def test_percentiles_cut_as_much_as_they_say() -> None:
    values = values_of("bell")
    low, high = METHODS["p99.9"](histogram_of(values), SCHEMES["uint8"]) or (0, 0)
    assert np.mean((values < low) | (values > high)) == pytest.approx(0.001, rel=0.2)
    low, high = METHODS["p99.9"](histogram_of(values), SCHEMES["int8_symmetric"]) or (0, 0)
    assert low == -high
    assert np.mean(np.abs(values) > high) == pytest.approx(0.001, rel=0.2)


def test_an_outlier_is_cut_by_percentiles_and_kept_by_minmax() -> None:
    histogram = histogram_of(values_of("an outlier"))
    highs = {name: (method(histogram, SCHEMES["uint8"]) or (0, 0))[1] for name, method in METHODS.items()}
    assert highs["minmax"] == 500
    assert highs["p99.9"] < 10
    assert highs["entropy"] < 50


def test_the_silu_method_is_for_what_a_silu_gives() -> None:
    uint8 = SCHEMES["uint8"]
    low, high = silu(histogram_of(values_of("silu")), uint8) or (0, 0)
    assert low == SILU_LOW
    assert 0 < high <= values_of("silu").max()
    for other in ("bell", "relu", "far from zero"):
        assert silu(histogram_of(values_of(other)), uint8) is None
    assert silu(histogram_of(values_of("silu")), SCHEMES["int8_symmetric"]) is None
    assert silu(histogram_of([-0.2, 0.1]), uint8) is None  # it never rises: no SiLU that does anything


def test_zeros_cost_nothing() -> None:
    some = values_of("bell")
    with_zeros = np.concatenate([some, np.zeros(3 * SIZE, np.float32)])
    few, many = (float(ErrorModel(histogram_of(one), SCHEMES["uint8"])([-4.0], [4.0])[0]) for one in (some, with_zeros))
    assert many == pytest.approx(few / 4, rel=0.01)


def test_a_tensor_that_is_always_the_same_is_held_by_its_own_range() -> None:
    for value in (3.7, -0.01, 0.0):
        histogram = histogram_of(np.full(100, value))
        for scheme in SCHEMES.values():
            low, high = mse(histogram, scheme)
            error = float(ErrorModel(histogram, scheme)([low], [high])[0])
            assert error <= (abs(value) / 100) ** 2
