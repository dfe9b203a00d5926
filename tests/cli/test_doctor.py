"""``edge-sdk doctor``: checks, and how to mend what is not right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk import checks

# Makes imports of some packages fail as if they were not installed.
HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.split(".")[0] in {names!r} else real(name, package)
from edge_sdk.cli import main
main(sys.argv[1:])
"""


def without(names: set[str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(names=names), *words], capture_output=True, text=True, check=False
    )


def test_this_machine_is_ready(edge_sdk_command) -> None:
    report = edge_sdk_command("doctor", "--json").json
    assert report["ready"] is True
    assert {"python", "board", "opencv", "onnxruntime"} <= {check["name"] for check in report["checks"]}


def test_no_engine_at_all_is_bad_and_says_what_to_install() -> None:
    ran = without({"onnxruntime", "ai_edge_litert", "tflite_runtime"}, "doctor")
    assert ran.returncode == 1
    assert "BAD" in ran.stdout
    assert "pip install 'edge-sdk[onnxruntime]'" in ran.stdout


@pytest.mark.parametrize(
    ("package", "words", "extra"),
    [
        ("onnxruntime", ["detect", "demo", "--model", "{yolox}"], "onnxruntime"),
        ("matplotlib", ["detect", "demo", "--model", "{yolox}"], "demo"),
        ("pycocotools", ["evaluate", "{yolox}", "--data", "{data}"], "evaluate"),
    ],
)
def test_an_extra_that_is_not_installed_is_one_line_with_the_command(
    package: str, words: list[str], extra: str, yolox: Path, shared: Path
) -> None:
    ran = without({package}, *(word.format(yolox=yolox, data=shared / "data/coco_eval") for word in words))
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1
    assert f"pip install 'edge-sdk[{extra}]'" in ran.stderr


def test_a_raspberry_pi_without_picamera2_is_told_about_system_site_packages(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/compatible").write_bytes(b"raspberrypi,5-model-b\0brcm,bcm2712\0")
    monkeypatch.setenv("EDGE_SDK_ROOT", str(tmp_path))
    (check,) = (check for check in checks.run() if check.name == "picamera2")
    assert check.state == "note"
    assert "--system-site-packages" in (check.mend or "")


def test_power_is_shown_as_it_is_read(jetson: Path) -> None:
    (check,) = (check for check in checks.run() if check.name == "power")
    assert (check.state, check.found, check.mend) == ("ok", "4.79 W (sensor_total)", None)


def test_power_that_cannot_be_read_is_a_note_with_what_to_do(no_sensor: Path) -> None:
    (check,) = (check for check in checks.run() if check.name == "power")
    assert check.state == "note"
    assert check.found.startswith("not measured: no energy counter")
    assert "--sensor" in (check.mend or "")


def test_a_check_that_breaks_is_reported_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_SDK_TARGET", "no-such-board")
    found = {check.name: check for check in checks.run()}
    assert found["board"].state == "bad"
    assert "opencv" in found


def test_a_system_without_opencvs_libraries_is_told_which(tmp_path: Path) -> None:
    """A minimal Raspberry Pi OS: `import cv2` ends with libGL.so.1 missing."""
    (tmp_path / "cv2").mkdir()
    text = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "cv2/__init__.py").write_text(f"raise ImportError({text!r})")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for words, where in ((["doctor"], "stdout"), (["devices"], "stderr"), (["detect", "demo"], "stderr")):
        ran = subprocess.run(
            [sys.executable, "-m", "edge_sdk", *words], capture_output=True, text=True, check=False, env=environment
        )
        assert ran.returncode == 1
        assert "sudo apt install libgl1 libglib2.0-0" in getattr(ran, where)
        assert "internal error" not in ran.stderr
