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
