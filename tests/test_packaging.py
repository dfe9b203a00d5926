"""What is shipped: the wheel, used outside the clone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def build(kind: str, folder: Path, source: Path = ROOT) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
        cwd=source, check=True, capture_output=True,
    )  # fmt: skip
    (built,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel: pip install 'edge-sdk[test]'")
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory):
    """Runs the command from the unpacked wheel, in a folder that is not the clone."""
    unpacked, elsewhere = tmp_path_factory.mktemp("unpacked"), tmp_path_factory.mktemp("elsewhere")
    zipfile.ZipFile(wheel).extractall(unpacked)

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        code = (
            "import sys, edge_sdk; from edge_sdk.cli import main; "
            f"assert edge_sdk.__file__.startswith({str(unpacked)!r}), edge_sdk.__file__; main(sys.argv[1:])"
        )
        environment = {**os.environ, "PYTHONPATH": str(unpacked)}
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, words)],
            cwd=elsewhere, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip

    return run


def test_the_wheel_holds_the_package_its_tables_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"edge_sdk", "edge_sdk-0.1.0.dist-info"}
    for needed in (
        "edge_sdk/py.typed",
        "edge_sdk/models/zoo.toml",
        "edge_sdk/targets/jetson/boards.toml",
        "edge_sdk/targets/raspberry_pi/boards.toml",
        "edge_sdk/targets/snapdragon/boards.toml",
        "edge_sdk/targets/generic/boards.toml",
        "edge_sdk/plan.schema.json",
        "edge_sdk/models/default/gelan_nano.onnx",
        "edge_sdk/models/default/gelan_nano.tflite",
        "edge_sdk/calibration/__init__.py",
        "edge_sdk/calibration/calibration.schema.json",
        "edge_sdk/calibration/cost_table.json",
        "edge_sdk/calibration/repairs/weight_rounding.py",
        "edge_sdk/calibration/rewrites/silu.py",
    ):
        assert needed in names


def test_a_wheel_built_from_the_sdist_is_the_same(wheel: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(build("sdist", tmp_path), tmp_path)
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    again = build("wheel", tmp_path / "again", source)
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_devices_runs_from_the_wheel(installed) -> None:
    facts = json.loads(installed("devices", "--json").stdout)
    assert facts["target"]["name"]
    assert {backend["name"] for backend in facts["backends"]} == {"onnxruntime", "tflite"}


def test_models_list_runs_from_the_wheel(installed) -> None:
    assert "nanodet-m" in installed("models", "list").stdout


def test_the_demo_runs_from_the_wheel(installed, tmp_path: Path) -> None:
    clip = tmp_path / "demo.mp4"
    totals = json.loads(installed("demo", "--seconds", 1, "--save", clip, "--json").stdout)
    assert totals["model"] == "gelan_nano.onnx"
    assert totals["seen_in_frames"]["person"] == totals["processed"] > 0
    assert clip.stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_the_wheel_installs_and_runs_in_a_clean_environment(wheel: Path, version: str, tmp_path: Path) -> None:
    """With nothing but pip: on Python 3.10 that brings ONNX Runtime 1.23, as on JetPack 6."""
    python = _python(version)
    subprocess.run([python, "-m", "venv", str(tmp_path / "env")], check=True)
    scripts = tmp_path / "env/bin"
    subprocess.run([scripts / "pip", "install", "-q", f"{wheel}[onnxruntime,demo]"], check=True)
    command = [scripts / "edge-sdk", "demo", "--seconds", "1", "--save", "demo.mp4", "--json"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    totals = json.loads(ran.stdout)
    assert totals["seen_in_frames"]["person"] == totals["processed"] > 0


def _python(version: str) -> str:
    """An interpreter of this version: on PATH, or beside the others that pyenv keeps."""
    kept = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python"))
    found = str(kept[-1]) if kept else shutil.which(f"python{version}")
    if found is None:
        pytest.skip(f"no Python {version} on this machine")
    return found
