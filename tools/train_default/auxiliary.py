"""The branch that only training has: programmable gradient information (YOLOv9, arXiv:2402.13616, section 4.1).

A deep network forgets the picture, and its gradients then teach it what the last layers still hold. The **auxiliary
reversible branch** looks at the picture again with layers of its own, and **multi-level auxiliary information** is
drawn out of the backbone at every stride (the paper's CBLinear) and added in (its CBFuse), so that each stage of the
backbone gets gradients about objects of all sizes, not only about those of its own stride. The branch has a head and a
loss of its own. Nothing of it is exported.

It is smaller than the paper's, which repeats the whole backbone: one block a stage and a head of depth one.
"""

from __future__ import annotations

from gelan import WIDTHS, Gelan, Head, Separable, Stem
from torch import Tensor, nn
from torch.nn import functional


class Draw(nn.Module):
    """CBLinear: 1 x 1 on a backbone's feature, one slice for its own stride and for each finer one."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.widths = WIDTHS[: level + 1]
        self.conv = nn.Conv2d(WIDTHS[level], sum(self.widths), 1)

    def forward(self, feature: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.conv(feature).split(self.widths, dim=1))


class Auxiliary(nn.Module):
    """Picture [b, 3, h, w] and the backbone's three features to what `gelan.Head` returns."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.draws = nn.ModuleList(Draw(level) for level in range(3))
        self.entry = nn.Sequential(Stem(16), Separable(16, 32, 2))
        self.downs = nn.ModuleList(
            Separable(below, width, 2) for below, width in zip((32, 64, 128), WIDTHS, strict=True)
        )
        self.stages = nn.ModuleList(Gelan(width, width, width // 2, 1, residual=True) for width in WIDTHS)
        self.head = Head(classes, depth=1)

    def forward(self, pictures: Tensor, features: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        drawn = [draw(feature) for draw, feature in zip(self.draws, features, strict=True)]
        x, levels = self.entry(pictures), []
        for level, (down, stage) in enumerate(zip(self.downs, self.stages, strict=True)):
            x = down(x)
            for slices in drawn[level:]:
                x = x + functional.interpolate(slices[level], size=x.shape[2:], mode="nearest")
            x = stage(x)
            levels.append(x)
        return self.head((levels[0], levels[1], levels[2]))
