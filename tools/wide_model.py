"""A detector of YOLOX-S's size with random weights: a model that has room for INT8.

    python tools/wide_model.py wide.onnx --activation silu --side 320

The test models are small: much of their time goes into depthwise convolutions and activations, which integers hardly
speed up. This one is dense convolutions of 32 to 512 channels, as users' larger models are: a CSP backbone and path
aggregation neck of YOLOX-S's depth and width (Ge et al., arXiv 2107.08430; 0.33 and 0.5), and YOLOv8's output layout:
[1, 84, cells] of centre x, centre y, width and height in model pixels, from distributions over 16 bins (Li et al.,
arXiv 2006.04388), and eighty class scores after their sigmoids.

Weights are random, their scale is not: after each convolution every channel has the mean and spread that a batch norm
would give it on pictures of overlapping discs, with gains and offsets drawn around 1 and 0, folded into the weights. So
activations neither grow nor die, as in a trained model, and accuracy can be judged by how far outputs stray (SNR); what
the boxes say means nothing. The same seed gives the same weights; those statistics are rounded, so that another
machine's last bits change them hardly ever.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

Activation = Literal["silu", "relu"]
STRIDES = (8, 16, 32)
CLASSES = 80
BINS = 16
OPSET = 17
PICTURES = 8
LEAVES = 2000
PATCHES = 256
ALIGNMENT = 0.35  # 0: weights know nothing of their inputs; 1: they are sums of them, and all photos look alike
CLASS_BIAS, CLASS_SPREAD = -6.0, 4.0  # on photos a few cells in a thousand score above a quarter


class Net:
    """Collects nodes, and computes each on some pictures as it comes, so that the next weights can be scaled."""

    def __init__(self, side: int, activation: Activation, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.activation = activation
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.values: dict[str, np.ndarray] = {"images": pictures(side, self.random)}

    def constant(self, value: np.ndarray, name: str | None = None) -> str:
        name = name or f"constant_{len(self.weights)}"
        self.weights[name] = value
        return name

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        name = name or f"{kind}_{len(self.nodes)}"
        node = helper.make_node(kind, list(inputs), [f"{name}:0"], name=name, **attributes)
        self.nodes.append(node)
        self.values[f"{name}:0"] = self._computed(node)
        return f"{name}:0"

    def convolution(
        self, x: str, out: int, kernel: int, stride: int, spread: float | np.ndarray, offset: np.ndarray
    ) -> str:
        """Weights whose outputs have this spread and mean, by channel, on the pictures."""
        weights = self._weights(x, out, kernel)
        name = f"Conv_{len(self.nodes)}"
        sides: dict[str, Any] = {
            "kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4,
        }  # fmt: skip
        trial = helper.make_node("Conv", [x, "trial"], ["trial:0"], **sides)
        found = self._computed(trial, trial=weights)
        mean, own = found.mean(axis=(0, 2, 3)), found.var(axis=(0, 2, 3))
        # Few pictures say little of a single channel deep in the net: half of it is what all channels have.
        deviation = np.sqrt((own + own.mean()) / 2)
        gain = _rounded(spread / deviation)
        bias = (offset - gain * _rounded(mean)).astype(np.float32)
        weights = (weights * gain[:, None, None, None]).astype(np.float32)
        return self.add(
            "Conv", x, self.constant(weights, f"{name}.weight"), self.constant(bias, f"{name}.bias"), name=name, **sides
        )

    def _weights(self, x: str, out: int, kernel: int) -> np.ndarray:
        """[out, in, kernel, kernel]: drawn among the directions that the layer's inputs vary in.

        A layer's gradient is a sum of what it sees (its inputs' patches), so trained weights look where the signal is
        and pass little of what is uncorrelated with it, as rounding errors are. Weights that know nothing of their
        inputs pass both alike, and fifty layers of them tell no photo from noise.
        """
        values = self.values[x]
        padded = np.pad(values, [(0, 0), (0, 0), *[(kernel // 2,) * 2] * 2])
        height, width = values.shape[2:]
        count = PATCHES
        photo, row, column = (self.random.integers(0, top, count) for top in (len(values), height, width))
        rows, columns = np.arange(kernel)[None, :, None], np.arange(kernel)[None, None, :]
        at = (photo[:, None, None], slice(None), row[:, None, None] + rows, column[:, None, None] + columns)
        seen = padded[at].transpose(0, 3, 1, 2).reshape(count, -1).astype(np.float64)  # [patches, in * kernel * kernel]
        seen -= seen.mean(axis=0)
        # Singular values and vectors, by way of the few patches' products with each other.
        squares, vectors = np.linalg.eigh(seen @ seen.T)
        some = squares > squares[-1] * 1e-9
        strength = np.sqrt(squares[some]) ** (ALIGNMENT - 1)
        mixed = (self.random.normal(0, 1, (out, len(strength))) * strength) @ (vectors[:, some].T @ seen)
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        return _rounded(mixed).reshape(out, values.shape[1], kernel, kernel).astype(np.float32)

    def block(self, x: str, out: int, kernel: int = 1, stride: int = 1) -> str:
        """Convolution, batch norm (folded) and activation."""
        gains = np.exp(self.random.normal(0, 0.25, out))
        x = self.convolution(x, out, kernel, stride, gains, self.random.normal(0, 0.4, out))
        if self.activation == "relu":
            return self.add("Relu", x)
        return self.add("Mul", x, self.add("Sigmoid", x))

    def csp(self, x: str, out: int, depth: int, *, shortcut: bool = True) -> str:
        """Half of the channels through `depth` bottlenecks, the other half around them."""
        a, b = self.block(x, out // 2), self.block(x, out // 2)
        for _ in range(depth):
            y = self.block(self.block(a, out // 2), out // 2, 3)
            a = self.add("Add", a, y) if shortcut else y
        return self.block(self.add("Concat", a, b, axis=1), out)

    def upsampled(self, x: str) -> str:
        """Twice the height and width."""
        return self.add("Resize", x, "", self.constant(np.float32([1, 1, 2, 2])), mode="nearest")

    def _computed(self, node: onnx.NodeProto, **more: np.ndarray) -> np.ndarray:
        known = {**self.values, **self.weights, **more}
        taken = {name: known[name] for name in dict.fromkeys(node.input) if name}
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in taken.items()
        ]
        graph = helper.make_graph(
            [node], "one", inputs, [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, taken)
        return np.asarray(found)


def build(activation: Activation = "silu", *, side: int = 320, width: float = 0.5, seed: int = 0) -> onnx.ModelProto:
    """The model.

    Args:
        activation: After each convolution but the last ones.
        side: Of the square input in pixels, a multiple of 32.
        width: Of YOLOX-L's channels; 0.5 is YOLOX-S.
        seed: Of the weights.

    Raises:
        ValueError: `side` is no multiple of 32, or `width` leaves a layer without channels.
    """
    if side % STRIDES[-1] or side < STRIDES[-1]:
        raise ValueError(f"side must be a multiple of {STRIDES[-1]}, not {side}")
    if width * 64 < 2:
        raise ValueError(f"width {width} leaves no channels")
    net = Net(side, activation, seed)

    def wide(channels: int) -> int:
        return int(channels * width) // 2 * 2

    x = net.block("images", wide(64), 3, 2)
    x = net.csp(net.block(x, wide(128), 3, 2), wide(128), 1)
    p3 = net.csp(net.block(x, wide(256), 3, 2), wide(256), 3)
    p4 = net.csp(net.block(p3, wide(512), 3, 2), wide(512), 3)
    x = net.block(net.block(p4, wide(1024), 3, 2), wide(512))
    pools = [net.add("MaxPool", x, kernel_shape=[k, k], pads=[k // 2] * 4, strides=[1, 1]) for k in (5, 9, 13)]
    x = net.block(net.add("Concat", x, *pools, axis=1), wide(1024))
    p5 = net.csp(x, wide(1024), 1, shortcut=False)
    down5 = net.block(p5, wide(512))
    x = net.csp(net.add("Concat", net.upsampled(down5), p4, axis=1), wide(512), 1, shortcut=False)
    down4 = net.block(x, wide(256))
    out3 = net.csp(net.add("Concat", net.upsampled(down4), p3, axis=1), wide(256), 1, shortcut=False)
    x = net.add("Concat", net.block(out3, wide(256), 3, 2), down4, axis=1)
    out4 = net.csp(x, wide(512), 1, shortcut=False)
    x = net.add("Concat", net.block(out4, wide(512), 3, 2), down5, axis=1)
    out5 = net.csp(x, wide(1024), 1, shortcut=False)
    _outputs(net, (out3, out4, out5), side, wide(256))
    return _model(net, side)


def _outputs(net: Net, levels: tuple[str, ...], side: int, channels: int) -> None:
    boxes, scores = [], []
    for x in levels:
        stem = net.block(x, channels)
        ends = []
        for out, spread, offset in ((4 * BINS, 2.0, 0.0), (CLASSES, CLASS_SPREAD, CLASS_BIAS)):
            y = net.block(net.block(stem, channels, 3), channels, 3)
            y = net.convolution(y, out, 1, 1, spread, np.full(out, offset))
            ends.append(net.add("Reshape", y, net.constant(np.array([0, out, -1], np.int64))))
        boxes.append(ends[0])
        scores.append(ends[1])
    cells = [(side // stride) ** 2 for stride in STRIDES]
    bins = net.add("Reshape", net.add("Concat", *boxes, axis=2), net.constant(np.array([0, 4, BINS, sum(cells)])))
    bins = net.add("Softmax", net.add("Transpose", bins, perm=[0, 2, 1, 3]), axis=1)
    expected = np.arange(BINS, dtype=np.float32).reshape(1, BINS, 1, 1)
    far = net.add("Conv", bins, net.constant(expected, "bins.weight"), kernel_shape=[1, 1])
    far = net.add("Reshape", far, net.constant(np.array([0, 4, sum(cells)])))
    near, away = (
        net.add("Slice", far, *(net.constant(np.array([value])) for value in (first, first + 2, 1))) for first in (0, 2)
    )
    centres = [np.stack(np.mgrid[: side // s, : side // s][::-1]).reshape(2, -1) + 0.5 for s in STRIDES]
    anchors = net.constant(np.concatenate(centres, axis=1)[None].astype(np.float32))
    low, high = net.add("Sub", anchors, near), net.add("Add", anchors, away)
    middle = net.add("Mul", net.add("Add", low, high), net.constant(np.float32([0.5])))
    size = net.add("Sub", high, low)
    steps = np.repeat(np.float32(STRIDES), cells).reshape(1, 1, -1)
    pixels = net.add("Mul", net.add("Concat", middle, size, axis=1), net.constant(steps))
    net.add("Concat", pixels, net.add("Sigmoid", net.add("Concat", *scores, axis=2)), axis=1, name="output")


def _model(net: Net, side: int) -> onnx.ModelProto:
    net.nodes[-1].output[0] = "output0"
    cells = sum((side // stride) ** 2 for stride in STRIDES)
    graph = helper.make_graph(
        net.nodes,
        f"wide_{net.activation}",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, side, side))],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, (1, 4 + CLASSES, cells))],
        [numpy_helper.from_array(value, name) for name, value in net.weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    helper.set_model_props(model, {"task": "detect", "imgsz": str([side, side]), "stride": str(STRIDES[-1])})
    onnx.checker.check_model(model)
    return model


def pictures(side: int, random: np.random.Generator, count: int = PICTURES) -> np.ndarray:
    """Pictures float32 [count, 3, side, side], 0..1: discs of all sizes that hide each other.

    Such "dead leaves" have edges, flat parts and the spectrum of photos (Lee, Mumford and Huang, "Occlusion models for
    natural images", IJCV 41, 2001, where the sizes fall off as here, with the third power).
    """
    made = np.empty((count, side, side, 3), np.uint8)
    for picture in made:
        picture[:] = 128
        for _ in range(LEAVES):
            radius = min(0.02 * random.random() ** -0.5, 0.5) * side
            x, y = random.uniform(0, side, 2)
            colour = np.clip(random.uniform(0, 255) + random.normal(0, 25, 3), 0, 255)
            cv2.circle(picture, (round(x), round(y)), round(radius), [round(float(one)) for one in colour], -1)
    return np.ascontiguousarray(made.transpose(0, 3, 1, 2), np.float32) / 255


def snr_db(float_output: np.ndarray, output: np.ndarray) -> float:
    """Signal over noise in dB: ten times the logarithm of the power of the float output over that of the error."""
    signal = float((np.asarray(float_output, np.float64) ** 2).sum())
    noise = float(((np.asarray(output, np.float64) - float_output) ** 2).sum())
    return float("inf") if noise == 0 else 10 * float(np.log10(signal / noise))


def _rounded(values: np.ndarray) -> np.ndarray:
    """To 10 bits of fraction: another machine's last bits make no other weights, but where they tip a rounding."""
    fraction, exponent = np.frexp(np.asarray(values, np.float64))
    return np.ldexp(np.round(fraction * 1024) / 1024, exponent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the .onnx file to write")
    parser.add_argument("--activation", choices=("silu", "relu"), default="silu")
    parser.add_argument("--side", type=int, default=320, help="of the square input, a multiple of 32")
    parser.add_argument("--width", type=float, default=0.5, help="of YOLOX-L's channels")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    onnx.save(
        build(arguments.activation, side=arguments.side, width=arguments.width, seed=arguments.seed), arguments.out
    )
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
