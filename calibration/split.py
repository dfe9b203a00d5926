"""Three sides that share nothing: what ranges are taken from, what precisions are searched on, what decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Side = Literal["calibration", "search", "acceptance"]
SIDES: tuple[Side, ...] = get_args(Side)

# Ranges settle with few photos, probes are many and so use few photos, and a drop is told from chance by many.
LEAST_SEARCH = 32
LEAST_ACCEPTANCE = 256
_STRETCHES = 4  # of a group that must be cut: two go to calibration, which wants half


@dataclass(frozen=True)
class Sizes:
    """Pictures that each side should have."""

    calibration: int
    search: int
    acceptance: int


def sizes(pictures: int, count: int) -> Sizes:
    """How many pictures each side gets of so many.

    Calibration takes `count`, at most half. Of the others two fifths are searched on, at most 32 or half of `count`,
    and the rest accept, at most 256 or four times `count`. No side is empty.

    Args:
        pictures: At least 3.
        count: Wanted for calibration, at least 1.
    """
    calibration = max(1, min(count, pictures // 2))
    rest = pictures - calibration
    search = max(1, min(max(LEAST_SEARCH, count // 2), rest * 2 // 5))
    return Sizes(calibration, search, min(max(LEAST_ACCEPTANCE, 4 * count), rest - search))


def split(groups: Sequence[int], wanted: Sizes, seed: int) -> dict[Side, list[int]]:
    """Gives each group to one side, in an order drawn by chance, larger groups first.

    A side may get more than it wants, to choose from; what no side lacks goes to calibration, which chooses by
    diversity. The other two are so a random sample of what there is.

    Args:
        groups: Of each picture; three at least, or a side is empty.
        wanted: Pictures of each side.
        seed: Of the order.

    Returns:
        The pictures' numbers, ascending.
    """
    members = _members(groups)
    names = sorted(members)
    drawn = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    drawn.sort(key=lambda group: -len(members[group]))  # stable: equal sizes stay as they were drawn
    given: dict[Side, list[int]] = {side: [] for side in SIDES}
    quota: dict[Side, int] = {side: getattr(wanted, side) for side in SIDES}
    for group in drawn:
        # The emptiest by its own measure; the first of equals, which is calibration.
        side = max(SIDES, key=lambda side: (quota[side] - len(given[side])) / quota[side])
        if len(given[side]) >= quota[side]:
            side = "calibration"
        given[side] += members[group]
    return {side: sorted(given[side]) for side in SIDES}


def split_stretches(groups: Sequence[int], count: int, seed: int) -> tuple[list[int], dict[Side, list[int]]]:
    """Cuts groups where they are fewer than three, such as one clip, and gives each side some of each.

    A group is cut into four stretches, runs in the given order, so that neighbours stay together.

    Args:
        groups: Of each picture, in the order of time or name; three pictures at least.
        count: Wanted for calibration.
        seed: Of the order in which stretches are given to sides.

    Returns:
        The stretch of each picture, in the place of its group, and each side's pictures.
    """
    members = _members(groups)
    if max(map(len, members.values())) < len(SIDES):
        members = {0: list(range(len(groups)))}
    stretch = [0] * len(groups)
    given: dict[Side, list[int]] = {side: [] for side in SIDES}
    for number, group in enumerate(sorted(members)):
        pictures = members[group]
        size = len(pictures)
        runs = [place * min(_STRETCHES, size) // size for place in range(size)]
        for one, run in zip(pictures, runs, strict=True):
            stretch[one] = number * _STRETCHES + run
        if size < len(SIDES):
            given["calibration"] += pictures
            continue
        for side, places in split(runs, sizes(size, count), seed).items():
            given[side] += [pictures[place] for place in places]
    return stretch, {side: sorted(given[side]) for side in SIDES}


def random_part(pictures: Sequence[int], count: int, seed: int) -> list[int]:
    """At most `count` of them, drawn by chance, ascending."""
    if len(pictures) <= count:
        return list(pictures)
    chosen = np.random.default_rng(seed).permutation(len(pictures))[:count]
    return sorted(pictures[place] for place in chosen)


def _members(groups: Sequence[int]) -> dict[int, list[int]]:
    """The pictures of each group, ascending."""
    members: dict[int, list[int]] = {}
    for one, group in enumerate(groups):
        members.setdefault(group, []).append(one)
    return members
