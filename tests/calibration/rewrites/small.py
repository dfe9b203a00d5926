"""Small ONNX graphs for tests, built one node after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Small:
    """Nodes and constants, collected; `model` puts them together.

    Args:
        seed: Of its weights.
    """

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def weights(self, *shape: int) -> str:
        return self.constant(self.random.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape))

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        name = f"t{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=f"{operator}_{name}", **attributes))
        return name if outputs == 1 else names

    def conv(self, x: str, given: int, made: int, side: int = 3, group: int = 1, **attributes: Any) -> str:
        weights = self.weights(made, given // group, side, side)
        bias = self.constant(self.random.normal(0, 1, made))
        return str(self.add("Conv", x, weights, bias, group=group, pads=[side // 2] * 4, **attributes))

    def model(
        self,
        outputs: dict[str, Sequence[Any]],
        inputs: dict[str, Sequence[Any]] | None = None,
        opset: int = 17,
    ) -> onnx.ModelProto:
        def values(of: dict[str, Sequence[Any]]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in of.items()]

        graph = helper.make_graph(
            self.nodes, "small", values(inputs or {"x": (1, 3, 8, 8)}), values(outputs), self.constants
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def operators(graph: Any) -> list[str]:
    """The operators of a graph, sorted."""
    return sorted(node.op_type for node in graph.nodes)
