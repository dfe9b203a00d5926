"""What is picked, on tables made up, and what the reader is told."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.calibration.choice import pick, with_expected
from edge_sdk.calibration.expected import expected, fit_curve
from edge_sdk.calibration.outcome import Candidate, Drop, Kind, Timed
from edge_sdk.errors import UsageError


def candidate(name: str, kind: Kind, ratio: float, drop: float, damage: float | None = None, *, noise: float = 0.004,
              jitter: float = 0.01, size: int = 1000) -> Candidate:  # fmt: skip
    """As sure of its drop as `noise` (half the interval) says; its damage fits its drop where none is given."""
    own = math.sqrt(max(drop, 0.0) / 0.6) if damage is None else damage
    return Candidate(
        name, kind, None if kind == "float" else (True,), name, size,
        latency=Timed(10 * ratio, ratio, ratio - jitter, ratio + jitter, "measured"),
        accuracy=Drop(0.3 - drop, drop, drop - noise, drop + noise, own, 39),
    )  # fmt: skip


FLOAT = candidate("float", "float", 1.02, 0.0, noise=0)
HIGH = candidate("optimized float", "high", 1.0, 0.0, noise=0)
LOW = candidate("uniform int8", "low", 0.8, 0.09)
HEAD = candidate("head in float", "head", 0.85, 0.08)
TABLE = [FLOAT, HIGH, LOW, HEAD]


def test_within_a_drop_the_fastest_is_picked() -> None:
    table = [*TABLE, candidate("hybrid 1", "hybrid", 0.85, 0.02), candidate("hybrid 2", "hybrid", 0.9, 0.002)]
    found = pick(table, max_map_drop=0.005)
    assert (found.name, found.met) == ("hybrid 2", True)
    assert found.why[0] == "hybrid 2 is the fastest with a drop of at most 0.005 mAP."
    assert "0.900 of the optimized float's time (0.890 to 0.910)" in found.why[1]
    assert "0.0020 mAP (-0.0020 to 0.0060)" in found.why[1]


def test_within_a_latency_the_most_accurate_is_picked() -> None:
    table = [*TABLE, candidate("hybrid 1", "hybrid", 0.85, 0.02), candidate("hybrid 2", "hybrid", 0.92, 0.004)]
    assert pick(table, max_latency_ratio=0.93).name == "hybrid 2"
    assert pick(table, max_latency_ratio=0.9).name == "hybrid 1"
    assert pick(table, max_latency_ms=8.1).name == "uniform int8"


def test_with_no_budget_a_drop_of_five_thousandths_is_allowed_and_said() -> None:
    table = [*TABLE, candidate("hybrid 1", "hybrid", 0.9, 0.003), candidate("hybrid 2", "hybrid", 0.85, 0.02)]
    found = pick(table)
    assert found.name == "hybrid 1"
    assert "No budget was given: a drop of at most 0.005 mAP is allowed." in found.why


def test_a_simple_answer_that_is_as_good_and_as_fast_is_taken_and_said() -> None:
    low = candidate("uniform int8", "low", 0.905, 0.0021)
    found = pick([FLOAT, HIGH, low, candidate("hybrid 1", "hybrid", 0.9, 0.002)], max_map_drop=0.005)
    assert found.name == "uniform int8"
    assert found.why[0].startswith("uniform int8 is the answer: hybrid 1 is not better")


def test_where_the_low_precision_is_slower_float_is_the_answer_with_figures() -> None:
    table = [FLOAT, HIGH, replace(LOW, latency=Timed(10.7, 1.07, 1.05, 1.09, "measured")),
             candidate("hybrid 1", "hybrid", 1.01, 0.001)]  # fmt: skip
    found = pick(table, max_map_drop=0.005)
    assert found.name == "optimized float"
    assert any("slower than float here" in line and "1.070" in line and "1.050 to 1.090" in line for line in found.why)


def test_a_budget_that_nothing_meets_gives_the_nearest_and_says_so() -> None:
    found = pick([*TABLE, candidate("hybrid 1", "hybrid", 0.7, 0.02)], max_latency_ratio=0.5, max_map_drop=0.03)
    assert (found.name, found.met) == ("hybrid 1", False)
    assert found.why[0].startswith("No candidate has a drop of at most 0.03 mAP and at most 0.5 of")
    unread = pick(TABLE, max_energy_mj=5)
    assert not unread.met


def test_a_size_budget_is_kept() -> None:
    table = [replace(HIGH, size_bytes=4 << 20), replace(candidate("hybrid 1", "hybrid", 0.9, 0.02), size_bytes=1 << 20)]
    assert pick(table, max_size_bytes=2 << 20).name == "hybrid 1"


def test_a_drop_that_few_photos_show_by_chance_does_not_throw_out_what_hardly_moved() -> None:
    """0.007 on 39 photos is one standard deviation; its detections are almost the float model's."""
    table = [*TABLE, candidate("hybrid 1", "hybrid", 0.9, 0.007, damage=0.05, noise=0.014)]
    found = pick(table, max_map_drop=0.005)
    assert found.name == "hybrid 1"
    assert "to be expected" in found.why[1]
    assert any("39 photos alone tell no drop below about 0.014" in line for line in found.why)


