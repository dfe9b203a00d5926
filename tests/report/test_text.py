"""Profiles in the terminal."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.report import text
from edge_sdk.report.compare import compare

from .profiles import make_profile
from .strategies import profiles


def test_a_summary_says_what_was_measured_and_what_it_is_worth() -> None:
    lines = text.summary(make_profile()).splitlines()
    assert lines[0] == "yolox_nano.onnx on Jetson Orin Nano, power mode 25W, CUDAExecutionProvider"
    assert lines[1] == "ok: The run stands: 3 repeats, none of them disturbed."
    assert "  latency    p50 23.5 ms, p90 24.1 ms, p99 25.1 ms, over 1,280 queries in 30.3 s" in lines
    assert "  energy     net 63.2 mJ (60.7 to 65.7) per inference, gross 145.1 mJ (142.9 to 147.4)" in lines
    assert "  method     sensor_total (measured: all that the board can measure of its supply)" in lines
    assert "  missing    losses of the supply" in lines
    assert sum("/backbone/" in line for line in lines) == 5
    assert all(line == line.rstrip() for line in lines)


def test_a_rejected_run_gives_its_reasons_and_no_energy() -> None:
    said = text.summary(make_profile("rejected"))
    assert (
        "REJECTED: This run gives no energy; its latency stands.\n  - the board throttled: gpu-throttle-alert" in said
    )
    assert "no energy: the run is rejected" in said
    assert "mJ" not in said


def test_without_a_sensor_there_is_no_figure_of_power() -> None:
    said = text.summary(make_profile("no_sensor"))
    assert "warning: Latency only: no power was measured.\n  - because: Raspberry Pi 4" in said
    assert " W" not in said.replace("no power was measured", "")
    assert "mJ" not in said


@given(profiles)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_no_profile_steers_the_terminal(profile) -> None:
    said = text.summary(profile)
    assert not any(ord(one) < 32 and one != "\n" for one in said)
    said.encode()


@given(st.lists(profiles, min_size=2, max_size=2))
@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_no_profiles_steer_it_together(runs) -> None:
    said = text.comparison(compare(runs))
    assert not any(ord(one) < 32 and one != "\n" for one in said)


def test_runs_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    runs = [make_profile(), make_profile("rejected", p50_ms=12.0), make_profile("estimate")]
    said = text.comparison(compare(runs))
    assert "yolox_nano.onnx (1)" in said
    assert "x 0.5128 (0.5121 to 0.5136)" in said
    assert "- (rejected)" in said
    assert "not comparable: the watts came about differently: sensor_total vs estimate" in said
    assert "front" not in said
    assert max(map(len, said.splitlines())) <= 150


def test_a_name_in_brackets_is_no_markup() -> None:
    run = make_profile(model={"name": "[red]model[/red]"})
    assert "[red]model[/red] (1)" in text.comparison(compare([run, run]))
