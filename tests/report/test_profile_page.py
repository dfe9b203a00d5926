"""The pages of profiles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.errors import UsageError
from edge_sdk.measure.record import ChannelTrack
from edge_sdk.measure.trace import Trace
from edge_sdk.report.comparison_page import comparison_page
from edge_sdk.report.page import Page
from edge_sdk.report.profile_page import power_plot, profile_page, total_line
from edge_sdk.report.ring_page import ring_page
from edge_sdk.sensors.base import Channel

from .profiles import make_profile
from .strategies import profiles
from .test_page import Outline

pytest.importorskip("plotly", reason="plotly is not installed")


def text(page: Page) -> str:
    """What a reader sees, without the plots."""
    return " ".join(" ".join(Outline(page.html()).texts).split())


def labels(page: Page) -> list[str]:
    """What the plots say they show."""
    return [str(one["aria-label"]) for one in Outline(page.html()).attributes("div") if "data-plot" in one]


def test_a_page_says_what_the_run_is_worth_with_method_and_intervals() -> None:
    said = text(profile_page(make_profile()))
    for part in (
        "yolox_nano.onnx on Jetson Orin Nano, power mode 25W", "Run by CUDAExecutionProvider",
        "OK. The run stands: 3 repeats, none of them disturbed.",
        "net energy per inference 63.2 mJ 60.7 to 65.7; sensor_total",
        "gross energy per inference 145.1 mJ 142.9 to 147.4; sensor_total", "power at idle 3.500 W 3.480 to 3.520",
        "sensor_total (measured: all that the board can measure of its supply)",
        "covers module and carrier, measured at VDD_IN", "missing losses of the supply",
        "The noise of the net energy is 1.26 mJ", "work 3", "p90 at most 24.3 ms, with 99 % confidence",
        "open the model 812 ms", "first detection 63.2 ms", "warm-up steady after 14 detections, in 0.610 s",
        "49 layers as the engine ran them", "/backbone/dark1/conv0/Conv", "ina3221 1-0040 20.0 19.6 13.0 1,680",
        "load average 0.12 before the run", "memory MiB 7620", "emc MHz not known", "clocks pinned no",
        "How to read this", "Net energy is gross energy less the power at idle",
    ):  # fmt: skip
        assert part in said, part


def test_the_plots_of_a_page_say_what_they_show() -> None:
    said = labels(profile_page(make_profile()))
    assert said[0].startswith(
        "Power in watts over time, 84.0 s: VDD_IN (sensor_total), VDD_CPU_GPU_CV (sensor_partial)"
    )
    assert said[1].startswith("Histogram of the latency of 1,280 queries: p50 23.5 ms, p90 24.1 ms, p99 25.1 ms")
    assert said[2].startswith("Cumulative distribution of latency")
    assert said[3].startswith("A detection by stage: preprocess 2.37 ms, infer 19.4 ms, decode 1.66 ms")
    assert said[4] == "temperatures, clocks and load over time; 0 throttled stretches."


def test_a_rejected_run_shows_its_reasons_and_no_energy() -> None:
    page = profile_page(make_profile("rejected"))
    said = text(page)
    assert "Rejected. This run gives no energy; its latency stands. the board throttled: gpu-throttle-alert" in said
    assert "net energy per inference - rejected gross energy per inference - rejected" in said
    assert "gpu-throttle-alert, from 20.00 s to 25.50 s" in said
    assert "mJ" not in said.partition("How to read this")[0]
    assert "2 throttled stretches" in labels(page)[4]


def test_a_run_without_a_sensor_has_latency_alone_and_says_why() -> None:
    page = profile_page(make_profile("no_sensor"))
    said = text(page)
    assert "Warning. Latency only: no power was measured. because: Raspberry Pi 4 has no sensor" in said
    assert "energy per inference - no power was measured" in said
    assert "No times of layers: tflite tells no layers of a delegate." in said
    assert not any("watts" in label for label in labels(page))


def test_an_estimate_is_called_one_wherever_it_stands() -> None:
    said = text(profile_page(make_profile("estimate")))
    assert "the watts are modelled, not measured; the interval does not hold that error" in said
    assert "net energy per inference - refused, see above" in said
    assert "; estimate" in said
    assert "board (estimate)" in labels(profile_page(make_profile("estimate")))[0]


def test_what_gave_no_value_is_named_with_its_reason() -> None:
    page = profile_page(make_profile("absent"))
    said = text(page)
    assert "ina3221 1-0040, VDD_CPU_GPU_CV: the channel is disabled" in said
    assert "gpu-thermal: gated: read as -256000" in said
    assert "VDD_CPU_GPU_CV" not in labels(page)[0]


def test_long_traces_are_thinned_and_the_page_says_so() -> None:
    page = profile_page(make_profile("long"))
    assert "Drawn of 29,610 samples: the lowest and the highest of every 0.60 s." in text(page)
    data = next(script for attributes, script in Outline(page.html()).scripts if attributes.get("id") == "plot-1")
    assert "14.8" in data
    assert len(data) < 200_000


def test_the_total_is_the_sum_of_its_channels_and_is_gone_where_one_is() -> None:
    def track(name: str, watts: tuple[float | None, ...], **more: Any) -> ChannelTrack:
        return ChannelTrack("chip", name, more.get("in_total", True), "sensor_total", (0.0, 1.0, 2.0), watts)

    parts = (track("A", (1.0, 2.0, 3.0)), track("B", (1.0, None, 1.0)), track("C", (9.0, 9.0, 9.0), in_total=False))
    total = total_line(parts)
    assert total is not None
    assert (total.name, total.y, total.main) == ("total (sensor_total)", (2.0, None, 4.0), True)
    plot = power_plot(parts, (), 2.0)
    assert plot is not None
    assert [one["name"] for one in plot.figure["data"]] == [
        "total (sensor_total)", "A (sensor_total)", "B (sensor_total)", "C (sensor_total)",
    ]  # fmt: skip
    assert total_line((replace(parts[0], at_s=(0.0, 1.5, 2.0)), parts[1])) is None
    assert total_line(parts[2:]) is None
    assert power_plot((track("A", (None, None, None)),), (), 2.0) is None


@given(profiles)
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_any_profile_has_a_page(profile: Any) -> None:
    Outline(profile_page(profile).html())


@given(st.lists(profiles, min_size=1, max_size=2))
@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_profiles_have_a_page_together(runs: list[Any]) -> None:
    Outline(comparison_page(runs).html())


def test_runs_side_by_side_have_ratios_and_a_front() -> None:
    runs = [make_profile(p50_ms=30.0), make_profile(p50_ms=15.0, work_w=5.9)]
    runs = [replace(one, model={**one.model, "name": name}) for one, name in zip(runs, ("fp32", "int8"), strict=True)]
    page = comparison_page(runs)
    said = text(page)
    assert "2 runs compared Ratios are to the first, fp32; below 1 is less than it. OK. Board, power mode" in said
    assert "× 0.476 (0.465 to 0.486)" in said
    assert "On the front, from the fastest to the most frugal: int8." in said
    bars, _, front, distributions = labels(page)
    assert bars.startswith("Energy per inference of each run. fp32: net energy 81.0 (77.8 to 84.2) mJ")
    assert front == "Gross energy against median latency. On the front: int8."
    assert distributions == "Cumulative distributions of latency of fp32 and int8."


def test_runs_that_cannot_be_compared_say_so_and_have_no_ratio() -> None:
    page = comparison_page([make_profile(), make_profile("estimate"), make_profile("no_sensor")])
    said = text(page)
    assert "Not comparable. Energies and watts of these runs: their ratios are left out." in said
    assert "the watts came about differently: sensor_total vs estimate" in said
    assert "Not comparable. As models alone" in said
    assert "board: jetson-orin-nano vs raspberry-pi-4" in said
    assert "no power was measured" in said
    assert "front" not in said
    with pytest.raises(UsageError, match="there is no profile to compare"):
        comparison_page([])


def ring_traces() -> tuple[Trace, ...]:
    channel = Channel("VDD_IN", "power", "sensor_total", in_total=True)
    package = Channel("package-0", "energy", "counter", in_total=False)
    at_ns = np.arange(5, dtype=np.int64) * 1_000_000_000 + 77
    return (
        Trace("ina3221", (channel,), 0.01, at_ns, np.array([[3.0], [4.0], [np.nan], [4.0], [5.0]])),
        Trace("rapl", (package,), 0.001, at_ns, np.array([[10.0], [12.0], [14.0], [16.0], [18.0]])),
    )


def test_what_is_left_of_an_interrupted_run_is_samples_and_no_result() -> None:
    said = text(ring_page("run.ring", ring_traces()))
    assert "Warning. An interrupted run: samples only." in said
    assert "ina3221 VDD_IN sensor_total 4 4.00 4.00 5.00" in said
    assert "rapl package-0 counter 4 3.00 2.00 2.00" in said
    assert "mJ" not in said
    assert "No channel has a value." in text(ring_page("run.ring", ()))
