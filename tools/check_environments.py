"""One detection in every environment that the SDK supports, compared with this one's.

    python tools/check_environments.py FOLDER --data SHARED [--only NAME ...] [--interpreter 3.10=/path/to/python3.10]

Makes an environment for each row of `ENVIRONMENTS` in FOLDER (about 400 MB each; one that is complete is kept, so an
interrupted run continues), installs the SDK into it by reference with the extra and the pins of the row, detects in
one photo, and prints a table: versions, what was active, boxes, and the greatest difference of a box's side from the
environment that runs this program, which needs onnxruntime and ai-edge-litert. Ends with 1 where a row failed or a box
differs by more than 0.5 pixels.

Interpreters are looked for as ``python3.10`` on the PATH and among pyenv's; ``--interpreter`` names one elsewhere.
SHARED is the folder of test data, with ``models/`` and ``data/``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PHOTO = "data/coco_eval/images/000000008532.jpg"
MODELS = {
    "onnxruntime": "models/yolox_nano/yolox_nano.onnx",
    "tflite": "models/yolox_nano/yolox_nano_float16_quantize.tflite",
}
TOLERANCE_PX = 0.5
_COMPLETE = "complete.json"  # written last into an environment: what it was made of


@dataclass(frozen=True)
class Environment:
    """One row: a Python, an extra of the SDK, and the versions that are pinned."""

    name: str
    python: str  # "3.10"
    backend: str
    extra: str
    pins: tuple[str, ...] = ()


# The lowest that pyproject.toml allows; NumPy's is the lowest that the others take under that Python.
_LOWEST = ("opencv-python==4.8.0.74", "typer==0.12.0", "rich==13.0.0", "onnxruntime==1.17.0")

ENVIRONMENTS = (
    Environment("ort-py310", "3.10", "onnxruntime", "onnxruntime", ("onnxruntime==1.23.*", "numpy==1.26.*")),
    Environment("ort-py310-lowest", "3.10", "onnxruntime", "onnxruntime", (*_LOWEST, "numpy==1.23.0", "tomli==2.0.0")),
    Environment("ort-py311-lowest", "3.11", "onnxruntime", "onnxruntime", (*_LOWEST, "numpy==1.24.2")),
    Environment("ort-py312", "3.12", "onnxruntime", "onnxruntime"),
    Environment("ort-py313", "3.13", "onnxruntime", "onnxruntime"),
    Environment("litert-py310", "3.10", "tflite", "litert"),
    Environment("litert-py311-lowest", "3.11", "tflite", "litert", ("ai-edge-litert==2.1.6",)),
    Environment("litert-py312", "3.12", "tflite", "litert"),
    Environment("litert-py313", "3.13", "tflite", "litert"),
    Environment("tflite-runtime-py310", "3.10", "tflite", "tflite-runtime", ("tflite-runtime==2.14.*",)),
    Environment("tflite-runtime-py310-lowest", "3.10", "tflite", "tflite-runtime", ("tflite-runtime==2.13.*",)),
    Environment("tflite-runtime-py311", "3.11", "tflite", "tflite-runtime", ("tflite-runtime==2.14.*",)),
)

# Run in each environment, with its own versions of everything; prints one line of JSON.
_DETECT = """
import json, platform, sys
from importlib.metadata import version
import cv2, numpy
from edge_sdk.backends.base import backends
from edge_sdk.detector import Detector

model, photo, backend = sys.argv[1:]
with Detector(model, backend=backend, threads=1) as detector:
    found = detector(cv2.imread(photo))
    print(json.dumps({
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "opencv": version("opencv-python"),
        "engine": backends()[backend].version().split(" (")[0],
        "active": detector.session.active,
        "layers": len(detector.session.layers()),
        "boxes": [[int(one.class_id), float(one.confidence), *map(float, one.xyxy)] for one in found],
    }))
"""


def find_interpreter(version: str, stated: dict[str, str]) -> Path | None:
    """A Python of a version: as stated, on the PATH, or among pyenv's."""
    if version in stated:
        return Path(stated[version])
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for found in sorted(pyenv.glob(f"{version}.*/bin/python")):
        return found
    on_path = shutil.which(f"python{version}")
    return Path(on_path) if on_path else None


