"""Which range method serves which kind of tensor, judged by the detections and not by each tensor's own error.

The method of least squared error cuts off what is rare. In the body of a network that is right, as later layers average
over what was cut; in the last layers the rare large values are the detections. So for each kind of tensor a few methods
are tried for all tensors of the kind at once, and one is kept where photos that no range was taken from show it to
help. Single tensors are not tuned: that was measured to fit the photos and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.engines.base import WEIGHTED, Engine
from edge_sdk.calibration.engines.onnxruntime_rules import gate_of
from edge_sdk.calibration.graph import Graph, reads
from edge_sdk.calibration.groups import Group
from edge_sdk.calibration.ranges import BEHIND, Ranges
from edge_sdk.calibration.repairs.mended import interval
from edge_sdk.calibration.switchable import Mask, Switch, SwitchableModel

Array = NDArray[Any]
Losses = Callable[[Sequence[Mapping[str, Array]]], NDArray[np.float64]]

KINDS: Mapping[str, tuple[str, ...]] = {
    "outputs of the last layers": ("minmax", "p99.999"),
    "all others": ("p99.99", "p99.999", "minmax"),
    "outputs of activations": ("p99.99", "p99.999"),
    "inputs of activations": ("mse",),
}
"""Kinds of tensors in the order in which they are tuned, and the methods that are tried for each."""

# Shares of the groups, from the front of the network, that stay in float in the masks that are judged: the worst
# tensors lie there as a rule, and with them in, all others' differences are lost.
_SHARES = (0.12, 0.3)


@dataclass(frozen=True)
class Tried:
    """One method for one kind of tensor.

    Args:
        kind, method: What was tried.
        kept: Whether it helps by more than chance would.
        before, after: Mean loss without and with it.
        tensors: Of the kind.
    """

    kind: str
    method: str
    kept: bool
    before: float
    after: float
    tensors: int

    @property
    def line(self) -> str:
        """The same for people."""
        kept = "kept" if self.kept else "left out"
        return (
            f"{self.method} for the {self.tensors} {self.kind}: {kept}, damage {self.after:.4f} after {self.before:.4f}"
        )


def kinds_of(graph: Graph, tensors: Sequence[str]) -> dict[str, str]:
    """The kind of each tensor."""
    last = _last(graph)
    gates = [(node, gate) for node in graph.nodes if (gate := gate_of(graph, node)) is not None]
    before = {gate.input[0] for _, gate in gates}
    after = {node.output[0] for node, _ in gates}
    found = {}
    for name in tensors:
        if name in last:
            found[name] = "outputs of the last layers"
        elif name in before:
            found[name] = "inputs of activations"
        elif name in after:
            found[name] = "outputs of activations"
        else:
            found[name] = "all others"
    return found


def tuned(
    graph: Graph, engine: Engine, groups: Sequence[Group], ranges: Ranges, feeds: Sequence[Mapping[str, Array]],
    losses: Losses, *, workers: int = 1, progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Ranges, tuple[Tried, ...]]:  # fmt: skip
    """Ranges with the methods that help, kind by kind.

    Args:
        graph: Of the prepared float model.
        engine: That will run it.
        groups: Those that have the choice, in the order of the computation.
        ranges: By each tensor's own error, with the tables of all methods.
        feeds: The model's inputs, of photos that no range was taken from.
        losses: Of a probe's outputs, one a photo; smaller is better.
        workers: Photos that are run at a time.
        progress: Told how many methods were tried, of how many.
    """
    switches = [Switch(group.name, engine.quantized(graph, frozenset(group.nodes))[0]) for group in groups]
    masks = [_but_first(engine, graph, groups, share) for share in _SHARES]
    kinds = kinds_of(graph, list(ranges))
    total, done = 1 + sum(map(len, KINDS.values())), 0
    tried: list[Tried] = []
    with SwitchableModel(graph.model, switches, ranges.limits(), sections=1, workers=workers) as model:
        model.load(feeds)

        def judged(candidate: Ranges) -> NDArray[np.float64]:
            nonlocal done
            found = np.mean([losses(model.probe(mask, candidate.limits())) for mask in masks], axis=0)
            done += 1
            progress(done, total)
            return np.asarray(found, np.float64)

        best = judged(ranges)
        for kind, methods in KINDS.items():
            mine = [name for name in ranges if kinds[name] == kind]
            for method in methods if mine else ():
                candidate = _with(ranges, mine, method)
                if candidate.limits() == ranges.limits():
                    continue
                after = judged(candidate)
                kept = interval(best - after)[0] > 0
                tried.append(Tried(kind, method, kept, float(best.mean()), float(after.mean()), len(mine)))
                if kept:
                    ranges, best = candidate, after
    return ranges, tuple(tried)


def tuned_once(
    graph: Graph, engine: Engine, groups: Sequence[Group], ranges: Ranges,
    feeds: Callable[[], tuple[Sequence[Mapping[str, Array]], Losses]], cache: Cache, digest: Mapping[str, Any], *,
    workers: int = 1, progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Ranges, tuple[Tried, ...]]:  # fmt: skip
    """`tuned`, unless the cache has what the same model, ranges and photos gave before.

    Args:
        graph, engine, groups, ranges, workers, progress: As for `tuned`.
        feeds: Gives the photos' inputs and the losses; called only where something is to be done.
        cache: Where the choice is kept.
        digest: Plain values that stand for the model, the photos and how they are judged.
    """
    limits = sorted((name, list(ends)) for name, ends in ranges.limits().items())
    key = Cache.key({"what": "range policies 1", "engine": engine.name, "ranges": limits, "digest": dict(digest)})

    def make() -> list[list[Any]]:
        photos, losses = feeds()
        _, tried = tuned(graph, engine, groups, ranges, photos, losses, workers=workers, progress=progress)
        return [[one.kind, one.method, one.kept, one.before, one.after, one.tensors] for one in tried]

    tried = tuple(Tried(*row) for row in cache.get_or(key, make))
    kinds = kinds_of(graph, list(ranges))
    for one in tried:
        if one.kept:
            ranges = _with(ranges, [name for name in ranges if kinds[name] == one.kind], one.method)
    return ranges, tried


def _with(ranges: Ranges, tensors: Sequence[str], method: str) -> Ranges:
    """The same with a method for some tensors, where it applies to them; by raw error, `mse` is the best of all."""
    changed = dict(ranges.by_tensor)
    for name in tensors:
        one = changed[name]
        if method in one.table and (method != "mse" or BEHIND in one.table):
            changed[name] = replace(one, method=method, **vars(one.table[method]))
    return replace(ranges, by_tensor=changed)


def _but_first(engine: Engine, graph: Graph, groups: Sequence[Group], share: float) -> Mask:
    low = {group.name for group in groups[round(share * len(groups)) :]}
    settled = engine.settled(graph, groups, low)
    return np.array([group.name in settled for group in groups], np.bool_)


def _last(graph: Graph) -> set[str]:
    """Tensors from which an output is reached without passing weights."""
    found: set[str] = set()
    waiting = list(graph.outputs)
    while waiting:
        tensor = waiting.pop()
        if tensor in found:
            continue
        found.add(tensor)
        maker = graph.producer(tensor)
        if maker is not None and maker.op_type not in WEIGHTED:
            waiting += [name for name in reads(maker) if name and not graph.is_constant(name)]
    return found
