"""What a mask costs in time: a gain for each group, a price for each tensor where the precision changes.

Fitted to files that were built for real and timed in turns: the two uniform ones and a seeded design of mixed ones. The
engine's profile of each file says where its time goes, kernel by kernel, so that a dozen files are enough for hundreds
of unknowns: the profile gives each unknown's likely value, and the files' measured ratios correct what a profile
misses (its own overhead, what an engine adds around a region), by the least change that explains them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Layer
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.graph import Graph, model_bytes
from edge_sdk.calibration.groups import Group
from edge_sdk.calibration.kernel_times import Spent, spent
from edge_sdk.calibration.outcome import Origin, Timed
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.switchable import Mask
from edge_sdk.calibration.timing import CachedTimer, Timer
from edge_sdk.errors import UsageError
from edge_sdk.files import replacing

Progress = Callable[[float], None]
Stop = Callable[[], bool]
Floats = NDArray[np.float64]

BUILDS = 10
_LOW_SHARES = (0.5, 0.7, 0.85, 0.6, 0.8, 0.92, 0.4)
_RUN_LENGTHS = (1, 4, 12)  # of groups in a row in one precision: borders everywhere, some, few

# How far a profile is trusted, as standard deviations. On two detectors half or twice as much moved the error on builds
# left out by less than 1 %.
_OF_A_GAIN, _OF_A_BOUNDARY = 0.15, 0.3  # of each value, relative
_OF_ALL = 0.3  # of all values of a kind together, relative
_OF_A_BUILD = 0.007  # of a measured ratio, beside its interval


@dataclass(frozen=True)
class Boundary:
    """A tensor at which the precision may change.

    Args:
        tensor: Its name.
        producer: Position of the free group that makes it; None: always in the high precision.
        consumers: Positions of those that read it, in order; None among them: something in the high precision does.
        to_low_ms: Cost where the producer is high and any reader low.
        to_high_ms: Cost where the producer is low and any reader high.
    """

    tensor: str
    producer: int | None
    consumers: tuple[int | None, ...]
    to_low_ms: float = 0.0
    to_high_ms: float = 0.0


@dataclass(frozen=True)
class Build:
    """A file that was timed.

    Args:
        mask: Settled.
        timed: Against the file with all groups in the high precision.
    """

    mask: tuple[bool, ...]
    timed: Timed


@dataclass(frozen=True, eq=False)
class Costs:
    """The cost model.

    Args:
        high_ms: With all groups in the high precision.
        gain_ms: [n] added when that free group goes low; below 0 is faster.
        boundaries: In the order of the graph.
        method: How it is known.
        on: What it was measured on.
        error: Median and largest relative error of the ratio over builds that were left out of the fit one by one;
            None where nothing was measured.
        builds: That it was fitted to.
        prior: What it was before any build; None where there is nothing to fit.
    """

    high_ms: float
    gain_ms: Floats
    boundaries: tuple[Boundary, ...]
    method: Origin
    on: str
    error: tuple[float, float] | None = None
    builds: tuple[Build, ...] = ()
    prior: Prior | None = field(default=None, repr=False)

    def ms(self, mask: Mask) -> float:
        """Predicted milliseconds of a settled mask."""
        return self.high_ms + float(features(self.boundaries, mask) @ self._weights)

    def ratio(self, mask: Mask) -> float:
        """Predicted latency over that of all groups in the high precision."""
        return self.ms(mask) / self.high_ms

    @property
    def saved_ms(self) -> Floats:
        """[n] saved by each free group in the low precision, as a solver counts it; below 0 where it costs."""
        return np.asarray(-self.gain_ms, np.float64)

    @cached_property
    def _weights(self) -> Floats:
        to_low = [one.to_low_ms for one in self.boundaries]
        to_high = [one.to_high_ms for one in self.boundaries]
        return np.concatenate([self.gain_ms, to_low, to_high])


@dataclass(frozen=True, eq=False)
class Prior:
    """Likely values of the unknowns (gains, then costs to low, then to high) before the builds' ratios are seen.

    Args:
        mean: [n + 2 b] ms.
        spread: [n + 2 b] standard deviation of each by itself, ms.
        together: [k, n + 2 b] standard deviations of what moves all of a kind at once, ms.
        high_ms: Of all groups in the high precision.
    """

    mean: Floats
    spread: Floats
    together: Floats
    high_ms: float


def boundaries_of(graph: Graph, free: Sequence[Group]) -> tuple[Boundary, ...]:
    """Every tensor that two groups share, or a group and something that is always in the high precision.

    Args:
        graph: Of the prepared model.
        free: Groups that have the choice, in the order of a mask.
    """
    place = {node: position for position, group in enumerate(free) for node in group.nodes}
    found = []
    for tensor in (*graph.inputs, *(name for node in graph.nodes for name in node.output if name)):
        maker = graph.producer(tensor)
        producer = None if maker is None else place.get(maker.name)
        readers = [place.get(node.name) for node in graph.consumers(tensor)]
        if tensor in graph.outputs:
            readers.append(None)
        consumers = tuple(dict.fromkeys(sorted(readers, key=lambda one: (one is None, one or 0))))
        if consumers and any(one != producer for one in consumers):
            found.append(Boundary(tensor, producer, consumers))
    return tuple(found)


def crossings(boundaries: Sequence[Boundary], mask: Mask) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """At which boundaries a mask pays: bool [b] to the low precision, and back to the high one."""
    low = [False if one.producer is None else bool(mask[one.producer]) for one in boundaries]
    readers = [[False if one is None else bool(mask[one]) for one in boundary.consumers] for boundary in boundaries]
    to_low = [not made and any(read) for made, read in zip(low, readers, strict=True)]
    to_high = [made and not all(read) for made, read in zip(low, readers, strict=True)]
    return np.array(to_low, np.bool_), np.array(to_high, np.bool_)


def features(boundaries: Sequence[Boundary], mask: Mask) -> Floats:
    """[n + 2 b]: what a mask pays of each gain, each cost to low and each cost to high: 0 or 1."""
    return np.concatenate([mask, *crossings(boundaries, mask)]).astype(np.float64)


# --- the builds ---------------------------------------------------------------------------------------------


def design(problem: Problem, builds: int, seed: int) -> tuple[Mask, ...]:
    """Masks to build: all high, all low, then mixed ones of several shares and run lengths, settled, pins kept.

    Args:
        problem: The model.
        builds: Of all; at least 2. Fewer come back where the model has fewer masks.
        seed: Of the drawing.
    """
    count = len(problem.free)
    drawn = np.random.default_rng(seed)
    masks = {tuple(mask.tolist()): mask for mask in (np.zeros(count, np.bool_), problem.on)}
    for number in range(10 * builds):
        if len(masks) >= builds:
            break
        mask = _drawn(drawn, count, _LOW_SHARES[number % len(_LOW_SHARES)], _RUN_LENGTHS[number % len(_RUN_LENGTHS)])
        for place, low in problem.fixed.items():
            mask[place] = low
        mask = problem.settle(mask)
        masks.setdefault(tuple(mask.tolist()), mask)
    return tuple(masks.values())


def _drawn(drawn: np.random.Generator, count: int, share: float, run: int) -> Mask:
    """Runs of groups in one precision, long ones where `run` is large, with about this share in the low one."""
    mask = np.zeros(count, np.bool_)
    at, low = 0, bool(drawn.random() < share)
    while at < count:
        length = 1 if run == 1 else 1 + int(drawn.poisson(2 * run * (share if low else 1 - share)))
        mask[at : at + length] = low
        at += length
        low = bool(drawn.random() < share) if run == 1 else not low
    return mask


def save_build(problem: Problem, mask: Mask, cache: Cache, folder: Path) -> Path:
    """A settled mask's file in the engine's form, taken from the cache where it was built before.

    Raises:
        PlanError: It cannot be lowered.
        SinkError: It cannot be written.
    """
    text = "".join("1" if low else "0" for low in mask.tolist())
    key = Cache.key({"build": 1, "problem": problem.digest, "mask": text})
    path = folder / f"{key[:24]}.onnx"
    if not path.exists():
        data = cache.get_bytes_or(key, lambda: model_bytes(problem.lower(mask)))
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    return path


def measure_costs(
    problem: Problem,
    timer: Timer,
    cache: Cache,
    *,
    folder: Path,
    seed: int = 0,
    builds: int = BUILDS,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Costs:
    """Builds files, times and profiles them, and fits the cost model.

    Args:
        problem: The model.
        timer: What measures; asked through the cache only.
        cache: Keeps each file, profile and figure as it comes.
        folder: For the files.
        seed: Of the design.
        builds: How many files.
        progress: Told how far it is, 0..1.
        stop: Asked between steps; True ends it with the files that there are, the two uniform ones at least.

    Raises:
        UsageError: Fewer than 2 builds.
        BackendError: The engine cannot run a file.
        SinkError: A file cannot be written.
    """
    if builds < 2:
        raise UsageError(f"a cost model wants the two uniform files at least, not {builds}")
    cached = timer if isinstance(timer, CachedTimer) else CachedTimer(timer, cache)
    tell = progress or (lambda part: None)
    masks: list[Mask] = []
    files: dict[str, Path] = {}
    layers: list[Sequence[Layer]] = []
    wanted = design(problem, builds, seed)
    for number, mask in enumerate(wanted):
        if number >= 2 and stop is not None and stop():
            break
        masks.append(mask)
        files[str(number)] = save_build(problem, mask, cache, folder)
        layers.append(cached.layers(files[str(number)]))
        tell(0.6 * (number + 1) / len(wanted))
    timed = cached.time(files, reference="0")
    tell(1.0)
    found = tuple(Build(tuple(mask.tolist()), timed[str(number)]) for number, mask in enumerate(masks))
    return fitted(problem, found, layers, method=cached.method, on=cached.on)


# --- the fit ------------------------------------------------------------------------------------------------


def fitted(
    problem: Problem, builds: Sequence[Build], layers: Sequence[Sequence[Layer]], *, method: Origin, on: str
) -> Costs:
    """The cost model of builds and their profiles.

    Args:
        problem: The model.
        builds: The first is that with all groups in the high precision.
        layers: Of each build, as the engine names them.
        method, on: Of the figures.
    """
    boundaries = boundaries_of(problem.graph, problem.free)
    high_ms = builds[0].timed.ms
    places = {node: place for place, group in enumerate(problem.free) for node in group.nodes}
    tensors = {one.tensor: place for place, one in enumerate(boundaries)}
    profiled = []
    for build, found in zip(builds, layers, strict=True):
        named = problem.engine.in_names_of(problem.graph, found)
        times = spent(problem.graph, places, tensors, np.array(build.mask, np.bool_), named)
        # What profiling itself costs, and how busy the machine was, falls out by the file's own measured time.
        total = times.total_ms
        profiled.append(times.scaled(build.timed.ratio * high_ms / total) if total > 0 else times)
    elements = np.array([_elements(problem.graph, one.tensor) for one in boundaries])

    def prior_without(left_out: int | None) -> Prior:
        kept = [place for place in range(len(builds)) if place != left_out]
        return make_prior(
            boundaries, elements, [builds[place] for place in kept], [profiled[place] for place in kept], high_ms
        )

    costs = _posterior(prior_without(None), boundaries, builds, method, on)
    errors = [
        _posterior(prior_without(place), boundaries, [*builds[:place], *builds[place + 1 :]], method, on).ratio(
            np.array(builds[place].mask, np.bool_)
        )
        / builds[place].timed.ratio
        - 1
        for place in range(1, len(builds))
    ]
    return replace(costs, error=_summary(errors))


def refit(costs: Costs, builds: Sequence[Build]) -> Costs:
    """The cost model with more builds: candidates that were verified, timed against the same reference.

    Args:
        costs: Measured or estimated; an estimate becomes what the builds are.
        builds: New ones; one with a mask that is there already takes its place.
    """
    if costs.prior is None or not builds:
        return costs
    known = {build.mask: build for build in (*costs.builds, *builds)}
    every = tuple(known[mask] for mask in known)
    made = _posterior(costs.prior, costs.boundaries, every, builds[0].timed.method, costs.on)
    errors = []
    for left_out in every:
        rest = [build for build in every if build is not left_out]
        without = _posterior(costs.prior, costs.boundaries, rest, made.method, made.on)
        errors.append(without.ratio(np.array(left_out.mask, np.bool_)) / left_out.timed.ratio - 1)
    return replace(made, error=_summary(errors))


def make_prior(
    boundaries: Sequence[Boundary],
    elements: Floats,
    builds: Sequence[Build],
    profiled: Sequence[Spent],
    high_ms: float,
) -> Prior:
    """Likely costs from profiles: medians over the builds that show them.

    Args:
        boundaries: Of the model.
        elements: [b] of each boundary's tensor.
        builds: With `profiled` one to one.
        profiled: Scaled to the builds' own times.
        high_ms: Of all groups in the high precision.
    """
    masks = np.array([build.mask for build in builds], np.bool_).reshape(len(builds), -1)
    times = np.array([one.group_ms for one in profiled])
    low, high = _median(times, masks), _median(times, ~masks)
    gain = np.nan_to_num(low - high)
    edges = np.array([one.boundary_ms for one in profiled]).reshape(len(builds), len(boundaries))
    paid = [crossings(boundaries, mask) for mask in masks]
    means, spreads = [gain], [_OF_A_GAIN * np.maximum(np.nan_to_num(low), np.nan_to_num(high))]
    for way in (0, 1):
        seen = np.array([one[way] for one in paid]).reshape(edges.shape)
        cost = _median(np.nan_to_num(edges), seen & ~np.isnan(edges))
        known = ~np.isnan(cost) & (elements > 0)
        # A tensor whose change no build shows costs what the others do by the element.
        rate = float(np.median(cost[known] / elements[known])) if known.any() else 0.0
        means.append(np.where(np.isnan(cost), rate * elements, cost))
        spreads.append(np.where(np.isnan(cost), 2.0, 1.0) * _OF_A_BOUNDARY * means[-1])
    mean = np.concatenate(means)
    spread = np.concatenate(spreads) + 1e-4 * high_ms
    count, edge_count = masks.shape[1], len(boundaries)
    together = np.zeros((4, count + 2 * edge_count))
    together[0, :count] = 0.1 * np.nan_to_num(low)
    together[1, :count] = 0.1 * np.nan_to_num(high)
    together[2, count : count + edge_count] = _OF_ALL * means[1]
    together[3, count + edge_count :] = _OF_ALL * means[2]
    return Prior(mean, spread, together, high_ms)


def _posterior(prior: Prior, boundaries: Sequence[Boundary], builds: Sequence[Build], method: Origin, on: str) -> Costs:
    """The unknowns' mean given the builds' ratios: linear regression with a Gaussian prior (ridge, towards it).

    As in C. M. Bishop, "Pattern Recognition and Machine Learning", 2006, equation 3.50, written for fewer builds than
    unknowns. What a change of precision costs is then held at 0 at least.
    """
    count = prior.mean.shape[0] - 2 * len(boundaries)
    weights = prior.mean
    if builds:
        x = np.array([features(boundaries, np.array(build.mask, np.bool_)) for build in builds])
        y = np.array([(build.timed.ratio - 1) * prior.high_ms for build in builds])
        # Half an interval of 95 % is 1.96 standard deviations.
        own = np.array([(build.timed.high - build.timed.low) / 3.92 for build in builds])
        noise = (np.hypot(own, _OF_A_BUILD) * prior.high_ms) ** 2
        spread = (x * prior.spread**2).T + prior.together.T @ (prior.together @ x.T)
        weights = weights + spread @ np.linalg.solve(x @ spread + np.diag(noise), y - x @ weights)
    to_low, to_high = np.maximum(weights[count:], 0.0).reshape(2, len(boundaries)).tolist()
    priced = tuple(
        replace(one, to_low_ms=there, to_high_ms=back)
        for one, there, back in zip(boundaries, to_low, to_high, strict=True)
    )
    return Costs(prior.high_ms, weights[:count].copy(), priced, method, on, None, tuple(builds), prior)


def _median(values: Floats, counted: NDArray[np.bool_]) -> Floats:
    """[k] median of each column over the rows that count; NaN where none does."""
    columns = [values[counted[:, place], place] for place in range(values.shape[1])]
    return np.array([float(np.median(one)) if one.size else np.nan for one in columns])


def _summary(errors: Sequence[float]) -> tuple[float, float] | None:
    sizes = np.abs(errors)
    return (float(np.median(sizes)), float(sizes.max())) if sizes.size else None


def _elements(graph: Graph, tensor: str) -> float:
    shape = graph.shape(tensor)
    return 0.0 if shape is None else float(np.prod(shape, dtype=np.float64))
