"""The detector that Edge SDK carries: a GELAN backbone and neck, and a decoupled head with DFL sides.

The parts and where they come from:

* **GELAN**, generalized efficient layer aggregation network (Wang, Yeh, Liao: "YOLOv9: Learning What You Want to Learn
  Using Programmable Gradient Information", arXiv:2402.13616, section 4.2). CSPNet splits a stage's channels in two and
  computes on one half only; ELAN hands the output of *every* block in the chain, not the last alone, to the layer that
  joins them. GELAN is both, with any block as the unit of computation. Here the unit is a bottleneck of depthwise
  separable convolutions, which is what a small CPU pays least for.
* **PGI**, programmable gradient information (section 4.1): an auxiliary reversible branch that sees the picture itself,
  and multi-level auxiliary information that it draws from the main branch. Both serve the gradients alone: the branch
  is left behind when the detector is exported (``auxiliary.py``).
* **DFL**, distribution focal loss (Li et al., arXiv:2006.04388): a side of a box is the expectation over ``BINS``
  distances in strides.

A CSP stage is a GELAN stage whose join reads only the last block, so the weights of a CSP network can be carried over
without any change of its function (``inherit.py``).

Shapes: pictures are float32 [b, 3, h, w], BGR, 0 to 255, sides divisible by 32; features at strides 8, 16 and 32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
WIDTHS = (64, 128, 256)
"""Channels at each stride."""
BINS = 8
"""Distances a side can take, in strides: 0 to 7. At stride 32 that is a box of 448 pixels, more than the input."""
_TOWER = 64
_PRIOR = 0.01
"""Probability that the class scores begin with (RetinaNet, arXiv:1708.02002, section 4.1)."""


class Conv(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        padding = (kernel - 1) // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.norm(self.conv(x)))


class Separable(nn.Sequential):
    """A depthwise 3 x 3 convolution and the 1 x 1 that mixes its channels."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(Conv(inputs, inputs, 3, stride, groups=inputs), Conv(inputs, outputs))


class Bottleneck(nn.Module):
    """GELAN's unit of computation here: 1 x 1, then a separable 3 x 3, the input added where ``residual``."""

    def __init__(self, width: int, residual: bool) -> None:
        super().__init__()
        self.mix = Conv(width, width)
        self.look = Separable(width, width)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.look(self.mix(x))
        return x + y if self.residual else y


