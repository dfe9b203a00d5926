"""The third walk: a rail in a board's table is read, sampled, integrated and reported."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge_sdk
from edge_sdk.measure.clock import SystemClock
from edge_sdk.report.profile_page import profile_page
from edge_sdk.report.read import read_profile, write_profile
from edge_sdk.report.text import summary
from edge_sdk.testing.simulated_board import Load, SimulatedBoard


def test_a_rail_of_the_table_becomes_a_figure_with_its_method_on_a_page(
    yolox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("plotly", reason="pip install 'edge-sdk[report]'")
    root = tmp_path / "root"
    root.mkdir()
    with SimulatedBoard(root, SystemClock(), "jetson-agx-thor", Load(idle_w=20.0)) as board:
        monkeypatch.setenv("EDGE_SDK_ROOT", str(root))
        rail = next(one for one in board.target.rails if one.in_total)

        with edge_sdk.PowerMeter() as meter:
            board.clock.sleep(1.0)
        recipe = edge_sdk.Recipe(settle_s=0.1, idle_s=1.0, work_s=1.0, repeats=2)
        found = edge_sdk.profile(yolox, recipe=recipe, backend="onnxruntime")

    assert (rail.name, rail.driver) == ("VIN", "ina238")
    assert meter.mean_w == pytest.approx(20.0, rel=0.05)
    (channel,) = (one for one in found.channels if one.in_total)
    assert channel.name == "VIN"
    assert found.energy is not None
    assert found.energy.method == "sensor_total"
    assert found.energy.idle_w is not None
    assert found.energy.idle_w.value == pytest.approx(20.0, rel=0.05)

    write_profile(found, tmp_path / "profile.json")
    again = read_profile(tmp_path / "profile.json")
    page = profile_page(again).html()
    assert again == found
    assert "VIN (sensor_total)" in page
    assert "the power supply" in page or "whole board" in page  # what the watts cover
    assert "gross" in summary(again)
