"""NNCF's post-training quantization of ONNX, run in an environment of its own: ``python run_nncf.py JOB.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nncf
import numpy as np
import onnx
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

OPSET = 17


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    array = np.load(job["calibration"], mmap_mode="r")
    model = onnx.version_converter.convert_version(onnx.load(job["model"]), OPSET)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    made = nncf.quantize(
        model,
        nncf.Dataset(range(len(array)), lambda number: {inputs[0].name: np.ascontiguousarray(array[number])}),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(array),
        # Where 8-bit products are added in pairs of 16 bits, full-range weights overflow; NNCF advises this first.
        advanced_parameters=AdvancedQuantizationParameters(
            overflow_fix=OverflowFix.DISABLE if job["vnni"] else OverflowFix.FIRST_LAYER
        ),
    )
    onnx.save(made, job["out"])


if __name__ == "__main__":
    main()