class Gelan(nn.Module):
    """One stage: split in two, a chain of blocks on one half, everything that was computed joined by a 1 x 1.

    Args:
        inputs, outputs: Channels.
        width: Channels of each half, and of each block.
        blocks: How many blocks the chain has.
        residual: Whether a block adds its input.
        chain_joins: Whether the half that enters the chain is joined too. Without it a chain of one is a CSP stage.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int, blocks: int, residual: bool, chain_joins: bool = True
    ) -> None:
        super().__init__()
        # The paper's one layer of 2 * width and its split, as two layers: an engine need not copy the halves apart.
        self.aside, self.chain = Conv(inputs, width), Conv(inputs, width)
        self.blocks = nn.ModuleList(Bottleneck(width, residual) for _ in range(blocks))
        self.join = Conv((1 + chain_joins + blocks) * width, outputs)
        self.chain_joins = chain_joins

    def forward(self, x: Tensor) -> Tensor:
        aside, y = self.aside(x), self.chain(x)
        taps = [aside, y] if self.chain_joins else [aside]
        for block in self.blocks:
            y = block(y)
            taps.append(y)
        return self.join(torch.cat(taps, dim=1))


class PoolPyramid(nn.Module):
    """Max-pools of 5, 9 and 13 pixels beside the input (SPP). Three of 5 in a row are the same, and cheaper."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = Conv(inputs, inputs // 2)
        self.join = Conv(2 * inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        taps = [self.reduce(x)]
        for _ in range(3):
            taps.append(functional.max_pool2d(taps[-1], 5, 1, 2))
        return self.join(torch.cat(taps, dim=1))


class Stem(Conv):
    """A 6 x 6 convolution of stride 2 on the picture: what slicing it into quarters and a 3 x 3 over them would do."""

    def __init__(self, outputs: int) -> None:
        super().__init__(3, outputs, 6, 2)
        self.conv.padding = (2, 2)


class Backbone(nn.Module):
    """Picture to features of 64, 128 and 256 channels at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Sequential(Stem(16), Separable(16, 32, 2), Gelan(32, 32, 16, 1, residual=True))
        self.down3, self.stage3 = Separable(32, 64, 2), Gelan(64, 64, 32, 3, residual=True)
        self.down4, self.stage4 = Separable(64, 128, 2), Gelan(128, 128, 64, 3, residual=True)
        self.down5, self.pool5 = Separable(128, 256, 2), PoolPyramid(256, 256)
        # The half that enters the chain would take 32,768 weights more here, and the whole over a million.
        self.stage5 = Gelan(256, 256, 128, 1, residual=False, chain_joins=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b3 = self.stage3(self.down3(self.entry(x)))
        b4 = self.stage4(self.down4(b3))
        return b3, b4, self.stage5(self.pool5(self.down5(b4)))

    def hold_entry(self, held: bool) -> None:
        """Whether the layers up to stride 4, a third of the work of a step, neither learn nor measure."""
        self.entry.requires_grad_(not held)
        if held:
            self.entry.eval()


class Neck(nn.Module):
    """The path aggregation network: coarse features go down to fine ones, then back up."""

    def __init__(self) -> None:
        super().__init__()
        self.lateral5, self.top4 = Conv(256, 128), Gelan(256, 128, 64, 1, residual=False)
        self.lateral4, self.top3 = Conv(128, 64), Gelan(128, 64, 32, 1, residual=False)
        self.down4, self.out4 = Separable(64, 64, 2), Gelan(128, 128, 64, 1, residual=False)
        self.down5, self.out5 = Separable(128, 128, 2), Gelan(256, 256, 128, 1, residual=False)

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        b3, b4, b5 = features
        lateral5 = self.lateral5(b5)
        lateral4 = self.lateral4(self.top4(torch.cat([_twice(lateral5), b4], dim=1)))
        p3 = self.top3(torch.cat([_twice(lateral4), b3], dim=1))
        p4 = self.out4(torch.cat([self.down4(p3), lateral4], dim=1))
        p5 = self.out5(torch.cat([self.down5(p4), lateral5], dim=1))
        return p3, p4, p5


class LevelHead(nn.Module):
    """One stride's output layers: a tower that looks for classes, one that looks for sides.

    The class scores read both towers: whether there is an object at all shows best in the one that measures it.
    """

    def __init__(self, inputs: int, classes: int, depth: int) -> None:
        super().__init__()
        self.reduce = Conv(inputs, _TOWER)
        self.look = nn.Sequential(*(Separable(_TOWER, _TOWER) for _ in range(depth)))
        self.measure = nn.Sequential(*(Separable(_TOWER, _TOWER) for _ in range(depth)))
        self.scores = nn.Conv2d(2 * _TOWER, classes, 1)
        self.sides = nn.Conv2d(_TOWER, 4 * BINS, 1)
        nn.init.constant_(bias_of(self.scores), torch.logit(torch.tensor(_PRIOR)).item())
        nn.init.constant_(bias_of(self.sides), 1.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.reduce(x)
        seen, measured = self.look(x), self.measure(x)
        return self.scores(torch.cat([seen, measured], dim=1)), self.sides(measured)


class Head(nn.Module):
    """Features at three strides to class logits [b, n, classes] and logits of the sides' bins [b, n, 4, BINS]."""

    def __init__(self, classes: int, depth: int = 2) -> None:
        super().__init__()
        self.levels = nn.ModuleList(LevelHead(width, classes, depth) for width in WIDTHS)

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        scores, sides = zip(*(level(x) for level, x in zip(self.levels, features, strict=True)), strict=True)
        logits = torch.cat([s.flatten(2) for s in scores], dim=2).transpose(1, 2)
        bins = torch.cat([s.flatten(2) for s in sides], dim=2).transpose(1, 2)
        return logits, bins.reshape(bins.shape[0], bins.shape[1], 4, BINS)


class Detector(nn.Module):
    """Backbone, neck, head: what is exported. Returns the head's logits."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = Backbone(), Neck(), Head(classes)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.neck(self.backbone(pictures)))


def anchors(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Centres [n, 2] (x, y in pixels) and strides [n, 1] of the places the head speaks for, stride by stride."""
    centres, strides = [], []
    for stride in STRIDES:
        ys, xs = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        centres.append((torch.stack([xs, ys], dim=-1).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((centres[-1].shape[0], 1), float(stride)))
    return torch.cat(centres), torch.cat(strides)


def decode(bins: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Bin logits [b, n, 4, BINS] to boxes [b, n, 4], xyxy in pixels: centre less, and plus, the expected sides."""
    distances = torch.arange(BINS, dtype=bins.dtype, device=bins.device)
    sides = (bins.softmax(dim=-1) @ distances[:, None]).squeeze(-1) * strides
    return torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], dim=-1)


def bias_of(conv: nn.Conv2d) -> Tensor:
    """The bias of an output layer, which always has one."""
    if conv.bias is None:
        raise TypeError("an output layer without a bias")
    return conv.bias


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
