"""A line from the sum of the rails to the board: fitted, kept and read back."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import SinkError, UsageError
from edge_sdk.sensors.pmic_fit import PUBLISHED, Fit, chosen, fit_line, load, save

WATTS = st.floats(0.5, 15)


@given(st.floats(0.8, 1.5), st.floats(0, 3), st.lists(WATTS, min_size=3, max_size=20))
def test_points_on_a_line_give_that_line(slope: float, intercept_w: float, sums: list[float]) -> None:
    pairs = [(sum_w, slope * sum_w + intercept_w) for sum_w in sums]
    if max(sums) - min(sums) < 1:
        with pytest.raises(UsageError, match="of each other"):
            fit_line(pairs)
        return
    fit = fit_line(pairs)
    assert (fit.slope, fit.intercept_w) == pytest.approx((slope, intercept_w), abs=1e-6)
    assert fit.points == len(sums)
    assert fit.rms_w == pytest.approx(0, abs=1e-6)


def test_what_the_meter_strays_by_is_the_rms() -> None:
    fit = fit_line([(2.0, 3.1), (4.0, 4.9), (6.0, 7.1), (8.0, 8.9)])
    assert (fit.slope, fit.intercept_w) == pytest.approx((0.98, 1.1))
    stray = np.array([3.1, 4.9, 7.1, 8.9]) - 0.98 * np.array([2.0, 4.0, 6.0, 8.0]) - 1.1
    assert fit.rms_w == pytest.approx(np.sqrt(np.mean(stray**2)))
    assert fit.power_w(5.0) == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([(2.0, 3.0), (4.0, 5.0)], "at least 3 points, not 2"),
        ([(2.0, 3.0), (2.3, 3.2), (2.9, 4.0)], r"within 0.90 W of each other: measure loads that differ by 1 W"),
        ([(2.0, 3.0), (4.0, float("nan")), (6.0, 7.0)], "must be from 0 to 100 W"),
        ([(2.0, 3.0), (4.0, -5.0), (6.0, 7.0)], "must be from 0 to 100 W"),
        ([(2.0, 7.0), (4.0, 5.0), (6.0, 3.0)], "is it before this board"),
    ],
)
def test_points_that_make_no_line_are_refused(pairs: list[tuple[float, float]], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        fit_line(pairs)


@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=6))
def test_any_points_give_a_fit_or_a_usage_error(pairs: list[tuple[float, float]]) -> None:
    with suppress(UsageError):
        assert fit_line(pairs).slope > 0


@pytest.mark.parametrize("fit", [PUBLISHED, Fit(1.2, -0.3, 7, 0.05)])
def test_a_saved_fit_is_read_back(tmp_path: Path, fit: Fit) -> None:
    save(fit, tmp_path / "fit.json")
    assert load(tmp_path / "fit.json") == fit
    assert chosen(str(tmp_path / "fit.json")) == fit
    assert [path.name for path in tmp_path.iterdir()] == ["fit.json"]


def test_a_fit_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot be written"):
        save(PUBLISHED, tmp_path / "nowhere/fit.json")


GOOD = {"schema": "edge-sdk/pmic-fit/1", "slope": 1.2, "intercept_w": 0.5, "points": 5, "rms_w": 0.1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("[" * 50_000, "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        ("[]", r"no calibration .*edge-sdk/pmic-fit/1"),
        (json.dumps(GOOD | {"schema": "edge-sdk/pmic-fit/2"}), "no calibration"),
        (json.dumps(GOOD | {"slope": "1.2"}), "must be numbers"),
        (json.dumps(GOOD | {"slope": True}), "must be numbers"),
        (json.dumps(GOOD | {"slope": -1}), "slope must be above 0"),
        (json.dumps(GOOD | {"intercept_w": float("nan")}), "finite"),
        (json.dumps(GOOD | {"intercept_w": 10**400}), "too large"),
        (json.dumps(GOOD | {"rms_w": float("inf")}), "finite"),
        (json.dumps(GOOD | {"points": 2.5}), "whole number"),
        (json.dumps(GOOD | {"points": -1}), "cannot be negative"),
        (json.dumps({"schema": GOOD["schema"]}), "whole number"),
    ],
)
def test_a_file_that_is_no_fit_is_refused_by_name(tmp_path: Path, text: str | bytes, reason: str) -> None:
    path = tmp_path / "fit.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=reason) as refused:
        load(path)
    assert "fit.json" in str(refused.value)


def test_a_missing_file_a_folder_and_a_pipe_are_no_fit(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "pipe"):
        with pytest.raises(UsageError, match="no such file"):
            load(path)


@given(st.binary(max_size=300))
def test_a_file_of_any_bytes_gives_a_fit_or_a_usage_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-fit.json"
    path.write_bytes(raw)
    with pytest.raises(UsageError):
        load(path)


def test_an_option_names_the_published_fit_or_gives_the_line() -> None:
    assert chosen("published") is PUBLISHED
    assert chosen("1.15,0.6") == Fit(1.15, 0.6)
    assert chosen(" 1 , -0.25 ") == Fit(1.0, -0.25)
    assert "how well it fits is not known" in chosen("1.15,0.6").missing


@given(st.text(max_size=40))
def test_any_option_gives_a_fit_or_a_usage_error(option: str) -> None:
    with suppress(UsageError):
        assert chosen(option).slope > 0
