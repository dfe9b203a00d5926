"""Fewer points, and still every peak and gap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.report.decimate import decimate

values = st.lists(st.none() | st.floats(-1e9, 1e9), min_size=1, max_size=200)


def test_a_short_trace_is_drawn_as_it_is() -> None:
    drawn = decimate((0.0, 1.0), (5.0, None))
    assert (drawn.x, drawn.y, drawn.every, drawn.points) == ((0.0, 1.0), (5.0, None), None, 2)


def test_a_peak_of_one_sample_among_thirty_thousand_stays() -> None:
    y = [3.0] * 30_000
    y[12_345], y[20_000] = 14.8, 0.2
    drawn = decimate([i / 50 for i in range(30_000)], y)
    assert len(drawn.x) <= 2100
    assert (drawn.x[drawn.y.index(14.8)], drawn.x[drawn.y.index(0.2)]) == (12_345 / 50, 400.0)
    assert drawn.every == pytest.approx(0.6)
    assert drawn.points == 30_000


@given(values, st.integers(4, 40))
def test_extremes_ends_and_gaps_stay(y: list[float | None], most: int) -> None:
    x = [float(place) for place in range(len(y))]
    drawn = decimate(x, y, most)
    known = [one for one in y if one is not None]
    shown = [one for one in drawn.y if one is not None]
    if known:
        assert (min(shown), max(shown)) == (min(known), max(known))
    assert (None in drawn.y) == (None in y)
    assert (drawn.x[0], drawn.x[-1]) == (x[0], x[-1])
    assert list(drawn.x) == sorted(set(drawn.x))
    assert all(y[int(at)] == value for at, value in zip(drawn.x, drawn.y, strict=True))
    assert len(drawn.x) <= max(most, 1.5 * most + 4)


def test_no_line_leads_over_a_gap() -> None:
    y: list[float | None] = [1.0] * 1000
    y[400:600] = [None] * 200
    drawn = decimate([float(i) for i in range(1000)], y, 40)
    inside = [value for at, value in zip(drawn.x, drawn.y, strict=True) if 400 <= at < 600]
    assert inside
    assert set(inside) == {None}
