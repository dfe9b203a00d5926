"""YOLOX-nano's weights carried over into the GELAN detector, so that training begins with what COCO's photos taught it.

3,000 photos cannot teach what 118,000 did. YOLOX-nano (Ge et al., arXiv:2107.08430, Apache-2.0) is built of CSP
stages, and a CSP stage *is* a GELAN stage whose join does not read the taps between (``gelan.py``): so backbone and
neck are carried over exactly, the new taps of each join beginning at zero, as in Net2Net (Chen et al.,
arXiv:1511.05641). Its Focus layer becomes a 6 x 6 convolution, cell by cell. The classes' logits begin as YOLOX's class
logit plus its objectness logit. Sides are new: YOLOX regresses them directly, DFL does not.

The published file has its batch norms folded away. They are put back without a change of the function: the mean and
variance of each convolution's output are measured on photos, and the norm is given the gain and offset that undo them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import torch
from gelan import Conv, Detector, Gelan, LevelHead, Stem, bias_of
from onnx import numpy_helper
from torch import Tensor, nn

from edge_sdk.models.labels import COCO_80


def inherit(detector: Detector, classes: Sequence[str], teacher: Path, pictures: Tensor) -> None:
    """Puts YOLOX-nano's weights into `detector`.

    Args:
        detector: Changed in place.
        classes: Names of its classes; those that COCO has inherit their scores.
        teacher: The published yolox_nano.onnx.
        pictures: float32 [b, 3, h, w] to measure the norms' statistics on.

    Raises:
        ValueError: The file's layers are not YOLOX-nano's.
    """
    layers = _Layers(teacher)
    for part in _in_order(detector):
        if isinstance(part, Gelan):
            _gelan(part, layers)
        elif isinstance(part, LevelHead):
            _level(part, classes, layers)
        else:
            _conv(part, *layers.next())
    layers.end()
    _measure_norms(detector, pictures)


class _Layers:
    """The convolutions of an ONNX file, in the order they run, as weight [o, i, k, k] and bias [o]."""

    def __init__(self, path: Path) -> None:
        graph = onnx.load(str(path)).graph
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        layers = []
        for node in graph.node:
            if node.op_type == "Conv":
                if len(node.input) != 3 or not set(node.input[1:]) <= set(tensors):
                    raise ValueError(
                        f"{path}: a convolution has no bias of its own, so it is not YOLOX-nano's teacher file"
                    )
                weight, bias = (torch.from_numpy(numpy_helper.to_array(tensors[n]).copy()) for n in node.input[1:])
                layers.append((weight, bias))
        self._layers: Iterator[tuple[Tensor, Tensor]] = iter(layers)

    def next(self) -> tuple[Tensor, Tensor]:
        layer = next(self._layers, None)
        if layer is None:
            raise ValueError("the teacher has fewer layers than YOLOX-nano")
        return layer

    def end(self) -> None:
        if next(self._layers, None) is not None:
            raise ValueError("the teacher has more layers than YOLOX-nano")


def _in_order(detector: Detector) -> Iterator[Conv | Gelan | LevelHead]:
    b, n = detector.backbone, detector.neck
    stem, down2, stage2 = b.entry
    assert isinstance(stem, Stem)
    assert isinstance(stage2, Gelan)
    yield stem
    for down, stage in ((down2, stage2), (b.down3, b.stage3), (b.down4, b.stage4)):
        yield from _convs(down)
        yield stage
    yield from _convs(b.down5)
    yield from (b.pool5.reduce, b.pool5.join)
    yield from (b.stage5, n.lateral5, n.top4, n.lateral4, n.top3)
    yield from (*_convs(n.down4), n.out4, *_convs(n.down5), n.out5)
    for level in detector.head.levels:
        assert isinstance(level, LevelHead)
        yield level


def _convs(module: nn.Module) -> list[Conv]:
    return [part for part in module.modules() if isinstance(part, Conv)]


def _conv(conv: Conv, weight: Tensor, bias: Tensor) -> None:
    """Puts a folded layer in, with a norm that only adds the bias."""
    if isinstance(conv, Stem) and weight.shape[1:] == (12, 3, 3):
        weight = _focus(weight)
    if conv.conv.weight.shape != weight.shape:
        raise ValueError(f"a layer of the teacher is {tuple(weight.shape)}, not {tuple(conv.conv.weight.shape)}")
    with torch.no_grad():
        conv.conv.weight.copy_(weight)
        conv.norm.bias.copy_(bias)
        conv.norm.weight.fill_(1.0)
        assert conv.norm.running_mean is not None
        assert conv.norm.running_var is not None
        conv.norm.running_mean.zero_()
        conv.norm.running_var.fill_(1.0 - conv.norm.eps)


def _focus(weight: Tensor) -> Tensor:
    """A 3 x 3 over the four quarters of a picture, top-left, bottom-left, top-right, bottom-right, as a 6 x 6."""
    outputs = weight.shape[0]
    # [o, dx, dy, c, ky, kx] to [o, c, ky, dy, kx, dx]
    return weight.reshape(outputs, 2, 2, 3, 3, 3).permute(0, 3, 4, 2, 5, 1).reshape(outputs, 3, 6, 6)


def _gelan(stage: Gelan, layers: _Layers) -> None:
    _conv(stage.chain, *layers.next())
    _conv(stage.aside, *layers.next())
    for block in stage.blocks:
        for conv in _convs(block):
            _conv(conv, *layers.next())
    weight, bias = layers.next()
    last, aside = weight.chunk(2, dim=1)
    between = torch.zeros_like(last)
    taps = [aside, *[between] * (stage.join.conv.in_channels // last.shape[1] - 2), last]
    _conv(stage.join, torch.cat(taps, dim=1), bias)


def _level(level: LevelHead, classes: Sequence[str], layers: _Layers) -> None:
    _conv(level.reduce, *layers.next())
    for conv in _convs(level.look):
        _conv(conv, *layers.next())
    class_weight, class_bias = layers.next()
    if class_weight.shape[0] != len(COCO_80):
        raise ValueError(f"the teacher has {class_weight.shape[0]} classes, not COCO's {len(COCO_80)}")
    for conv in _convs(level.measure):
        _conv(conv, *layers.next())
    layers.next()  # YOLOX's sides
    object_weight, object_bias = layers.next()
    with torch.no_grad():
        for row, name in enumerate(classes):
            if name in COCO_80:
                known = COCO_80.index(name)
                level.scores.weight[row] = torch.cat([class_weight[known], object_weight[0]])
                bias_of(level.scores)[row] = class_bias[known] + object_bias[0]


def _measure_norms(detector: nn.Module, pictures: Tensor) -> None:
    """Gives each norm the statistics of its input over `pictures`, and the gain and offset that undo them."""
    measured: dict[Conv, tuple[Tensor, Tensor]] = {}

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...], conv: Conv) -> None:
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
        measured[conv] = mean, variance

    hooks = [
        conv.norm.register_forward_pre_hook(lambda norm, inputs, conv=conv: measure(norm, inputs, conv))
        for conv in _convs(detector)
    ]
    was_training = detector.training
    detector.eval()
    with torch.no_grad():
        detector(pictures)
        for conv, (mean, variance) in measured.items():
            norm = conv.norm
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.add_(mean)
    for hook in hooks:
        hook.remove()
    detector.train(was_training)
