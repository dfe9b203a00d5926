"""From damages and times to the masks that are worth building: the front, probed and fitted again, round by round.

The solver's points are where the damage model is trusted most and known least, since a solver looks for a model's
mistakes. So they are probed, the model is fitted with what came out, and solved again, until nothing new comes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.calibration.costs import Costs
from edge_sdk.calibration.probing import Probe, Prober
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.solver import Linear, front
from edge_sdk.calibration.surrogate import Surrogate, fit
from edge_sdk.calibration.switchable import Mask

ROUNDS = 2
POINTS = 12
_FAINT = 1e-4  # damages below this are alike


@dataclass(frozen=True, eq=False)
class Searched:
    """What a search found.

    Args:
        masks: Settled, that no other one beats in both predicted latency and probed damage, the fastest first.
        damages: Of each, as probed; of all that are off 0.
        surrogate: The damage model after the last round.
        front: (predicted latency ratio, damage) of `masks`.
        rounds: How many there were.
    """

    masks: tuple[Mask, ...]
    damages: tuple[float, ...]
    surrogate: Surrogate
    front: tuple[tuple[float, float], ...]
    rounds: int


def search(
    problem: Problem,
    prober: Prober,
    probes: Sequence[Probe],
    costs: Costs,
    *,
    budgets: Sequence[Linear] = (),
    rounds: int = ROUNDS,
    points: int = POINTS,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Searched:
    """Solves, probes and fits in turn.

    Args:
        problem: The model.
        prober: Of it.
        probes: What is known already.
        costs: Of it.
        budgets: That every mask of the front meets.
        rounds: At most.
        points: Of each front.
        stop: True ends it with what there is.
        progress: Told how many rounds are done, of how many.

    Raises:
        PlanError: No mask meets the budgets.
        BackendError: A probe failed.
    """
    known = {probe.mask: probe for probe in probes}
    if not any(any(mask) for mask in known):
        # There was no time for a probe, or every group is pinned to the high precision.
        nothing = Surrogate(np.zeros(len(problem.free)), {}, math.nan, 0)
        return Searched((problem.off,), (0.0,), nothing, ((costs.ratio(problem.off), 0.0),), 0)
    surrogate = fit(list(known.values()))
    done = 0
    while done < rounds:
        found = front(surrogate, costs, fixed=problem.fixed, points=points, budgets=budgets)
        settled = {tuple(mask.tolist()): mask for mask in (problem.settle(one.mask) for one in found)}
        new = [mask for key, mask in settled.items() if key not in known]
        done += 1
        if not new or stop():
            break
        for probe in prober.probe(new, kind="front", stop=stop):
            known.setdefault(probe.mask, probe)
        surrogate = fit(list(known.values()))
        progress(done, rounds)
    meets = [probe for probe in known.values() if _within(probe.mask, budgets)]
    best = _not_dominated(meets, costs)
    return Searched(
        tuple(np.array(probe.mask, np.bool_) for probe in best),
        tuple(probe.damage for probe in best),
        surrogate,
        tuple((costs.ratio(np.array(probe.mask, np.bool_)), probe.damage) for probe in best),
        done,
    )


def spread_out(searched: Searched, count: int) -> list[Mask]:
    """Some masks of a front that stand for all of it, the fastest first.

    Ends first, then always the one farthest from those taken, seen in latency and in the logarithm of the damage.

    Args:
        searched: The front.
        count: How many, at most.
    """
    masks = list(searched.masks)
    if len(masks) <= count:
        return masks
    places = np.array([[ratio, np.log10(max(damage, _FAINT))] for ratio, damage in searched.front])
    places = places / np.maximum(np.ptp(places, axis=0), 1e-9)
    taken = [0, len(masks) - 1][:count]
    while len(taken) < count:
        gaps = np.abs(places[:, None] - places[taken][None]).sum(axis=2).min(axis=1)
        taken.append(int(np.argmax(gaps)))
    return [masks[at] for at in sorted(set(taken))]


def near(searched: Searched, count: int, *, ratio: float | None = None, damage: float | None = None) -> list[Mask]:
    """The masks of a front about a budget, the fastest first: those within it that are nearest, and one beyond.

    Args:
        searched: The front.
        count: How many, at most.
        ratio: Latency ratio that is the budget; or else
        damage: that is.
    """
    # Along the front the ratio rises and the damage falls: one budget is met up to a place, the other from a place on.
    if ratio is not None:
        last = sum(one <= ratio for one, _ in searched.front)
        places = range(last - count + 1, last + 1)
    else:
        first = sum(one > (damage or 0.0) for _, one in searched.front)
        places = range(first - 1, first + count - 1)
    return [searched.masks[at] for at in places if 0 <= at < len(searched.masks)]


def _within(mask: Sequence[bool], budgets: Sequence[Linear]) -> bool:
    on = np.asarray(mask, np.float64)
    return all(float(on @ one.values) + one.constant <= one.limit for one in budgets)


def _not_dominated(probes: Sequence[Probe], costs: Costs) -> list[Probe]:
    """In order of latency, each better than all faster ones."""
    priced = sorted((costs.ms(np.array(probe.mask, np.bool_)), probe.damage, probe.mask, probe) for probe in probes)
    best: list[Probe] = []
    for _, damage, _, probe in priced:
        if not best or damage < best[-1].damage:
            best.append(probe)
    return best
