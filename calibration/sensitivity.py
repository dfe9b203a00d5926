"""What each group does to the detections: alone, from near the full mask, in pairs, and in many masks at random.

Damages do not add up: hundreds of small roundings blur each other, and one bad tensor hides all the others. So a group
is looked at from both ends, and masks are drawn where the answer will lie, for the model that is fitted to all of them
(`edge_sdk.calibration.surrogate`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.graph import reads
from edge_sdk.calibration.probing import Probe, Prober, Stop
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.switchable import Mask
from edge_sdk.errors import UsageError

Progress = Callable[[str, int, int], None]

# The base of the second sweep: with more damage than this one group more or less hardly shows.
_BASE_DAMAGE = 0.2
# Shares of the groups, the worst, that are switched off in the masks among which the base is looked for.
_SHARES = (0, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.45, 0.6)
_WORST = 8  # groups of which all pairs are probed
_NEIGHBOURS = 12  # pairs of groups that follow each other, at most
# Noise on the logarithm of the damage by which random masks are ranked: from "as the ranking says" to "by chance".
_SPREADS = (0.5, 1.0, 2.0)
_LEAST_SHARE = 1 / 6  # of the groups that are on in a random mask
_FAINT = 1e-4  # damages below this are alike


@dataclass(frozen=True)
class Sensitivity:
    """What a sweep found.

    Args:
        alone: Damage with each group alone in the low precision; None where it is pinned or there was no time.
        without: Damage that goes when each group leaves the low precision, the others being as in `base`; None where
            it is pinned, the engine would take it along anyway, or there was no time.
        base: Mask of the second sweep: all in the low precision but for the worst, until the damage is moderate.
        pairs: Positions of two groups, the lower first, and how much more damage they do together than two that have
            nothing to do with each other, whose powers add up: the root of the sum of squares.
        probes: All of them, in the order in which they were asked for.
        notes: What is unusual.
    """

    alone: tuple[float | None, ...]
    without: tuple[float | None, ...]
    base: tuple[bool, ...]
    pairs: tuple[tuple[int, int, float], ...]
    probes: tuple[Probe, ...]
    notes: tuple[str, ...]


def sweep(
    prober: Prober,
    problem: Problem,
    *,
    draws: int | None = None,
    stop: Stop | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> Sensitivity:
    """Probes all groups alone, without each, in pairs and in random masks.

    About 2.3 n + 60 probes for n groups. The same masks whatever the number of workers.

    Args:
        prober: Of the problem.
        problem: Whose free groups are looked at; pinned ones stay as they are.
        draws: Random masks; None is a quarter as many as groups.
        stop: True ends it early, with what there is.
        progress: Called with (what is being done, how much of it is done, of how many).
        seed: Of the random masks.

    Raises:
        UsageError: `draws` is below 0, or the caller's metric failed.
        BackendError: A probe failed.
    """
    if draws is not None and draws < 0:
        raise UsageError(f"draws must be 0 or more, not {draws}")
    return _Sweep(prober, problem, stop, progress, np.random.default_rng(seed)).run(draws)


class _Sweep:
    def __init__(
        self,
        prober: Prober,
        problem: Problem,
        stop: Stop | None,
        progress: Progress | None,
        random: np.random.Generator,
    ) -> None:
        self._prober, self._problem, self._stop, self._progress = prober, problem, stop, progress
        self._random = random
        self._count = len(problem.free)
        self._movable = [place for place in range(self._count) if place not in problem.fixed]
        self._found: dict[bytes, Probe] = {}

    def run(self, draws: int | None) -> Sensitivity:
        """All of it, in turn."""
        problem = self._problem
        self._probe("whole", [problem.off, problem.on])
        singles = {place: self._with(problem.off, place, low=True) for place in self._movable}
        self._probe("alone", list(singles.values()))
        alone = {place: self._damage(mask) for place, mask in singles.items()}
        if any(damage is None for damage in alone.values()):
            return self._result(alone, {}, problem.on, ())
        damages = np.array([alone[place] or 0.0 for place in self._movable])
        order = [self._movable[index] for index in np.argsort(damages, kind="stable")]  # the least first
        base = self._base(order)
        others = {place: self._with(base, place, low=not base[place]) for place in self._movable}
        self._probe("without", list(others.values()), base)
        pairs = self._pairs(order)
        self._probe("pair", [self._both(*pair) for pair in pairs])
        self._probe("random", self._drawn(damages, len(self._movable) // 4 if draws is None else draws))
        return self._result(alone, others, base, pairs)

    def _base(self, order: Sequence[int]) -> Mask:
        """The fullest of some masks whose damage is moderate; the emptiest where none is."""
        masks = []
        for share in _SHARES:
            mask = self._problem.on
            mask[list(order[len(order) - round(share * len(order)) :])] = False
            masks.append(self._problem.settle(mask))
        self._probe("ranked", masks)
        for mask in masks:
            damage = self._damage(mask)
            if damage is not None and damage <= _BASE_DAMAGE:
                return mask
        return masks[-1]

    def _pairs(self, order: Sequence[int]) -> list[tuple[int, int]]:
        """Neighbours among the worst half first, then all pairs of the worst."""
        rank = {place: number for number, place in enumerate(reversed(order))}
        near = [pair for pair in neighbours(self._problem) if all(place in rank for place in pair)]
        near.sort(key=lambda pair: (max(rank[place] for place in pair), pair))
        worst = itertools.combinations(sorted(rank, key=lambda place: rank[place])[:_WORST], 2)
        both = (*near[:_NEIGHBOURS], *((min(pair), max(pair)) for pair in worst))
        return list(dict.fromkeys(both))

    def _drawn(self, damages: NDArray[np.float64], count: int) -> list[Mask]:
        """Masks as a solver will ask for: mostly of groups that do little damage, of every size."""
        masks = []
        places = np.array(self._movable, np.int64)
        logs = np.log(np.maximum(damages, _FAINT))
        for _ in range(count if len(places) else 0):
            spread = float(self._random.choice(_SPREADS))
            ranked = np.argsort(logs + self._random.normal(0, spread, len(logs)), kind="stable")
            size = int(self._random.integers(int(np.ceil(len(places) * _LEAST_SHARE)), len(places) + 1))
            mask = self._problem.off
            mask[places[ranked[:size]]] = True
            masks.append(mask)
        return masks

    # --- probes ---------------------------------------------------------------------------------------

    def _probe(self, kind: str, masks: Sequence[Mask], base: Mask | None = None) -> None:
        def tell(done: int, total: int) -> None:
            if self._progress is not None:
                self._progress(f"probe: {kind}", done, total)

        for probe in self._prober.probe(masks, kind=kind, base=base, progress=tell, stop=self._stop):
            self._found.setdefault(np.array(probe.mask, np.bool_).tobytes(), probe)

    def _damage(self, mask: Mask) -> float | None:
        probe = self._found.get(self._problem.settle(mask).tobytes())
        return None if probe is None else probe.damage

    def _with(self, mask: Mask, place: int, *, low: bool) -> Mask:
        changed: Mask = mask.copy()
        changed[place] = low
        return changed

    def _both(self, first: int, second: int) -> Mask:
        mask = self._problem.off
        mask[[first, second]] = True
        return mask

    # --- the result -------------------------------------------------------------------------------------

    def _result(
        self,
        alone: dict[int, float | None],
        others: dict[int, Mask],
        base: Mask,
        pairs: Sequence[tuple[int, int]],
    ) -> Sensitivity:
        level = self._damage(base)
        without: list[float | None] = [None] * self._count
        for place, mask in others.items():
            damage = self._damage(mask)
            if damage is None or level is None or self._problem.settle(mask)[place] == base[place]:
                continue
            without[place] = level - damage if base[place] else damage - level
        together = []
        for first, second in pairs:
            damage, one, other = self._damage(self._both(first, second)), alone.get(first), alone.get(second)
            if damage is not None and one is not None and other is not None:
                together.append((first, second, damage - math.hypot(one, other)))
        return Sensitivity(
            tuple(alone.get(place) for place in range(self._count)),
            tuple(without),
            tuple(base.tolist()),
            tuple(together),
            tuple(self._found.values()),
            self._prober.notes,
        )


def neighbours(problem: Problem) -> tuple[tuple[int, int], ...]:
    """Positions of free groups of which one reads what the other makes, the lower first, in order."""
    place = {name: number for number, group in enumerate(problem.free) for name in group.nodes}
    found = set()
    for node in problem.graph.nodes:
        for tensor in reads(node):
            maker = problem.graph.producer(tensor)
            if maker is None or maker.name not in place or node.name not in place:
                continue
            pair = sorted((place[maker.name], place[node.name]))
            if pair[0] != pair[1]:
                found.add((pair[0], pair[1]))
    return tuple(sorted(found))
