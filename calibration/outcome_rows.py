"""What an outcome says of each group and of pairs of them."""

from __future__ import annotations

from typing import Any

from edge_sdk.calibration.costs import Costs
from edge_sdk.calibration.expected import Curve
from edge_sdk.calibration.outcome import Candidate, GroupRow
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.sensitivity import Sensitivity
from edge_sdk.calibration.surrogate import Surrogate
from edge_sdk.calibration.switchable import Mask


def as_pinned(problem: Problem, one: Candidate) -> bool:
    """Whether a candidate can be the pick: it was lowered, and has what is pinned to the low precision in it."""
    return one.mask is not None and all(one.mask[place] for place, low in problem.fixed.items() if low)


def group_rows(
    problem: Problem, mask: Mask, found: Sensitivity, surrogate: Surrogate, costs: Costs, curve: Curve
) -> tuple[GroupRow, ...]:
    places = {group.name: place for place, group in enumerate(problem.free)}
    ratio, drop = costs.ratio(mask), curve.drop(surrogate.damage(mask))
    rows = []
    for group in problem.groups:
        macs = sum(problem.graph.macs(name) for name in group.nodes)
        place = places.get(group.name)
        if place is None:
            rows.append(GroupRow(group, group.precisions[-1], False, macs, None, None, None, None))
            continue
        turned = mask.copy()
        turned[place] = not turned[place]
        turned = problem.settle(turned)
        swap = None
        if turned[place] != mask[place]:
            swap = (costs.ratio(turned) - ratio, curve.drop(surrogate.damage(turned)) - drop)
        rows.append(
            GroupRow(
                group, problem.low if mask[place] else problem.high, group.name in problem.pinned, macs,
                found.alone[place], found.without[place], -float(costs.gain_ms[place]), swap,
            )
        )  # fmt: skip
    return tuple(rows)


def strongest_pairs(problem: Problem, surrogate: Surrogate, most: int = 40) -> tuple[tuple[str, str, float], ...]:
    strongest = sorted(surrogate.pairs.items(), key=lambda item: (-abs(item[1]), item[0]))[:most]
    return tuple((problem.free[a].name, problem.free[b].name, float(value)) for (a, b), value in strongest if value)


def name_of(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
