"""What the peers are given: photos as the model is fed, made by this repository's own preprocessing, and split as its
planner splits them."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from quantizers import Material

from edge_sdk.calibration.canonical import canonical
from edge_sdk.calibration.dataset import CalibrationSet
from edge_sdk.calibration.engines.onnxruntime import this_cpu
from edge_sdk.calibration.rewrites import rewrite
from edge_sdk.detector import Detector
from edge_sdk.errors import ModelError


@dataclass(frozen=True)
class Prepared:
    """A model's material and its best float form.

    Args:
        material: For the peers.
        optimized: The file that all latencies are held against.
        optimized_s: Wall time of making it.
        photo: One calibration photo as the model is fed, to time with.
    """

    material: Material
    optimized: Path
    optimized_s: float
    photo: dict[str, np.ndarray]


def prepare(model: Path, photos: Path, cache: Path, *, count: int = 64, seed: int = 0, given: str = "raw") -> Prepared:
    """Chooses the photos as the planner does and writes what peers read.

    Args:
        model: A detector.
        photos: A labelled folder.
        cache: Where it is written, by content.
        count: Calibration photos.
        seed: Of the choice.
        given: Which graph the peers get: "raw" is the file, "optimized" the float form that the planner starts from.

    Raises:
        ModelError: The model has several inputs.
    """
    import time

    folder = cache / "material"
    folder.mkdir(parents=True, exist_ok=True)
    with (
        Detector(model, backend="onnxruntime") as detector,
        CalibrationSet.open(photos, detector, count=count, seed=seed) as chosen,
    ):
        feeds = list(chosen.feeds(chosen.calibration))
        names = tuple(one.path.name for one in (*chosen.search, *chosen.acceptance))
    if len(feeds[0]) != 1:
        raise ModelError(f"{model.name}: the peers' scripts feed one input, and this model has {len(feeds[0])}")
    (name,) = feeds[0]
    array = np.stack([one[name] for one in feeds])
    calibration = folder / f"{model.stem}-{_hash(array.tobytes())[:16]}.npy"
    if not calibration.is_file():
        _write(calibration, array)
    began = time.monotonic()
    best = rewrite(canonical(model, feeds=feeds[:2]), feeds=feeds[:2])
    seconds = time.monotonic() - began
    optimized = folder / f"{model.stem}-optimized-{best.sha256[:16]}.onnx"
    best.save(optimized)
    file = optimized if given == "optimized" else model
    material = Material(
        model=file,
        model_sha256=_hash(file.read_bytes()),
        calibration=calibration,
        calibration_sha256=_hash(calibration.read_bytes()),
        labels=photos,
        validation=names,
        vnni=this_cpu() == "x86-vnni",
    )
    return Prepared(material, optimized, seconds, {name: np.array(array[0])})


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, array: np.ndarray) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npy", delete=False) as file:
        np.save(file, array)
    Path(file.name).replace(path)
