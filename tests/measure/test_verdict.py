"""The interval's arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.measure.verdict import student


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.706), (2, 4.303), (2.9, 4.303), (10, 2.228), (30, 2.042), (60, 2.000), (120, 1.980)],
)
def test_students_quantile_is_that_of_the_tables(freedom, quantile):
    assert student(freedom) == pytest.approx(quantile, abs=0.003)


def test_of_endless_freedom_it_is_the_normal_one():
    assert student(float("inf")) == pytest.approx(1.96)


@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_more_freedom_is_never_a_wider_interval(one, other):
    assert student(max(one, other)) <= student(min(one, other))
