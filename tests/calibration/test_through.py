"""Ranges of what an activation reads, by the error of what it makes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("onnx")

from edge_sdk.calibration.graph import Graph
from edge_sdk.calibration.histogram import GrowingHistogram, Histogram
from edge_sdk.calibration.range_methods import SCHEMES, Scheme
from edge_sdk.calibration.through import Activation, ErrorThrough, activations
from tests.calibration.engines.nets import CHANNELS, Net


def hand_written_silu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / (1 + np.exp(-x))


def hand_written_hard_swish(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x * np.clip(x / 6 + 0.5, 0, 1)


def gated(gate: str, *, swapped: bool = False, **attributes: float) -> tuple[Net, str]:
    """A convolution before x * gate(x), and the name of x."""
    net = Net()
    x = net.conv("x", CHANNELS, CHANNELS, name="before")
    opened = net.op(gate, x, name="gate", **attributes)
    after = net.op("Mul", *((opened, x) if swapped else (x, opened)), name="gated")
    net.conv(after, CHANNELS, CHANNELS, name="after")
    return net, x


def activation_of(kind: str) -> Activation:
    net, tensor = gated("Sigmoid") if kind == "silu" else gated("HardSigmoid", alpha=1 / 6, beta=0.5)
    return activations(Graph(net.model("after:0")))[tensor]


def histogram_of(values: NDArray[np.float64]) -> Histogram:
    growing = GrowingHistogram()
    growing.add(values.astype(np.float32))
    return growing.snapshot()


def true_error(values: NDArray[np.float64], kind: str, scheme: Scheme, low: float, high: float) -> float:
    """Quantized value by value, then activated."""
    function = hand_written_silu if kind == "silu" else hand_written_hard_swish
    scale, zero = scheme.grid(low, high)
    stored = np.clip(np.rint(values / scale) + zero, scheme.lowest, scheme.highest)
    return float(np.square(function((stored - zero) * scale) - function(values)).mean())


# --- which tensors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swapped", [False, True])
def test_the_input_of_a_silu_is_found_with_its_function(swapped: bool) -> None:
    net, tensor = gated("Sigmoid", swapped=swapped)
    found = activations(Graph(net.model("after:0")))
    assert set(found) == {tensor}
    x = np.linspace(-20, 20, 401)
    assert found[tensor](x) == pytest.approx(hand_written_silu(x))


def test_the_input_of_a_hard_swish_is_found_with_its_numbers() -> None:
    net, tensor = gated("HardSigmoid", alpha=1 / 6, beta=0.5)
    x = np.linspace(-8, 8, 401)
    assert activations(Graph(net.model("after:0")))[tensor](x) == pytest.approx(hand_written_hard_swish(x), abs=1e-6)
    net, tensor = gated("HardSigmoid")  # ONNX's own slope is 0.2
    assert activations(Graph(net.model("after:0")))[tensor](x) == pytest.approx(x * np.clip(0.2 * x + 0.5, 0, 1))


def test_far_values_neither_overflow_nor_warn() -> None:
    with np.errstate(all="raise"):
        assert activation_of("silu")(np.array([-1e6, 1e6])) == pytest.approx([0, 1e6], abs=1e-6)


def test_a_tensor_that_something_else_reads_is_left_out() -> None:
    net, tensor = gated("Sigmoid")
    net.op("Add", tensor, "after:0", name="beside")
    assert activations(Graph(net.model("beside:0"))) == {}


def test_a_tensor_that_is_an_output_is_left_out() -> None:
    net, tensor = gated("Sigmoid")
    assert activations(Graph(net.model("after:0", tensor))) == {}


def test_a_sigmoid_alone_is_none() -> None:
    net = Net()
    net.op("Sigmoid", net.conv("x", CHANNELS, CHANNELS, name="before"), name="alone")
    assert activations(Graph(net.model("alone:0"))) == {}


# --- the error ------------------------------------------------------------------------------------------------

cases = {
    "seed": st.integers(0, 10_000),
    "spread": st.floats(0.2, 12),
    "middle": st.floats(-4, 4),
    "kind": st.sampled_from(["silu", "hard swish"]),
    "scheme": st.sampled_from(["uint8", "int8", "int8_symmetric"]),
}


def drawn(seed: int, spread: float, middle: float) -> NDArray[np.float64]:
    values = np.random.default_rng(seed).normal(middle, spread, 6000)
    return values.astype(np.float32).astype(np.float64)


@given(**cases, part=st.floats(0.2, 1))
@settings(max_examples=60)
def test_the_expected_error_is_that_of_quantizing_and_activating_every_value(
    seed: int, spread: float, middle: float, kind: str, scheme: str, part: float
) -> None:
    values = drawn(seed, spread, middle)
    histogram, how = histogram_of(values), SCHEMES[scheme]
    low, high = part * histogram.low, part * histogram.high
    expected = float(ErrorThrough(histogram, how, activation_of(kind))(low=[low], high=[high])[0])
    assert expected == pytest.approx(true_error(values, kind, how, low, high), rel=0.1, abs=1e-9)


@given(**cases)
@settings(max_examples=40)
def test_the_best_range_is_never_worse_behind_the_activation_than_the_extremes(
    seed: int, spread: float, middle: float, kind: str, scheme: str
) -> None:
    values = drawn(seed, spread, middle)
    histogram, how = histogram_of(values), SCHEMES[scheme]
    error = ErrorThrough(histogram, how, activation_of(kind))
    best = error.best(histogram)
    widest = histogram.low, histogram.high
    mine, theirs = error(*np.array([best, widest]).T)
    assert mine <= theirs
    assert true_error(values, kind, how, *best) <= 1.1 * true_error(values, kind, how, *widest) + 1e-9


def test_what_becomes_almost_nothing_is_cut_off() -> None:
    """As many values below zero as above: half of the levels would be spent on nothing."""
    values = drawn(0, 6.0, 0.0)
    histogram = histogram_of(values)
    low, high = ErrorThrough(histogram, SCHEMES["uint8"], activation_of("silu")).best(histogram)
    assert low > histogram.low / 2
    assert high > 0.8 * histogram.high
    better = true_error(values, "silu", SCHEMES["uint8"], low, high)
    assert better < 0.6 * true_error(values, "silu", SCHEMES["uint8"], histogram.low, histogram.high)


def test_many_ranges_at_once_are_each_by_itself() -> None:
    histogram = histogram_of(drawn(1, 3.0, 0.5))
    error = ErrorThrough(histogram, SCHEMES["int8"], activation_of("silu"))
    lows, highs = -np.linspace(0.5, 9, 20), np.linspace(1, 12, 20)
    assert error(lows, highs).tolist() == [
        float(error([low], [high])[0]) for low, high in zip(lows, highs, strict=True)
    ]  # fmt: skip
