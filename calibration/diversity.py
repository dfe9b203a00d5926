"""A few pictures that stand for many, and a reason in words for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.photos import Look, brightness

# Each fourth pick is the picture least like those chosen before it (greedy k-centre), the others stand for as many as
# they can (facility location): ranges are set by extremes, and must fit the usual.
EXTREME_EACH = 4
_OUTER = 0.15  # of the pictures: what lies so far out in a trait is named by it

# A trait's words for its low and its high end.
TRAITS = {
    "brightness": ("dark", "bright"),
    "contrast": ("flat light", "strong light and shade"),
    "colour": ("little colour", "strong colours"),
    "detail": ("little detail", "much detail"),
}


@dataclass(frozen=True)
class Pick:
    """A chosen picture.

    Args:
        number: Which one.
        extreme: Chosen because it is least like those before it, not because others are like it.
        stands_for: Pictures, itself included, to which it is the nearest of all that were chosen.
    """

    number: int
    extreme: bool
    stands_for: int


def traits(look: Look) -> NDArray[np.float32]:
    """Brightness, contrast, colour and detail of a picture, as in `TRAITS`, each 0..255; float32 [4].

    Mean and standard deviation of luma, mean distance between the strongest and weakest channel, mean edge.
    """
    luma, thumb = brightness(look.thumb), look.thumb.astype(np.int16)
    colour = (thumb.max(axis=2) - thumb.min(axis=2)).mean()
    return np.array([luma.mean(), luma.std(), colour, look.edges.mean()], np.float32)


def features(looks: Sequence[Look]) -> NDArray[np.float32]:
    """Pictures as points; a distance says how unlike two of them are.

    Four blocks that count alike: where it is bright (8 x 8), which colours it has where (two differences of channels,
    4 x 4), where it has edges along x and y (4 x 4), and the four traits. Within a block each value is taken from its
    mean over the pictures, and the block is scaled to a mean square of 1.

    Returns:
        float32 [n, 132].
    """
    if not looks:
        return np.zeros((0, 132), np.float32)
    thumbs = np.array([look.thumb for look in looks], np.float32)
    coarse = thumbs.reshape(-1, 4, 8, 4, 8, 3).mean(axis=(2, 4))
    light = np.array([brightness(look.thumb) for look in looks]).reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    colours = np.stack([coarse[..., 2] - coarse[..., 1], coarse[..., 0] - coarse[..., 1]], axis=-1)
    edges = np.log1p(np.array([look.edges for look in looks]))
    own = np.array([traits(look) for look in looks])
    own = own / np.maximum(own.std(axis=0), 1e-6)
    return np.concatenate([_block(part) for part in (light, colours, edges, own)], axis=1)


def _block(values: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = values.reshape(len(values), -1).astype(np.float64)
    flat -= flat.mean(axis=0)
    power = np.sqrt((flat**2).sum(axis=1).mean())
    return np.asarray(flat / max(float(power), 1e-6), np.float32)


def choose(points: NDArray[np.float32], count: int) -> list[Pick]:
    """Picks `count` points, or all; the first few are a good choice of so few too.

    Args:
        points: float32 [n, d].
        count: Wanted.

    Returns:
        In the order of their choice; of equals the first.
    """
    total = len(points)
    if total == 0:
        return []
    apart = _distances(points)
    # Before the first choice everything is as far away as can be.
    nearest = np.full(total, float(apart.max()) + 1.0)
    chosen: list[int] = []
    extreme: list[bool] = []
    free = np.ones(total, np.bool_)
    while len(chosen) < min(count, total):
        far = len(chosen) % EXTREME_EACH == EXTREME_EACH - 1
        # What each would bring all others nearer by, or how far it is from those chosen.
        worth = nearest if far else np.maximum(nearest - apart, 0).sum(axis=1)
        best = int(np.argmax(np.where(free, np.round(worth, 4), -1.0)))
        chosen.append(best)
        extreme.append(far)
        free[best] = False
        nearest = np.minimum(nearest, apart[best])
    owner = np.argmin(apart[chosen], axis=0)
    owner[chosen] = np.arange(len(chosen))
    stands = np.bincount(owner, minlength=len(chosen))
    return [Pick(one, far, int(many)) for one, far, many in zip(chosen, extreme, stands, strict=True)]


def _distances(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean, float32 [n, n], exactly symmetric and 0 on the diagonal."""
    square = (points**2).sum(axis=1)
    apart = np.maximum(square[:, None] + square[None] - 2 * (points @ points.T), 0)
    apart = np.sqrt((apart + apart.T) / 2)
    np.fill_diagonal(apart, 0)
    return np.asarray(apart, np.float32)


def descriptions(looks: Sequence[Look]) -> list[str]:
    """What is particular about each picture among the others, in words: "dark, little detail"."""
    if not looks:
        return []
    table = np.array([traits(look) for look in looks])
    low, high = np.quantile(table, [_OUTER, 1 - _OUTER], axis=0)
    found = []
    for row in table:
        words = [
            names[0] if value < under else names[1]
            for value, under, over, names in zip(row, low, high, TRAITS.values(), strict=True)
            if value < under or value > over
        ]
        found.append(", ".join(words) or "usual in light, colour and detail")
    return found


def reason(pick: Pick, description: str) -> str:
    """Why a picture was chosen, in a line."""
    if pick.extreme:
        return f"least like those chosen before it: {description}"
    if pick.stands_for > 1:
        return f"stands for {pick.stands_for} pictures of its kind: {description}"
    return f"stands for itself: {description}"