def test_a_drop_beyond_chance_is_believed_whatever_the_damage_says() -> None:
    table = [*TABLE, candidate("hybrid 1", "hybrid", 0.9, 0.04, damage=0.05, noise=0.014)]
    assert pick(table, max_map_drop=0.005).name != "hybrid 1"


def test_with_a_metric_of_ones_own_only_what_was_measured_counts() -> None:
    table = [*TABLE, candidate("hybrid 1", "hybrid", 0.9, 0.004, damage=0.0, noise=0)]
    found = pick(table, max_map_drop=0.005, metric="recall")
    assert found.name == "hybrid 1"
    assert "recall" in found.why[0] or "recall" in found.why[1]


def test_candidates_without_figures_are_left_out() -> None:
    assert pick([*TABLE, replace(LOW, name="lost", latency=None)], max_latency_ratio=0.81).name == "uniform int8"
    with pytest.raises(UsageError, match="timed and evaluated"):
        pick([replace(one, accuracy=None) for one in TABLE])


def test_the_drop_by_damage_is_given_where_there_was_none() -> None:
    given = with_expected([FLOAT, LOW, replace(HEAD, predicted_drop=0.5)])
    assert given[0].predicted_drop is None
    assert given[1].predicted_drop == pytest.approx(0.09, rel=0.2)
    assert given[2].predicted_drop == 0.5


figures = st.builds(
    lambda ratio, drop, noise, damage, jitter: (ratio, drop, noise, damage, jitter),
    st.floats(0.5, 1.3), st.floats(-0.01, 0.1), st.floats(0.0005, 0.02), st.floats(0, 0.6), st.floats(0.001, 0.05),
)  # fmt: skip


@given(
    simple=st.lists(figures, min_size=2, max_size=2),
    hybrids=st.lists(figures, max_size=6),
    budget=st.sampled_from([{}, {"max_map_drop": 0.003}, {"max_latency_ratio": 0.9}, {"max_latency_ratio": 2.0}]),
)
def test_the_pick_is_never_beaten_by_a_simple_answer(
    simple: list[tuple[float, ...]], hybrids: list[tuple[float, ...]], budget: dict[str, float]
) -> None:
    def row(name: str, kind: Kind, of: tuple[float, ...]) -> Candidate:
        return candidate(name, kind, of[0], of[1], of[3], noise=of[2], jitter=of[4])

    table = [FLOAT, HIGH, row("uniform int8", "low", simple[0]), row("head in float", "head", simple[1])]
    table += [row(f"hybrid {number}", "hybrid", one) for number, one in enumerate(hybrids)]
    found = pick(table, **budget)
    chosen = next(one for one in table if one.name == found.name)
    curve = fit_curve([one.accuracy for one in table if one.accuracy])
    assert chosen.latency
    assert chosen.accuracy
    for other in table[:4]:
        assert other.latency
        assert other.accuracy
        if found.met and other.latency.ratio < chosen.latency.ratio:
            within = pick([other], **budget).met  # one alone has another curve; those near the edge may differ
            mine, its = expected(chosen, curve), expected(other, curve)
            assert mine
            assert its
            beaten = its.drop < mine.drop and other.accuracy.drop < chosen.accuracy.drop
            assert not (within and beaten and its.drop < 0.002)
            if "max_latency_ratio" in budget:
                assert not other.accuracy.high < chosen.accuracy.low
    assert pick(list(reversed(table)), **budget).name == found.name


def test_a_hybrid_that_is_not_measurably_faster_than_float_is_no_answer() -> None:
    table = [FLOAT, HIGH, candidate("hybrid 1", "hybrid", 0.998, 0.0, damage=0.001, noise=0.001, jitter=0.02)]
    assert pick(table, max_map_drop=0.005).name == HIGH.name
