"""Which pictures are nearly the same, and which show one scene.

Two relations. *Nearly the same*: a copy in another size or compression; the second one teaches nothing and is left out.
*One scene*: also a copy cut a little, brightened or mirrored, or a neighbour in a burst; both may stay, but on one side
of the split, since a model that was fitted to one is not judged by the other.

Figures behind the limits, on 128 COCO photos: the hashes of two different photos are 16 to 46 of 63 bits apart (median
32); of a photo and its copy at JPEG quality 10 or a quarter of its size at most 4, brightened by 20 % at most 6, cut by
2 % at most 10. Of 700,000 pairs of 1187 photos of people and animals one is within 10. The largest difference of any
patch is at most 13 levels for a copy, and above 50 for two photos; a person who walks through a fixed camera's picture
changes some patch by 90 and more, with the hash unmoved.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.photos import Look, brightness

SCENE_BITS = 10  # of 63: hashes this near show one scene
NEAR_LEVELS = 24.0  # 0..255: no patch of a near-duplicate differs by more, but for a shift of the whole picture
_LOW = 8  # frequencies a side that a hash is made of
# A frequency that exceeds the median by less is noise, and its bit is 0: half a level's amplitude, of which the
# orthonormal transform of 32 x 32 pixels makes 16 times as much.
_FAINT = 8.0


def perceptual_hash(luma: NDArray[np.float32]) -> NDArray[np.bool_]:
    """63 bits of a picture's lowest frequencies: which are stronger than their median.

    The DCT hash of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2.1,
    without the constant term.

    Args:
        luma: float32 [32, 32], 0..255.
    """
    low = np.asarray(cv2.dct(luma))[:_LOW, :_LOW].ravel()[1:]
    return np.asarray(low > np.median(low) + _FAINT, np.bool_)


class Likeness:
    """Pictures made comparable, each with all others at once.

    Args:
        looks: The pictures, in the order in which the first of several is kept.
    """

    def __init__(self, looks: Sequence[Look]) -> None:
        lumas = [brightness(look.thumb) for look in looks]
        self._bits = _signs([perceptual_hash(luma) for luma in lumas])
        self._mirrored = _signs([perceptual_hash(np.ascontiguousarray(luma[:, ::-1])) for luma in lumas])
        patches = [luma.reshape(16, 2, 16, 2).mean(axis=(1, 3)).ravel() for luma in lumas]
        self._patches = np.array(patches, np.float32).reshape(len(looks), 256)

    def __len__(self) -> int:
        return len(self._bits)

    def distance(self, one: int, others: NDArray[np.intp]) -> NDArray[np.intp]:
        """Bits in which the hashes differ, the mirrored one's where that is nearer; [n]."""
        same = np.maximum(self._bits[others] @ self._bits[one], self._bits[others] @ self._mirrored[one])
        return np.asarray((self._bits.shape[1] - same) / 2, np.intp)

    def same_scene(self, one: int, others: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which of `others` show the scene of `one`; bool [n]."""
        return np.asarray(self.distance(one, others) <= SCENE_BITS, np.bool_)

    def nearly_same(self, one: int, others: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which of `others` are nearly the same picture as `one`; bool [n]."""
        near = np.asarray((self._bits.shape[1] - self._bits[others] @ self._bits[one]) / 2 <= SCENE_BITS, np.bool_)
        for place in np.flatnonzero(near):
            change = self._patches[others[place]] - self._patches[one]
            near[place] = np.abs(change - np.median(change)).max() <= NEAR_LEVELS
        return near


def _signs(bits: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """-1 and 1, so that a product counts the bits that agree less those that differ."""
    return np.array(bits, np.float32).reshape(len(bits), _LOW * _LOW - 1) * 2 - 1


def leaders(likeness: Likeness) -> list[int]:
    """For each picture the first kept one that it nearly is; itself where it is kept.

    No two kept pictures are nearly the same.
    """
    kept: list[int] = []
    leader: list[int] = []
    for one in range(len(likeness)):
        near = np.flatnonzero(likeness.nearly_same(one, np.array(kept, np.intp)))
        leader.append(kept[near[0]] if near.size else one)
        if not near.size:
            kept.append(one)
    return leader


def groups(likeness: Likeness, together: Sequence[int]) -> list[int]:
    """A number for each picture; those of one scene have one number, and so have their scenes' scenes.

    Args:
        likeness: Of all pictures, those that are left out included: they link others.
        together: A number for each picture; those of one number are of one clip, and so of one group.
    """
    parent = list(range(len(likeness)))

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    def join(one: int, other: int) -> None:
        low, high = sorted((root(one), root(other)))
        parent[high] = low

    first: dict[int, int] = {}
    for one, clip in enumerate(together):
        join(one, first.setdefault(clip, one))
        earlier = np.arange(one, dtype=np.intp)
        for other in np.flatnonzero(likeness.same_scene(one, earlier)):
            join(one, int(other))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(one), len(numbers)) for one in range(len(likeness))]
