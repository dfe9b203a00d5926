"""Choosing ranges: the method is each tensor's own, and the whole table stays."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.calibration.activations import Statistics, TensorStatistics
from edge_sdk.calibration.histogram import GrowingHistogram, Histogram
from edge_sdk.calibration.range_methods import SCHEMES, ErrorModel
from edge_sdk.calibration.ranges import ALL, SLACK, choose
from edge_sdk.errors import UsageError
from edge_sdk.plan import SCHEMA, Plan

RANDOM = np.random.default_rng(11)
BELL = RANDOM.normal(0.3, 1.0, 20_000)
NONE = np.zeros(0, np.float32)


def statistics(**tensors: object) -> Statistics:
    found = {}
    for name, values in tensors.items():
        growing = GrowingHistogram()
        growing.add(np.asarray(values, np.float32))
        found[name] = TensorStatistics(growing.snapshot(), NONE, NONE)
    return Statistics(found, ("a.jpg",), "m", "f", "r")


SEEN = statistics(
    bell=BELL,
    flat=RANDOM.uniform(0, 1, 20_000),
    tailed=RANDOM.standard_t(3, 20_000),
    silu=4 * BELL / (1 + np.exp(-4 * BELL)),
    far=np.append(BELL, [40.0, -35.0]),
)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_chosen_method_is_the_simplest_of_those_with_the_least_error(scheme: str) -> None:
    for name, one in choose(SEEN, scheme).items():
        least = min(candidate.error for candidate in one.table.values())
        as_good = [method for method in ALL if method in one.table and one.table[method].error <= least * (1 + SLACK)]
        assert one.method == as_good[0], name
        assert (one.low, one.high, one.error) == tuple(vars(one.table[one.method]).values())


def test_different_tensors_get_different_methods() -> None:
    ranges = choose(SEEN, "uint8")
    assert ranges["flat"].method == "minmax"
    assert ranges["tailed"].method != "minmax"
    assert set(ranges["silu"].table) == set(ALL)
    assert "silu" not in ranges["bell"].table
    assert list(ranges) == list(SEEN.tensors)


@settings(max_examples=40)
@given(values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20))
def test_every_range_holds_zero_exactly_and_can_stand_in_a_plan(values: list[float]) -> None:
    for name, scheme in SCHEMES.items():
        ranges = choose(statistics(t=values), name)
        one = ranges["t"]
        assert one.low <= 0 <= one.high
        _, zero = scheme.grid(one.low, one.high)
        assert zero == round(float(zero)), "zero is stored exactly"
        assert scheme.lowest <= zero <= scheme.highest
        Plan(SCHEMA, "0" * 64, "generic-x86_64", (), ranges.limits(), {})


def test_16_bits_keep_all_that_was_seen() -> None:
    ranges = choose(SEEN, "int16_symmetric")
    assert {one.method for one in ranges.values()} == {"minmax"}
    assert min(one.snr_db for one in ranges.values()) > 60


def test_a_custom_method_competes_and_a_good_one_wins() -> None:
    def mine(histogram: Histogram) -> tuple[float, float]:
        return (histogram.low, histogram.high) if histogram.high == 40 else (-1e6, 1e6)

    # Of percentiles, 40 is none; and nothing is quantized well over a million.
    ranges = choose(SEEN, "uint8", methods=("p99.9",), custom={"mine": mine})
    assert ranges["far"].method == "mine"
    assert ranges["far"].high == pytest.approx(40.0, abs=0.2)
    assert ranges["bell"].method == "p99.9"
    assert ranges["bell"].table["mine"].error > ranges["bell"].error


def test_a_custom_method_alone_is_what_is_used() -> None:
    ranges = choose(SEEN, "uint8", methods=(), custom=lambda histogram: (-2 * histogram.width, 1.0))
    assert {one.method for one in ranges.values()} == {"custom"}
    assert all(one.high == pytest.approx(1.0, abs=0.01) for one in ranges.values())


@pytest.mark.parametrize(("custom", "message"), [
    (lambda histogram: 1 / 0, "'custom' failed on tensor 'bell': division by zero"),
    (lambda histogram: None, "'custom' failed on tensor 'bell'"),
    (lambda histogram: (1.0, -1.0), "'custom' gave 1.0 to -1.0 for tensor 'bell'"),
    (lambda histogram: (0.0, math.nan), "which is no range"),
    ({"mse": lambda histogram: (0.0, 1.0)}, "'mse' is the name of a built-in"),
])  # fmt: skip
def test_a_custom_method_that_fails_is_named_with_the_tensor(custom: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose(SEEN, "uint8", custom=custom)  # type: ignore[arg-type]


def test_what_there_is_not_is_named() -> None:
    with pytest.raises(UsageError, match="no scheme 'int4'"):
        choose(SEEN, "int4")
    with pytest.raises(UsageError, match="no range method 'best'"):
        choose(SEEN, "uint8", methods=("best",))
    with pytest.raises(UsageError, match="no range method: name one"):
        choose(SEEN, "uint8", methods=())
    with pytest.raises(UsageError, match="no statistics of a tensor 'nowhere'"):
        choose(SEEN, "uint8", tensors=["nowhere"])
    with pytest.raises(UsageError, match="applies to tensor 'bell'"):
        choose(SEEN, "uint8", methods=("silu",))
    with pytest.raises(UsageError, match="no tensor has a range by 'best'"):
        choose(SEEN, "uint8").with_method("best")


def test_tensors_that_go_together_share_a_range_chosen_on_all_their_values() -> None:
    ranges = choose(SEEN, "uint8", together=[("bell", "flat")])
    both = choose(statistics(both=np.concatenate([BELL, RANDOM.uniform(0, 1, 20_000)])), "uint8")["both"]
    assert ranges["bell"] is ranges["flat"]
    assert (ranges["bell"].low, ranges["bell"].high) == pytest.approx((both.low, both.high), rel=0.05)
    assert ranges["flat"].low < -1
    with pytest.raises(UsageError, match="'bell' is in two groups"):
        choose(SEEN, "uint8", together=[("bell", "flat"), ("silu", "bell")])


def test_a_tensor_that_is_not_finite_has_no_range_and_neither_have_those_that_share_with_it() -> None:
    seen = statistics(good=BELL, bad=BELL, mate=BELL)
    tensors = dict(seen.tensors)
    tensors["bad"] = TensorStatistics(
        tensors["bad"].histogram, NONE, NONE, not_finite=2, note="2 values are not finite, the first in dog.jpg"
    )
    ranges = choose(Statistics(tensors, seen.photos, "m", "f", "r"), "uint8", together=[("bad", "mate")])
    assert list(ranges) == ["good"]
    assert "dog.jpg" in ranges.without["bad"]
    assert ranges.without["mate"] == "it shares its range with bad, which has none"


@pytest.mark.parametrize(("value", "ends"), [(0.0, (0.0, 0.0)), (3.5, (0.0, 3.5)), (-2.0, (-2.0, 0.0))])
def test_a_constant_tensor_has_a_range_that_holds_it(value: float, ends: tuple[float, float]) -> None:
    one = choose(statistics(t=np.full(50, value)), "uint8")["t"]
    assert (one.low, one.high) == pytest.approx(ends, rel=1e-4)
    assert one.error <= (value / 1000) ** 2


def test_one_method_for_all_can_be_had_for_comparison() -> None:
    ranges = choose(SEEN, "uint8")
    percentile = ranges.with_method("p99.9")
    assert {one.method for one in percentile.values()} == {"p99.9"}
    assert percentile["far"].high == ranges["far"].table["p99.9"].high
    mixed = ranges.with_method("silu")
    assert mixed["silu"].method == "silu"
    assert mixed["bell"] == ranges["bell"]


def test_the_rows_of_the_report_are_plain_and_whole() -> None:
    ranges = choose(SEEN, "uint8")
    rows = json.loads(json.dumps(ranges.rows(), allow_nan=False))
    assert len(rows) == sum(len(one.table) for one in ranges.values())
    assert sum(row["chosen"] for row in rows) == len(ranges)
    (row,) = [row for row in rows if row["tensor"] == "bell" and row["method"] == "minmax"]
    histogram = SEEN.tensors["bell"].histogram
    error = float(ErrorModel(histogram, SCHEMES["uint8"])([histogram.low], [histogram.high])[0])
    assert row["error"] == pytest.approx(error)
    assert row["snr_db"] == pytest.approx(10 * math.log10(histogram.power / error))
