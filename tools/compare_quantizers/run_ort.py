"""ONNX Runtime's own static quantization, run in an environment of its own: ``python run_ort.py JOB.json``.

Q/DQ, weights with a scale for each output channel, activations uint8 with a zero point, as its documentation advises
for x86-64 (onnxruntime.ai, "Quantize ONNX models"); seven-bit weights on processors without VNNI, which it advises too.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

OPSET = 17  # scales for each channel need 13


class Photos(CalibrationDataReader):
    """The prepared photos, one at a time; ONNX Runtime may ask for a part, which keeps its memory within bounds."""

    def __init__(self, name: str, array: np.ndarray[Any, Any]) -> None:
        self._name, self._array = name, array
        self._numbers = iter(range(len(array)))

    def __len__(self) -> int:
        return len(self._array)

    def get_next(self) -> dict[str, Any] | None:
        number = next(self._numbers, None)
        return None if number is None else {self._name: np.ascontiguousarray(self._array[number])}

    def set_range(self, start_index: int, end_index: int) -> None:
        self._numbers = iter(range(start_index, min(end_index, len(self._array))))


def head(model: onnx.ModelProto) -> list[str]:
    """Names of the last convolutions before each output, and of all that follows them."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found: dict[str, None] = {}
    waiting = [value.name for value in model.graph.output]
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.name in found:
            continue
        found[node.name] = None
        if node.op_type != "Conv":
            waiting.extend(node.input)
    return list(found)


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    options = job["options"]
    photos = np.load(job["calibration"], mmap_mode="r")
    model = onnx.version_converter.convert_version(onnx.load(job["model"]), OPSET)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)  # a weight that is an input too is never folded
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(model, str(prepared))
        left = head(onnx.load(prepared)) if options.get("head_in_float") else []
        wide = options.get("activations") == "uint16"
        extra: dict[str, Any] = {}
        if "percentile" in options:
            extra["CalibPercentile"] = options["percentile"]
        quantize_static(
            str(prepared),
            job["out"],
            Photos(inputs[0].name, photos),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt16 if wide else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=not job["vnni"] and not wide,
            nodes_to_exclude=left,
            calibrate_method=CalibrationMethod[options["method"]],
            extra_options=extra,
        )
    if left:
        print(f"in float: {', '.join(left)}")


if __name__ == "__main__":
    main()
