"""A sensitivity of the user's own, in place of the sweep: a damage for each group, and the search that follows from it.

The user says how groups compare. How much damage that is on the detections is taken from probes of the front that
follows from it, one factor for all groups, so that predicted drops are in the same unit as those of a sweep. The
candidates are built, measured and picked as after a sweep: a sensitivity that is wrong finds worse points, and never a
figure that is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from edge_sdk.calibration.costs import Costs
from edge_sdk.calibration.probing import Prober
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.search import POINTS, Searched
from edge_sdk.calibration.sensitivity import Sensitivity
from edge_sdk.calibration.solver import Linear, front
from edge_sdk.calibration.surrogate import Surrogate
from edge_sdk.errors import UsageError, one_line

Function = Callable[[Problem], Mapping[str, float]]
"""Given the problem, the damage of each group that has the choice, by its name: from 0, in any unit, more is worse. As
with the damages of a sweep, those of several groups are taken to add up in power: the root of the sum of squares."""


def own(problem: Problem, function: Function) -> Sensitivity:
    """Asks the user's function.

    Args:
        problem: What it is given.
        function: The user's.

    Returns:
        As of a sweep: `alone` has its numbers, None for groups that are pinned; there are no probes.

    Raises:
        UsageError: It raised, leaves a group out, names one that is not there, or gives what is no number from 0; the
            message names it.
    """
    name = str(getattr(function, "__qualname__", type(function).__name__))
    try:
        given = dict(function(problem))
        damages = {str(group): float(value) for group, value in given.items()}
    except Exception as error:
        raise UsageError(f"the sensitivity {name} failed: {type(error).__name__}: {one_line(error)}") from error
    wanted = [group.name for group in problem.free]
    asked = [group for place, group in enumerate(wanted) if place not in problem.fixed]
    if strange := [group for group in damages if group not in {one.name for one in problem.groups}]:
        raise UsageError(f"the sensitivity {name} names {strange[0]!r}, and there is no such group")
    if lacking := [group for group in asked if group not in damages]:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise UsageError(f"the sensitivity {name} gives no damage for the group {lacking[0]!r}{more}")
    for group in asked:
        if not (math.isfinite(damages[group]) and damages[group] >= 0):
            raise UsageError(f"the sensitivity {name} gives {damages[group]} for {group!r}: it must be 0 or more")
    return Sensitivity(
        alone=tuple(None if place in problem.fixed else damages[group] for place, group in enumerate(wanted)),
        without=(None,) * len(wanted),
        base=tuple(problem.off.tolist()),
        pairs=(),
        probes=(),
        notes=(f"the damage of each group alone is by {name} and was not measured",),
    )


def model_of(found: Sensitivity) -> Surrogate:
    """The damage model of such a sensitivity: no pairs, in the user's unit."""
    damages = np.array([value or 0.0 for value in found.alone], np.float64)
    top = float(damages.max(initial=0.0))
    # The unit has no say: all are small beside the damage that is never reached, so that none is cut off.
    return Surrogate(np.square(damages / top if top > 0 else damages), {}, math.nan, 0)


def search_own(
    problem: Problem,
    prober: Prober,
    found: Sensitivity,
    costs: Costs,
    *,
    budgets: Sequence[Linear] = (),
    points: int = POINTS,
    stop: Callable[[], bool] = lambda: False,
) -> Searched:
    """The front that follows, and what its masks are probed to do.

    Args:
        problem: The model.
        prober: Of it.
        found: From `own`.
        costs: Of the problem.
        budgets: That every mask of the front meets.
        points: Of the front.
        stop: True ends the probes with what there is; masks that were not probed have the damage that is predicted.

    Returns:
        Every mask of the front, the fastest first: what the user's damages ask for is not thinned out by ours.

    Raises:
        PlanError: No mask meets the budgets.
        BackendError: A probe failed.
    """
    model = model_of(found)
    solved = front(model, costs, fixed=problem.fixed, points=points, budgets=budgets)
    settled = {tuple(mask.tolist()): mask for mask in (problem.settle(one.mask) for one in solved)}
    probed = {probe.mask: probe.damage for probe in prober.probe(list(settled.values()), kind="front", stop=stop)}
    told = [(model.loss(key), model.limit(damage)) for key, damage in probed.items() if model.loss(key) > 0]
    if told:
        factor = float(np.median([real / said for said, real in told]))
        model = replace(model, linear=model.linear * factor, probes=len(probed))
    masks = sorted(settled.values(), key=lambda mask: (costs.ms(mask), mask.tolist()))
    damages = tuple(probed.get(tuple(mask.tolist()), model.damage(mask)) for mask in masks)
    ratios = tuple(costs.ratio(mask) for mask in masks)
    return Searched(tuple(masks), damages, model, tuple(zip(ratios, damages, strict=True)), 1)