def make(environment: Environment, folder: Path, interpreter: Path) -> Path:
    """The Python of an environment, which is made unless it is there and complete."""
    home = folder / environment.name
    python = home / "bin" / "python"
    recipe = {"python": environment.python, "extra": environment.extra, "pins": list(environment.pins)}
    done = home / _COMPLETE
    if done.is_file() and json.loads(done.read_text(encoding="utf-8")) == recipe:
        return python
    shutil.rmtree(home, ignore_errors=True)
    run([str(interpreter), "-m", "venv", str(home)])
    wanted = ["-e", f"{REPOSITORY}[{environment.extra}]", *environment.pins]
    run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted])
    done.write_text(json.dumps(recipe), encoding="utf-8")
    return python


def detect(python: Path, backend: str, data: Path) -> dict[str, Any]:
    """What a model finds in the photo, in an environment, and the versions it found it with."""
    words = [str(python), "-c", _DETECT, str(data / MODELS[backend]), str(data / PHOTO), backend]
    return dict(json.loads(run(words).strip().splitlines()[-1]))


def run(words: list[str]) -> str:
    """A program's standard output.

    Raises:
        RuntimeError: It failed; the message is the last line that it wrote.
    """
    # Somewhere else than the repository, so that nothing is imported from the working folder by chance.
    finished = subprocess.run(words, capture_output=True, text=True, cwd=Path(sys.prefix), check=False)
    if finished.returncode != 0:
        lines = (finished.stderr or finished.stdout).strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"ended with {finished.returncode}")
    return finished.stdout


def greatest_difference(found: list[list[float]], reference: list[list[float]]) -> float:
    """Pixels by which the sides of two lists of (class, confidence, x1, y1, x2, y2) differ at most.

    Each box is compared with the nearest one of its class; infinity where the classes are not the same.
    """
    if sorted(row[0] for row in found) != sorted(row[0] for row in reference):
        return float("inf")
    left = list(reference)
    greatest = 0.0
    for row in found:
        others = [other for other in left if other[0] == row[0]]
        nearest = min(others, key=lambda other: _apart(row, other))
        left.remove(nearest)
        greatest = max(greatest, _apart(row, nearest))
    return greatest


def _apart(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(one[2:], other[2:], strict=True))


def check(environment: Environment, folder: Path, data: Path, interpreters: dict[str, str]) -> dict[str, Any]:
    """Makes one environment, detects in it and compares.

    Returns:
        What `detect` gives, and ``difference_px``.

    Raises:
        RuntimeError: There is no such Python, or pip or the detection failed.
    """
    interpreter = find_interpreter(environment.python, interpreters)
    if interpreter is None:
        raise RuntimeError(f"no Python {environment.python}; name one with --interpreter {environment.python}=PATH")
    found = detect(make(environment, folder, interpreter), environment.backend, data)
    reference = detect(Path(sys.executable), environment.backend, data)
    return {**found, "difference_px": greatest_difference(found["boxes"], reference["boxes"])}


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the environments are made and kept")
    parser.add_argument("--data", type=Path, required=True, help="the folder of test data")
    parser.add_argument("--only", nargs="+", choices=[one.name for one in ENVIRONMENTS], metavar="NAME")
    parser.add_argument("--interpreter", action="append", default=[], metavar="VERSION=PATH")
    arguments = parser.parse_args()
    interpreters = dict(pair.split("=", 1) for pair in arguments.interpreter)
    folder, data = arguments.folder.resolve(), arguments.data.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    print("| environment | Python | NumPy | OpenCV | engine | active | boxes | greatest difference, px |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    failed = False
    for environment in ENVIRONMENTS:
        if arguments.only and environment.name not in arguments.only:
            continue
        try:
            row = check(environment, folder, data, interpreters)
        except RuntimeError as error:
            failed = True
            print(f"| {environment.name} | {environment.python} | | | | failed: {error} | | |", flush=True)
            continue
        failed |= not row["difference_px"] <= TOLERANCE_PX
        cells = [environment.name, *(row[key] for key in ("python", "numpy", "opencv", "engine", "active"))]
        print(f"| {' | '.join(cells)} | {len(row['boxes'])} | {row['difference_px']:.4f} |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
