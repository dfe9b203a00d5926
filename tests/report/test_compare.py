"""Runs side by side."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.measure.record import Figure, Profile
from edge_sdk.report.compare import compare, differences, front, labels, not_comparable, percentile, ratio

from .profiles import make_profile
from .strategies import profiles


def in_mode(mode: str, p50_ms: float, work_w: float) -> Profile:
    profile = make_profile(p50_ms=p50_ms, work_w=work_w)
    return replace(profile, device={**profile.device, "power_mode": mode})


def named(name: str, **changes: Any) -> Profile:
    profile = make_profile(**changes)
    return replace(profile, model={**profile.model, "name": name})


def test_a_ratio_of_symmetric_intervals_is_fiellers() -> None:
    a, b, half_a, half_b = 40.0, 60.0, 2.0, 3.0
    found = ratio(Figure(a, a - half_a, a + half_a), Figure(b, b - half_b, b + half_b))
    root = math.sqrt((a * b) ** 2 - (a**2 - half_a**2) * (b**2 - half_b**2))  # Fieller (1954), without covariance
    assert found is not None
    assert found.value == pytest.approx(2 / 3)
    assert found.low == pytest.approx((a * b - root) / (b**2 - half_b**2))
    assert found.high == pytest.approx((a * b + root) / (b**2 - half_b**2))


def test_the_interval_of_a_ratio_covers_it_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    true, hits = 0.7, 0
    for a, b in zip(random.normal(70, 4, 2000), random.normal(100, 5, 2000), strict=True):
        found = ratio(Figure(a, a - 1.96 * 4, a + 1.96 * 4), Figure(b, b - 1.96 * 5, b + 1.96 * 5))
        hits += found is not None and found.low <= true <= found.high
    assert 0.935 < hits / 2000 < 0.965


@given(st.tuples(*[st.floats(0.001, 1e6)] * 3), st.tuples(*[st.floats(0.001, 1e6)] * 3))
def test_a_ratio_lies_in_its_interval_or_has_none(one: tuple[float, ...], other: tuple[float, ...]) -> None:
    (low, value, high), (to_low, to, to_high) = sorted(one), sorted(other)
    found = ratio(Figure(value, low, high), Figure(to, to_low, to_high))
    if found is not None:
        assert found.low <= found.value * (1 + 1e-9)
        assert found.value <= found.high * (1 + 1e-9)


def test_a_ratio_to_what_may_be_nothing_has_no_interval() -> None:
    assert ratio(Figure(5, 4, 6), Figure(1, -1, 3)) is None
    assert ratio(Figure(-1, -2, 1), Figure(5, 4, 6)) is None


def test_the_interval_of_a_median_is_that_of_the_table() -> None:
    # n = 20: the 6th to the 15th value cover the median with 95.9 %, as tables of the sign test have it.
    assert percentile([float(i) for i in range(1, 21)], 50) == (5.0, 16.0)  # the normal approximation's, a little wider
    assert percentile([1.0] * 1000, 99) == (1.0, 1.0)


def test_too_few_times_give_no_interval_of_a_high_percentile() -> None:
    assert percentile([1.0, 2.0, 3.0], 99) is None
    assert percentile([], 50) is None


def test_percentiles_are_covered_as_often_as_said() -> None:
    random = np.random.default_rng(2)
    hits = 0
    for _ in range(600):
        low, high = percentile(random.exponential(1.0, 400), 90) or (0.0, 0.0)
        hits += low <= math.log(10) <= high
    assert hits / 600 > 0.93


@pytest.mark.parametrize(
    ("points", "found"),
    [
        ([(1, 5), (2, 3), (3, 4), (4, 1)], (0, 1, 3)),
        ([(2, 2), (1, 1)], (1,)),
        ([(1, 1), (1, 1), (2, 0)], (0, 1, 2)),
        ([(1, 2), (1, 1)], (1,)),
        ([(1, None), (None, 1), (5, 5)], (2,)),
        ([], ()),
    ],
)
def test_the_front_has_what_nothing_beats(points: list[Any], found: tuple[int, ...]) -> None:
    assert front(points) == found


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_the_front_is_what_its_definition_says(points: list[tuple[int, int]]) -> None:
    def beaten(one: tuple[int, int]) -> bool:
        return any(other != one and other[0] <= one[0] and other[1] <= one[1] for other in points)

    assert set(front(points)) == {place for place, one in enumerate(points) if not beaten(one)}


def test_runs_are_named_by_what_tells_them_apart() -> None:
    assert labels([in_mode("7W", 50, 4), in_mode("25W", 20, 6)]) == ("7W", "25W")
    assert labels([named("a.onnx"), named("b.onnx")]) == ("a.onnx", "b.onnx")
    assert labels([make_profile(), make_profile()]) == ("yolox_nano.onnx (1)", "yolox_nano.onnx (2)")
    a = named("a.onnx")
    other = replace(a, model={**a.model, "backend": "tflite"})
    assert labels([a, other, named("b.onnx")]) == ("a.onnx, onnxruntime", "a.onnx, tflite", "b.onnx, onnxruntime")


@given(st.lists(profiles, min_size=1, max_size=3))
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_runs_are_compared_and_no_two_have_one_name(runs: list[Profile]) -> None:
    found = compare(runs)
    assert len(set(found.labels)) == len(found.labels) == len(runs)
    assert all(len(row.cells) == len(runs) for row in found.rows)


def test_figures_and_ratios_are_to_the_first() -> None:
    found = compare([in_mode("7W", 50.0, 4.3), in_mode("25W", 25.0, 6.2)])
    rows = {row.name: row for row in found.rows}
    p50 = rows["latency p50"]
    assert p50.unit == "ms"
    assert p50.cells[0].ratio is None
    assert p50.cells[1].ratio == pytest.approx(0.5, rel=0.01)
    gross = rows["gross energy"].cells[1]
    assert gross.ratio == pytest.approx(6.2 * 25 / (4.3 * 50))
    assert gross.ratio_low is not None
    assert gross.ratio_high is not None
    assert gross.ratio_low < gross.ratio < gross.ratio_high
    assert found.differences == ("power mode: 7W vs 25W",)
    assert found.not_comparable == ()
    assert found.front == (1,)


def test_energies_of_other_methods_have_no_ratio_and_no_front() -> None:
    runs = [make_profile(), make_profile("estimate")]
    found = compare(runs)
    assert found.not_comparable[0] == "the watts came about differently: sensor_total vs estimate"
    assert not_comparable(runs)[1].startswith("the watts cover different parts: module and carrier")
    rows = {row.name: row for row in found.rows}
    assert rows["gross energy"].cells[1].value is not None
    assert rows["gross energy"].cells[1].ratio is None
    assert rows["latency p50"].cells[1].ratio == 1.0
    assert found.front == ()


def test_runs_without_energy_say_why() -> None:
    found = compare([make_profile(), make_profile("rejected"), make_profile("no_sensor"), make_profile("estimate")])
    net = {row.name: row for row in found.rows}["net energy"]
    assert [cell.reason for cell in net.cells] == [
        None, "rejected", "no power was measured", "4.1 mJ is below twice its noise of 3.2 mJ",
    ]  # fmt: skip


def test_runs_on_other_boards_say_so() -> None:
    said = differences([make_profile(), make_profile("no_sensor")])
    assert "board: jetson-orin-nano vs raspberry-pi-4" in said
    assert "power mode: 25W vs not known" in said
    assert "power sensor: ina3221 1-0040 vs none" in said
    assert differences([make_profile(), make_profile(p50_ms=5.0)]) == ()
