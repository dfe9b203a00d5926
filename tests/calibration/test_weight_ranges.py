"""Weight ranges: a scale for each output channel, and the error that rounding really makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.calibration.weight_ranges import LEVELS, weight_ranges, weights_of
from edge_sdk.errors import ModelError, UsageError

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

WEIGHTS = (np.random.default_rng(4).standard_t(3, (8, 4, 3, 3)) * np.logspace(-2, 2, 8)[:, None, None, None]).astype(
    np.float32
)
LONG = np.random.default_rng(4).normal(size=(4, 500_000, 1, 1)).astype(np.float32)


def true_errors(weights: NDArray[np.float32], limits: NDArray[np.float32]) -> NDArray[np.float64]:
    scales = (limits / LEVELS).reshape(-1, 1, 1, 1)
    rounded = np.clip(np.rint(weights / scales), -LEVELS, LEVELS) * scales
    return np.asarray(((rounded - weights.astype(np.float64)) ** 2).mean(axis=(1, 2, 3)))


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_the_error_is_that_of_rounding_the_weights(method: str) -> None:
    ranges = weight_ranges(WEIGHTS, 0, method)  # type: ignore[arg-type]
    assert ranges.errors == pytest.approx(true_errors(WEIGHTS, ranges.limits), rel=1e-3)
    assert ranges.snr_db == pytest.approx(10 * np.log10((WEIGHTS**2).mean() / ranges.errors.mean()), abs=0.01)
    assert ranges.scales == pytest.approx(ranges.limits / 127)


def test_minmax_holds_every_weight_and_mse_is_never_worse() -> None:
    for weights in (WEIGHTS, LONG):
        peak, best = weight_ranges(weights, 0, "minmax"), weight_ranges(weights, 0, "mse")
        assert peak.limits == pytest.approx(np.abs(weights).max(axis=(1, 2, 3)))
        assert (best.errors <= peak.errors).all()
        assert (best.limits <= peak.limits).all()
        assert best.errors == pytest.approx(true_errors(weights, best.limits), rel=1e-3)
    assert (best.errors < peak.errors).all(), "the tails of half a million values are worth clipping"


def test_the_channels_lie_along_the_axis() -> None:
    assert weight_ranges(np.moveaxis(WEIGHTS, 0, 1), 1).limits == pytest.approx(weight_ranges(WEIGHTS, 0).limits)
    assert weight_ranges(np.moveaxis(WEIGHTS, 0, -1), -1).limits == pytest.approx(weight_ranges(WEIGHTS, 0).limits)
    assert weight_ranges(WEIGHTS, None).limits == pytest.approx([np.abs(WEIGHTS).max()])


def test_a_channel_of_zeros_and_no_channel_at_all_are_held() -> None:
    zeros = np.zeros((2, 3), np.float32)
    zeros[1] = 1
    ranges = weight_ranges(zeros, 0, "mse")
    assert ranges.scales == pytest.approx([1, 1 / 127])
    assert ranges.errors == pytest.approx([0, 0])
    assert weight_ranges(np.zeros((0, 3), np.float32), 0).limits.shape == (0,)


@pytest.mark.parametrize(("axis", "method", "weights", "message"), [
    (0, "best", WEIGHTS, "no weight range method 'best'"),
    (4, "mse", WEIGHTS, "no axis 4"),
    (0, "mse", np.array([[np.inf]], np.float32), "not finite"),
])  # fmt: skip
def test_what_cannot_be_is_a_clear_error(
    axis: int, method: str, weights: NDArray[np.float32], message: str
) -> None:  # fmt: skip
    with pytest.raises(UsageError, match=message):
        weight_ranges(weights, axis, method)  # type: ignore[arg-type]


def model(*, broken: float = 0.0) -> onnx.ModelProto:
    conv, dense = WEIGHTS.copy(), np.ones((5, 2), np.float32)
    dense[0, 0] += broken
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["y"]),
        helper.make_node("Gemm", ["z", "dense"], ["g"], transB=1),
        helper.make_node("Add", ["y", "other"], ["s"]),
    ]
    named = {"conv": conv, "dense": dense, "other": np.ones(3, np.float32)}
    initializers = [numpy_helper.from_array(value, name) for name, value in named.items()]
    return helper.make_model(helper.make_graph(nodes, "g", [], [], initializers))


def test_the_weights_of_a_model_are_found_with_their_axes() -> None:
    found = weights_of(model())
    assert set(found) == {"conv", "dense"}
    assert {len(one["minmax"].limits) for one in found.values()} == {8, 5}
    assert {tuple(one) for one in found.values()} == {("minmax", "mse")}


def test_a_weight_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ModelError, match="'dense': a weight is not finite"):
        weights_of(model(broken=np.nan))
    outside = model()
    outside.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="'conv' lies in another file"):
        weights_of(outside)
    short = model()
    short.graph.initializer[0].raw_data = b"1234"
    with pytest.raises(ModelError, match="initializer 'conv'"):
        weights_of(short)


def test_for_a_trained_detector_the_peak_is_best_for_almost_every_channel(yolox: Path) -> None:
    found = weights_of(onnx.load(yolox))
    assert len(found) == 113
    clipped = np.concatenate([one["mse"].limits < 0.99 * one["minmax"].limits for one in found.values()])
    assert clipped.mean() < 0.02
    assert min(one["minmax"].snr_db for one in found.values()) > 37
