"""Small float networks, built by hand or at random, with the blocks that detectors are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

CHANNELS, SIDE = 8, 8


class Net:
    """Collects nodes; each method gives the name of a tensor. The input is ``x`` [1, 8, 8, 8]."""

    def __init__(self, seed: int = 0, opset: int = 17) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.opset = opset

    def constant(self, values: np.ndarray[Any, Any], name: str | None = None) -> str:
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def op(self, kind: str, *inputs: str, name: str | None = None, outputs: int = 1, **attributes: Any) -> Any:
        name = name or f"{kind}_{len(self.nodes)}"
        made = [f"{name}:{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), made, name=name, **attributes))
        return made[0] if outputs == 1 else made

    def conv(
        self,
        x: str,
        into: int,
        out: int,
        kernel: int = 1,
        *,
        group: int = 1,
        stride: int = 1,
        name: str | None = None,
        weights: str | None = None,
        values: np.ndarray[Any, Any] | None = None,
    ) -> str:
        shape = (out, into // group, kernel, kernel)
        if values is None:
            values = self.rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        bias = self.constant(self.rng.normal(0, 0.1, out).astype(np.float32))
        return str(
            self.op(
                "Conv",
                x,
                self.constant(values, weights),
                bias,
                name=name,
                kernel_shape=[kernel, kernel],
                pads=[kernel // 2] * 4,
                strides=[stride, stride],
                group=group,
            )
        )

    def gated(self, x: str, gate: str = "Sigmoid", *, name: str | None = None) -> str:
        """SiLU, or hard swish."""
        name = name or f"gated_{len(self.nodes)}"
        attributes = {"alpha": 1 / 6, "beta": 0.5} if gate == "HardSigmoid" else {}
        return str(self.op("Mul", x, self.op(gate, x, name=f"{name}/gate", **attributes), name=name))

    def model(self, *outputs: str, side: int = SIDE) -> onnx.ModelProto:
        shape = [1, CHANNELS, side, side]
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.constants,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        return shape_inference.infer_shapes(made)


def random_net(seed: int, blocks: int = 6) -> onnx.ModelProto:
    """A chain of random blocks with two heads; every tensor within the body has 8 channels."""
    net = Net(seed)
    x = net.conv("x", CHANNELS, CHANNELS, 3)
    for _ in range(blocks):
        x = _BLOCKS[net.rng.integers(len(_BLOCKS))](net, x)
    scores = net.op("Sigmoid", net.conv(x, CHANNELS, 4))
    boxes = net.conv(_silu(net, x), CHANNELS, 4)
    return net.model(net.op("Concat", boxes, scores, axis=1), boxes)


def _silu(net: Net, x: str) -> str:
    return net.gated(net.conv(x, CHANNELS, CHANNELS))


def _hard_swish(net: Net, x: str) -> str:
    return net.gated(net.conv(x, CHANNELS, CHANNELS, 3, group=CHANNELS), "HardSigmoid")


def _relu(net: Net, x: str) -> str:
    return str(net.op("Relu", net.conv(x, CHANNELS, CHANNELS, 3)))


def _relu6(net: Net, x: str) -> str:
    limits = [net.constant(np.asarray(value, np.float32)) for value in (0, 6)]
    return str(net.op("Clip", net.conv(x, CHANNELS, CHANNELS), *limits))


def _bare(net: Net, x: str) -> str:
    return net.conv(net.conv(x, CHANNELS, CHANNELS), CHANNELS, CHANNELS)


def _leaky(net: Net, x: str) -> str:
    return str(net.op("LeakyRelu", net.conv(x, CHANNELS, CHANNELS), alpha=0.1))


def _residual(net: Net, x: str) -> str:
    return str(net.op("Add", x, _silu(net, _silu(net, x))))


def _squeeze(net: Net, x: str) -> str:
    small = net.op("Relu", net.conv(net.op("GlobalAveragePool", x), CHANNELS, CHANNELS))
    gate = net.op("HardSigmoid", net.conv(small, CHANNELS, CHANNELS), alpha=0.2, beta=0.5)
    return str(net.op("Mul", x, gate))


def _branches(net: Net, x: str) -> str:
    both = net.op("Concat", _silu(net, x), net.op("Relu", net.conv(x, CHANNELS, CHANNELS)), axis=1)
    return net.conv(both, 2 * CHANNELS, CHANNELS)


def _pools(net: Net, x: str) -> str:
    pools = [net.op("MaxPool", x, kernel_shape=[k, k], pads=[k // 2] * 4) for k in (3, 5)]
    return net.conv(net.op("Concat", x, *pools, axis=1), 3 * CHANNELS, CHANNELS)


def _shuffle(net: Net, x: str) -> str:
    left, right = net.op("Split", net.gated(net.conv(x, CHANNELS, CHANNELS)), outputs=2, axis=1)
    both = net.op("Concat", left, net.conv(right, CHANNELS // 2, CHANNELS // 2), axis=1)
    x = net.op("Reshape", both, net.constant(np.asarray([1, 2, CHANNELS // 2, -1])))
    x = net.op("Transpose", x, perm=[0, 2, 1, 3])
    return str(net.op("Reshape", x, net.constant(np.asarray([1, CHANNELS, SIDE, SIDE]))))


def _down_and_up(net: Net, x: str) -> str:
    small = net.op("AveragePool", net.conv(x, CHANNELS, CHANNELS), kernel_shape=[2, 2], strides=[2, 2])
    scales = net.constant(np.asarray([1, 1, 2, 2], np.float32))
    return str(net.op("Resize", net.gated(net.conv(small, CHANNELS, CHANNELS)), "", scales, mode="nearest"))


def _soft(net: Net, x: str) -> str:
    return str(net.op("Tanh", net.conv(x, CHANNELS, CHANNELS)))


_BLOCKS = (
    _silu,
    _hard_swish,
    _relu,
    _relu6,
    _bare,
    _leaky,
    _residual,
    _squeeze,
    _branches,
    _pools,
    _shuffle,
    _down_and_up,
    _soft,
)
