"""ONNX Runtime's CPU engine as a target of plans: INT8 or float, in a Q/DQ model."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Layer
from edge_sdk.calibration.engines.base import WEIGHTED, Rules
from edge_sdk.calibration.engines.integers import Grid
from edge_sdk.calibration.engines.onnxruntime_lower import Cpu, grid, lower, ranged_tensors, rounded
from edge_sdk.calibration.engines.onnxruntime_read import in_names_of, read_back
from edge_sdk.calibration.engines.onnxruntime_rules import OnnxRuntimeRules, settled
from edge_sdk.calibration.graph import Graph
from edge_sdk.errors import UsageError
from edge_sdk.plan import Plan

if TYPE_CHECKING:
    import onnx

    from edge_sdk.calibration.groups import Group

# Instructions that multiply 8-bit numbers and add them in 32 bits, as Linux lists them (Intel SDM, VPDPBUSD).
_VNNI = ("avx512_vnni", "avx_vnni")


class OnnxRuntimeEngine:
    """See `edge_sdk.calibration.engines.base.Engine`; `cpu` is one of `Cpu`."""

    name = "onnxruntime"
    rules: Rules = OnnxRuntimeRules()

    def settled(self, graph: Graph, groups: Sequence[Group], integer: Set[str]) -> frozenset[str]:
        return settled(graph, groups, integer)

    def quantized(self, graph: Graph, nodes: Set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        weights = [node.input[1] for node in graph.nodes if node.name in nodes and node.op_type in WEIGHTED]
        return ranged_tensors(graph, nodes), tuple(dict.fromkeys(weights))

    def grid(self, graph: Graph, node: onnx.NodeProto, *, cpu: str | None = None) -> Grid:
        return grid(graph, node, cpu=_named(cpu))

    def rounded(
        self,
        graph: Graph,
        nodes: Set[str],
        ranges: Mapping[str, tuple[float, float]],
        *,
        cpu: str | None = None,
    ) -> Mapping[str, NDArray[np.float32]]:
        return rounded(graph, nodes, ranges, cpu=_named(cpu))

    def lower(
        self,
        model: onnx.ModelProto,
        plan: Plan,
        *,
        cpu: str | None = None,
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> onnx.ModelProto:
        return lower(model, plan, cpu=_named(cpu), ranges=ranges)

    def read_back(self, file: Path, model: onnx.ModelProto, *, threads: int = 1) -> Sequence[Layer]:
        return read_back(file, Graph(model), threads=threads)

    def in_names_of(self, graph: Graph, layers: Iterable[Layer]) -> Sequence[Layer]:
        return in_names_of(graph, layers)


def _named(cpu: str | None) -> Cpu:
    if cpu is not None and cpu not in get_args(Cpu):
        raise UsageError(f"there is no cpu {cpu!r}; there are {', '.join(get_args(Cpu))}")
    return this_cpu() if cpu is None else cast("Cpu", cpu)


def this_cpu(machine: str | None = None, root: Path = Path("/")) -> Cpu:
    """What kind of CPU this machine has.

    Args:
        machine: As `platform.machine` gives it; None asks it.
        root: Where `/proc` is. Without a list of instructions there (on other systems than Linux) VNNI is not assumed.
    """
    if (machine or platform.machine()).lower().startswith(("aarch64", "arm")):
        return "arm"
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "x86"
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return "x86-vnni" if any(one in flags for one in _VNNI) else "x86"


ENGINE = OnnxRuntimeEngine()
