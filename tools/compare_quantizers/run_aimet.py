"""AIMET's per-layer sensitivity and its lite mixed precision, run in an environment of its own: ``python run_aimet.py
JOB.json``.

INT8 with the least sensitive layers left there; the given share of the most sensitive, by SQNR of the model's outputs
with one layer quantized at a time, is flipped to float. On this engine FP16 is computed as FP32, so their quantizers
are switched off instead of exported as casts, which would only slow the file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from aimet_onnx import QuantizationSimModel, analyze_per_layer_sensitivity
from aimet_onnx.common.defs import QuantizationDataType
from aimet_onnx.lite_mp import flip_layers_to_higher_precision

OPSET = 17
PROBE_PHOTOS = 8  # for each layer's sensitivity


def sqnr(floats: list[list[np.ndarray[Any, Any]]], found: list[list[np.ndarray[Any, Any]]]) -> float:
    """Mean over photos and outputs of ten times the logarithm of signal over noise; higher is better."""
    values = []
    for photo, other in zip(floats, found, strict=True):
        for mine, theirs in zip(photo, other, strict=True):
            noise = float(((mine.astype(np.float64) - theirs) ** 2).sum())
            values.append(10 * np.log10(float((mine.astype(np.float64) ** 2).sum()) / max(noise, 1e-12)))
    return float(np.mean(values))


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    array = np.load(job["calibration"], mmap_mode="r")
    model = onnx.version_converter.convert_version(onnx.load(job["model"]), OPSET)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    photos = [{inputs[0].name: np.ascontiguousarray(photo)} for photo in array]
    plain = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    floats = [plain.run(None, photo) for photo in photos[:PROBE_PHOTOS]]
    sim = QuantizationSimModel(model, param_type="int8", activation_type="int8", quant_scheme="tf_enhanced")
    sim.compute_encodings(photos)
    print("encodings computed", flush=True)
    scores = analyze_per_layer_sensitivity(
        sim, lambda session: sqnr(floats, [session.run(None, photo) for photo in photos[:PROBE_PHOTOS]])
    )
    print(json.dumps(dict(sorted(scores.items(), key=lambda item: item[1]))), flush=True)
    flip_layers_to_higher_precision(
        sim, scores, percent_to_flip=job["options"]["percent"], override_precision="float16"
    )
    off = 0
    for quantizer in sim.qc_quantize_op_dict.values():
        if quantizer.enabled and quantizer.data_type == QuantizationDataType.float:
            quantizer.enabled = False
            off += 1
    print(f"{off} quantizers are off", flush=True)
    onnx.save(sim.to_onnx_qdq(), job["out"])


if __name__ == "__main__":
    main()
