"""NNCF's quantization with accuracy control, run in an environment of its own: ``python run_nncf_control.py JOB.json``.

It scores models by mAP on the labelled photos of the job, with this repository's decoder and evaluation (found by
PYTHONPATH): a peer is judged as it judges.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import onnx
import onnxruntime
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

from edge_sdk import datasets
from edge_sdk.datasets import Dataset
from edge_sdk.detector import Detector
from edge_sdk.measure.accuracy import match, resampled

OPSET = 17


class Scored:
    """A detector whose outputs come from another model; what `edge_sdk.measure.accuracy.match` asks of one."""

    def __init__(self, detector: Detector, infer: Callable[[Any], Mapping[str, Any]]) -> None:
        self._detector, self.infer = detector, infer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)


def metric(job: Mapping[str, Any]) -> Callable[[onnx.ModelProto, Iterable[int]], tuple[float, list[float]]]:
    """What NNCF calls with a model and the photos to score it on, which are numbers here.

    It gives mAP over the photos and of each photo alone, by which NNCF chooses those that it ranks on.
    """
    detector = Detector(job["model"], backend="onnxruntime")
    labels = datasets.load(Path(job["labels"]))
    by_name = {photo.path.name: photo for photo in labels.photos}
    photos = [by_name[name] for name in job["validation"]]
    calls = 0

    def score(model: onnx.ModelProto, items: Iterable[int]) -> tuple[float, list[float]]:
        nonlocal calls
        calls += 1
        began = time.monotonic()
        chosen = [photos[int(item)] for item in items]
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]

        def infer(prepared: Any) -> Mapping[str, Any]:
            return dict(zip(names, session.run(names, prepared.feeds), strict=True))

        scored: Any = Scored(detector, infer)
        found = match(scored, Dataset(labels.layout, labels.classes, tuple(chosen)))
        each = resampled(found, np.eye(len(found.photos)))
        print(f"score {calls}: {found.map():.4f} on {len(chosen)}, {time.monotonic() - began:.1f} s", flush=True)
        return found.map(), [float(one) for one in each]

    return score


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    options = job["options"]
    array = np.load(job["calibration"], mmap_mode="r")
    model = onnx.version_converter.convert_version(onnx.load(job["model"]), OPSET)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    made = nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=nncf.Dataset(
            range(len(array)), lambda number: {inputs[0].name: np.ascontiguousarray(array[number])}
        ),
        validation_dataset=nncf.Dataset(range(len(job["validation"]))),
        validation_fn=metric(job),
        max_drop=options["max_drop"],
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(array),
        # Where 8-bit products are added in pairs of 16 bits, full-range weights overflow; NNCF advises this first.
        advanced_quantization_parameters=AdvancedQuantizationParameters(
            overflow_fix=OverflowFix.DISABLE if job["vnni"] else OverflowFix.FIRST_LAYER
        ),
    )
    onnx.save(made, job["out"])


if __name__ == "__main__":
    main()
