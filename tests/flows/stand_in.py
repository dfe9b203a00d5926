"""A timer that asks no clock: what a file takes is what its operators add up to. And runs of the planner with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from edge_sdk.backends.base import Layer
from edge_sdk.calibration.outcome import Origin, Outcome, Timed
from edge_sdk.calibration.planner import plan_for
from edge_sdk.calibration.request import Request

FLOAT_MS, LOW_MS, CONVERT_MS, OTHER_MS = 1.0, 0.5, 0.02, 0.03


class StandIn:
    """The same figures for the same file, whoever asks, and a line in a file for each that is asked.

    Args:
        log: Gets the name of each file that was timed or read; shared by processes.
        low_ms: Of a convolution in INT8; one in float takes 1.
        convert_ms: Of a change of precision.
    """

    method: Origin = "recorded"
    on = "a stand-in"

    def __init__(self, log: Path | None = None, *, low_ms: float = LOW_MS, convert_ms: float = CONVERT_MS) -> None:
        self._log, self._low_ms, self._convert_ms = log, low_ms, convert_ms
        self.settings: Mapping[str, Any] = {"low": low_ms, "convert": convert_ms}

    def time(self, files: Mapping[str, Path], *, reference: str) -> Mapping[str, Timed]:
        taken = {name: self._ms(path) for name, path in files.items()}
        self._say("time", [path for name, path in files.items() if name != reference])
        ratios = {name: ms / taken[reference] for name, ms in taken.items()}
        return {
            name: Timed(taken[name], ratio, 0.998 * ratio, 1.002 * ratio, "recorded") for name, ratio in ratios.items()
        }

    def layers(self, file: Path) -> Sequence[Layer]:
        self._say("layers", [file])
        return [Layer((node.name or node.output[0],), "cpu", None, ms) for node, ms in self._priced(file)]

    def _ms(self, file: Path) -> float:
        return sum(ms for _, ms in self._priced(file))

    def _priced(self, file: Path) -> list[tuple[onnx.NodeProto, float]]:
        nodes = onnx.load(file).graph.node
        low = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
        priced = []
        for node in nodes:
            if node.op_type == "Conv":
                ms = self._low_ms if low.issuperset(node.input[:2]) else FLOAT_MS
            elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                ms = self._convert_ms
            else:
                ms = OTHER_MS
            priced.append((node, ms))
        return priced

    def _say(self, what: str, files: Sequence[Path]) -> None:
        if self._log is not None:
            text = "".join(f"{what} {file.name}\n" for file in files)
            with self._log.open("ab", buffering=0) as log:
                log.write(text.encode())


def run(
    model: Path, images: Path | Sequence[Path], folder: Path, request: Request | None = None, **options: Any
) -> Outcome:
    """A whole run of the planner, with one worker, into ``out`` and ``cache`` of a folder."""
    usual = {
        "timer": StandIn(), "workers": 1, "target": "generic-x86_64", "out": folder / "out", "cache": folder / "cache",
    }  # fmt: skip
    return plan_for(model, images, request or Request(count=8, max_map_drop=0.02), **usual | options)
