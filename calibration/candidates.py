"""What is built to be held against each other: the simple answers, points of the front, and what bounds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edge_sdk.calibration.costs import Build as TimedBuild
from edge_sdk.calibration.costs import Costs
from edge_sdk.calibration.expected import Curve
from edge_sdk.calibration.outcome import Candidate, Timed
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.request import Request
from edge_sdk.calibration.search import Searched
from edge_sdk.calibration.simple import head_mask
from edge_sdk.calibration.solver import Linear
from edge_sdk.calibration.switchable import Mask
from edge_sdk.calibration.verification import REFERENCE, Build, Verified


def timed_build(one: Candidate) -> TimedBuild:
    """A candidate that was lowered and timed, as the cost model is fitted to it."""
    assert one.mask is not None  # noqa: S101  only those that were lowered are asked
    assert one.latency is not None  # noqa: S101  and timed
    return TimedBuild(one.mask, one.latency)


def simple_builds(problem: Problem, costs: Costs) -> list[Build]:
    """The answers that need no planner."""
    builds = [Build("float", "float", None), Build(REFERENCE, "high", np.zeros_like(problem.off), 1.0)]
    if problem.off.any():
        builds.append(Build(f"{problem.high}, but for pins", "high", problem.off, costs.ratio(problem.off)))
    for name, kind, mask in (
        (f"uniform {problem.low}", "low", problem.on),
        (f"{problem.low}, head in {problem.high}", "head", head_mask(problem)),
    ):
        builds.append(Build(name, kind, mask, costs.ratio(mask)))  # type: ignore[arg-type]
    return builds


def hybrid_builds(
    problem: Problem, masks: Sequence[Mask], searched: Searched, costs: Costs, curve: Curve,
    known: Sequence[Candidate] = (),
) -> list[Build]:  # fmt: skip
    """Builds of masks that are none of the simple ones, nor known already."""
    damages = {mask.tobytes(): damage for mask, damage in zip(searched.masks, searched.damages, strict=True)}
    built = {problem.off.tobytes(), problem.on.tobytes()}
    built |= {np.array(one.mask, np.bool_).tobytes() for one in known if one.mask is not None}
    number = sum(one.kind == "hybrid" for one in known)
    return [
        Build(f"hybrid {at}", "hybrid", mask, costs.ratio(mask), curve.drop(damages[mask.tobytes()]))
        for at, mask in enumerate((one for one in masks if one.tobytes() not in built), number + 1)
    ]


def with_estimates(verified: Verified, costs: Costs) -> Verified:
    """The candidates with latencies by the cost model, which are marked as such."""
    timed = []
    for one in verified.candidates:
        mask = np.zeros(len(costs.gain_ms), np.bool_) if one.mask is None else np.array(one.mask, np.bool_)
        ms, ratio = costs.ms(mask), costs.ratio(mask)
        timed.append(replace(one, latency=Timed(ms, ratio, ratio, ratio, "estimated")))
    return replace(verified, candidates=tuple(timed))


def linear_budgets(problem: Problem, request: Request) -> list[Linear]:
    """Budgets that are sums over groups."""
    if request.max_size_mib is None:
        return []
    sizes = []
    for switch in problem.switches:
        arrays = [problem.graph.constant(name) for name in switch.weights]
        sizes.append(sum(array.size for array in arrays if array is not None))
    whole = problem.model.ByteSize()
    return [Linear("size", -3.0 * np.array(sizes, np.float64), float(whole), request.max_size_mib * 2**20)]
