"""Temperatures of captured boards, and of zones that are gated, absurd, twice there or renumbered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.conditions.thermal import celsius, temperatures
from edge_sdk.sensors.base import Absent

MakeTree = Callable[[Mapping[str, Any]], Path]


def read(root: Path) -> dict[str, float | str | None]:
    """By name: the value, or the reason."""
    readings = [probe.read(0) for probe in temperatures(root)]
    assert all((reading.value is None) != (reading.reason is None) for reading in readings)
    assert {reading.unit for reading in readings} <= {"c"}
    return {one.name: one.reason if one.value is None else one.value for one in readings}


def test_a_gated_zone_of_an_orin_has_no_value_and_says_so(captured_board: Callable[[str], Path]) -> None:
    assert read(captured_board("orin_nano_super_jp6")) == {
        "cpu-thermal": 51.187,
        "gpu-thermal": 50.218,
        "cv0-thermal": "temp: power-gated or busy (EAGAIN)",
    }


def test_the_gpu_of_a_thor_is_gated_and_the_others_are_read(captured_board: Callable[[str], Path]) -> None:
    assert read(captured_board("agx_thor")) == {
        "cpu-thermal": 53.7,
        "gpu-thermal": "temp: power-gated or busy (EAGAIN)",
        "soc012-thermal": 55.1,
        "soc345-thermal": 53.7,
        "tj-thermal": 55.1,
    }


def test_a_raspberry_pi_has_its_zone_once_and_not_again_by_hwmon(captured_board: Callable[[str], Path]) -> None:
    assert read(captured_board("rpi5")) == {"cpu-thermal": 48.312}


def test_hwmon_stands_in_where_no_zone_is_a_processors(make_tree: MakeTree) -> None:
    chips = {
        "sys/class/hwmon/hwmon0/name": "nvme\n",
        "sys/class/hwmon/hwmon0/temp1_input": "30000\n",
        "sys/class/hwmon/hwmon1/name": "k10temp\n",
        "sys/class/hwmon/hwmon1/temp1_label": "Tctl\n",
        "sys/class/hwmon/hwmon1/temp1_input": "61250\n",
        "sys/class/hwmon/hwmon2/name": "cpu_thermal\n",
        "sys/class/hwmon/hwmon2/temp1_input": "48312\n",
    }
    zone = {"sys/class/thermal/thermal_zone0/type": "acpitz\n", "sys/class/thermal/thermal_zone0/temp": "16800\n"}
    assert read(make_tree({**chips, **zone})) == {"acpitz": 16.8, "k10temp Tctl": 61.25, "cpu_thermal": 48.312}
    package = {**zone, "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n"}
    assert read(make_tree({**chips, **package})) == {"x86_pkg_temp": 16.8}


def test_zones_are_in_the_order_of_their_numbers_and_named_by_type(make_tree: MakeTree) -> None:
    zones = {10: ("acpitz", "30000"), 2: ("acpitz", "20000"), 0: ("cpu-thermal", "50000"), 11: ("", "40000")}
    files = {}
    for number, (kind, temp) in zones.items():
        files[f"sys/class/thermal/thermal_zone{number}/type"] = kind
        files[f"sys/class/thermal/thermal_zone{number}/temp"] = temp
    found = read(make_tree(files))
    assert list(found.items()) == [
        ("cpu-thermal", 50.0), ("acpitz", 20.0), ("acpitz-2", 30.0), ("thermal_zone11", 40.0),
    ]  # fmt: skip


def test_a_machine_without_any_has_none(tmp_path: Path) -> None:
    assert temperatures(tmp_path) == ()
    assert temperatures(tmp_path / "nowhere") == ()


@pytest.mark.parametrize(("text", "reason"), [
    ("-256000", "switched off (it gives -256000)"),
    ("-61000", "no temperature: -61 C"),
    ("200001", "no temperature: 200.001 C"),
    ("127000000", "no temperature: 127000 C"),
    ("", "no number in it: ''"),
    ("nan", "no number in it: 'nan'"),
    ("45.5", "no number in it: '45.5'"),
])  # fmt: skip
def test_what_can_be_no_temperature_is_none(text: str, reason: str) -> None:
    assert celsius(text) == Absent(reason)


@given(st.text())
def test_no_text_breaks_a_temperature(text: str) -> None:
    value = celsius(text)
    assert isinstance(value, Absent) or -60 <= value <= 200


@given(st.integers(-60_000, 200_000))
def test_every_plausible_temperature_is_read(millidegrees: int) -> None:
    assert celsius(f"{millidegrees}\n") == millidegrees / 1000
