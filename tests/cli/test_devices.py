"""``edge-sdk devices`` on this machine and on captured ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def raspberry_pi(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Raspberry Pi 5's /proc and /sys, as captured."""
    tree = json.loads((shared / "fixtures/sysfs_trees.json").read_text())["rpi5"]
    for name, content in tree["files"].items():
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.setenv("EDGE_SDK_ROOT", str(tmp_path))
    return tmp_path


def test_a_captured_raspberry_pi_is_recognised(edge_sdk_command, raspberry_pi: Path) -> None:
    facts = edge_sdk_command("devices", "--json").json
    assert facts["target"]["name"] == "raspberry-pi-5"
    assert facts["target"]["model"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert {rail["driver"] for rail in facts["power_rails"]} == {"pmic"}


def test_people_read_backends_and_why_the_board_is_what_it_is(edge_sdk_command, raspberry_pi: Path) -> None:
    out = edge_sdk_command("devices").out
    assert out.startswith("Raspberry Pi 5")
    assert "compatible" in out
    assert "onnxruntime" in out


def test_power_is_read_with_its_method(edge_sdk_command, jetson: Path) -> None:
    power = edge_sdk_command("devices", "--json").json["power"]
    assert power["total"] == {"name": "board", "value_w": 4.785, "method": "sensor_total", "reason": None}
    rails = {one["name"]: one for sensor in power["sensors"] for one in sensor["channels"]}
    assert rails["VDD_IN"]["in_total"] is True
    assert rails["VDD_SOC"]["in_total"] is False
    assert rails["VDD_SOC"]["value_w"] == pytest.approx(1.513)
    out = edge_sdk_command("devices").out
    assert "Power: 4.785 W (sensor_total)" in out
    assert "it covers: the module's input" in out
    assert "VDD_SOC            ina3221, not in the total: 1.513 W (sensor_partial)" in out


def test_a_power_counter_is_a_power_from_the_second_read_on(
    edge_sdk_command, captured_board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_SDK_ROOT", str(captured_board("x86_rapl")))
    monkeypatch.setenv("EDGE_SDK_TARGET", "generic-x86_64")
    total = edge_sdk_command("devices", "--json").json["power"]["total"]
    assert (total["value_w"], total["method"]) == (0.0, "counter")  # the captured counter stands still


def test_a_sensor_that_gives_nothing_says_why_once(edge_sdk_command, no_sensor: Path) -> None:
    power = edge_sdk_command("devices", "--json").json["power"]
    assert power["total"]["value_w"] is None
    assert "there is no intel-rapl in /sys/class/powercap" in power["total"]["reason"]
    out = edge_sdk_command("devices").out
    assert "Power: not measured: no energy counter" in out
    assert "    rapl gives nothing (package)" in out
    assert out.count("there is no intel-rapl") == 1


def test_it_says_how_sensors_are_named(edge_sdk_command, no_sensor: Path) -> None:
    out = edge_sdk_command("devices").out
    assert "Sensors by name, for --sensor" in out
    assert "shelly:HOST" in out


def test_a_model_that_fits(yolox: Path) -> None:
    """In a process of its own: in this one the engine's memory is long allocated."""
    command = [sys.executable, "-m", "edge_sdk", "devices", "--fits", yolox, "--json"]
    fit = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["fits"]
    assert fit["fits"] is True
    assert fit["head"] == "yolox"
    assert fit["layer_precisions"] == ["fp32"]
    assert fit["resident_mib"] > 0


def test_a_float_model_on_an_integer_accelerator_is_warned_about(
    edge_sdk_command, yolox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_SDK_TARGET", "qcs6490-rb3gen2")
    out = edge_sdk_command("devices", "--fits", yolox).out
    assert "fp32 is not native to qnn on qcs6490-rb3gen2" in out
    assert "it ran on this machine, not on that board" in out


def test_an_unknown_target_is_refused(edge_sdk_command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_SDK_TARGET", "raspberry-pie-5")
    ran = edge_sdk_command("devices")
    assert ran.code == 1
    assert "raspberry-pi-5" in ran.err


def test_every_board_is_listed_when_asked(edge_sdk_command) -> None:
    boards = {one["name"] for one in edge_sdk_command("devices", "--boards", "--json").json}
    assert {"jetson-orin-nano", "raspberry-pi-5", "qcs6490-rb3gen2", "generic-x86_64"} <= boards
    assert "raspberry-pi-5" in edge_sdk_command("devices", "--boards").out
