"""A machine without an engine says so in one line, with the command that brings it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Hides packages as if they were not installed, or breaks their import as a missing system library does.
CODE = """
import importlib.abc, importlib.machinery, json, sys
from pathlib import Path

hidden, broken, model = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in broken:
            return importlib.machinery.ModuleSpec(name, Fail())

class Fail(importlib.abc.Loader):
    def create_module(self, spec): return None
    def exec_module(self, module):
        if broken[module.__name__] == "empty":
            return
        raise ImportError(broken[module.__name__])

sys.meta_path.insert(0, Hide())
from edge_sdk.backends.base import backends
from edge_sdk.detector import Detector
from edge_sdk.errors import BackendError
said = {}
for name, backend in backends().items():
    said[name] = [backend.missing(), backend.version()]
try:
    Detector(model).close()
    said["opened"] = True
except BackendError as error:
    said["error"] = str(error)
print(json.dumps(said))
"""


def machine(model: Path, *hidden: str, **broken: str) -> dict[str, Any]:
    words = [sys.executable, "-c", CODE, json.dumps(hidden), json.dumps(broken), str(model)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture
def onnx_model(shared: Path) -> Path:
    return shared / "models" / "yolox_nano" / "yolox_nano.onnx"


@pytest.fixture
def tflite_model(shared: Path) -> Path:
    return shared / "models" / "yolox_nano" / "yolox_nano_float16_quantize.tflite"


def test_without_onnxruntime(onnx_model: Path) -> None:
    said = machine(onnx_model, "onnxruntime")
    hint = "onnxruntime is not installed: pip install 'edge-sdk[onnxruntime]'"
    assert said["onnxruntime"] == [hint, None]
    assert said["error"] == f"yolox_nano.onnx: no usable backend on this machine; onnxruntime: {hint}"


def test_without_any_tflite(tflite_model: Path) -> None:
    said = machine(tflite_model, "ai_edge_litert", "tflite_runtime")
    hint = "neither ai-edge-litert nor tflite-runtime is installed: pip install 'edge-sdk[litert]'"
    assert said["tflite"] == [hint, None]
    assert said["error"].endswith(f"tflite: {hint}")


def test_an_engine_that_cannot_be_imported_says_why(onnx_model: Path) -> None:
    said = machine(onnx_model, onnxruntime="libgomp.so.1: cannot open shared object file")
    lack = "onnxruntime cannot be imported (libgomp.so.1: cannot open shared object file)"
    assert said["onnxruntime"] == [f"{lack}: pip install 'edge-sdk[onnxruntime]'", None]
    assert "libgomp.so.1" in said["error"]


def test_what_uninstalling_one_of_two_builds_leaves(onnx_model: Path) -> None:
    said = machine(onnx_model, onnxruntime="empty")
    assert "pip uninstall onnxruntime onnxruntime-gpu, then install one" in said["onnxruntime"][0]


def test_a_litert_that_cannot_be_imported_says_why(tflite_model: Path) -> None:
    said = machine(tflite_model, "tflite_runtime", ai_edge_litert="GLIBC_2.34 not found")
    assert said["tflite"][0] == (
        "ai-edge-litert cannot be imported (GLIBC_2.34 not found); or pip install 'edge-sdk[litert]'"
    )


def test_a_missing_engine_does_not_keep_the_other_from_running(onnx_model: Path) -> None:
    pytest.importorskip("onnxruntime")
    said = machine(onnx_model, "ai_edge_litert", "tflite_runtime")
    assert said["opened"] is True
