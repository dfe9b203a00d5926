"""Repairs tried one after the other, each kept only where photos that it was not made from show it to help."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.engines.base import WEIGHTED, Engine
from edge_sdk.calibration.graph import Graph, sha256_of
from edge_sdk.calibration.repairs.base import Arrays, Given, Repair, repairs
from edge_sdk.calibration.repairs.moments import collect_moments
from edge_sdk.calibration.switchable import Switch, SwitchableModel
from edge_sdk.errors import UsageError

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]
Judge = Callable[[Arrays], NDArray[np.float64]]
"""Loss of each photo, the same photos each time, with these arrays in the low precision; smaller is better."""

_FORMAT = 1
_RESAMPLES = 2000
_INTERVAL = (2.5, 97.5)  # percent


@dataclass(frozen=True)
class Trial:
    """One repair that was tried.

    Args:
        name, words: Of the repair.
        kept: Whether it helps by more than chance would.
        before, after: Mean loss without and with it.
        low, high: 95 % interval of `before` less `after`, by a paired bootstrap over photos.
        photos: How many.
        tensors: That it changes.
    """

    name: str
    words: str
    kept: bool
    before: float
    after: float
    low: float
    high: float
    photos: int
    tensors: int

    @property
    def line(self) -> str:
        """The same for people."""
        if not self.tensors:
            return f"{self.name}: nothing to mend"
        return (
            f"{self.name} of {self.tensors} tensors: {'kept' if self.kept else 'left out'}, the loss goes from "
            f"{self.before:.4f} to {self.after:.4f} (better by {self.low:.4f} to {self.high:.4f}, {self.photos} photos)"
        )


@dataclass(frozen=True, eq=False)
class Mended:
    """Weights and biases for the low precision.

    Args:
        arrays: Every weight as the engine rounds it, repaired or not, and the corrected biases: what `Problem.weights`
            and `SwitchableModel` take.
        repaired: Names of those that a repair changed: what `prepared` must write.
        trials: Of each repair, in order.
    """

    arrays: Arrays
    repaired: frozenset[str]
    trials: tuple[Trial, ...]

    def to_bytes(self) -> bytes:
        """For the cache."""
        facts = {"format": _FORMAT, "repaired": sorted(self.repaired), "trials": [asdict(one) for one in self.trials]}
        facts["names"] = names = list(self.arrays)
        target = io.BytesIO()
        held: dict[str, Any] = {f"a{number}": self.arrays[name] for number, name in enumerate(names)}
        np.savez(target, facts=np.array(json.dumps(facts)), **held)
        return target.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Mended:
        """From `to_bytes`.

        Raises:
            UsageError: It is not that, or of another format.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as held:
                facts = json.loads(str(held["facts"]))
                if facts["format"] != _FORMAT:
                    raise UsageError(f"mended weights of format {facts['format']}, not {_FORMAT}")
                arrays = {name: held[f"a{number}"] for number, name in enumerate(facts["names"])}
                return cls(arrays, frozenset(facts["repaired"]), tuple(Trial(**one) for one in facts["trials"]))
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise UsageError("these are no mended weights") from error


def mend(given: Given, judge: Judge, *, only: Sequence[Repair] | None = None) -> Mended:
    """Tries each repair on what those before it left, and keeps it if the loss goes down by more than chance.

    Args:
        given: `given.arrays` are the engine's plain rounding, or what was mended before.
        judge: On photos that no moment was taken from.
        only: These repairs instead of all.
    """
    trials: list[Trial] = []
    repaired: frozenset[str] = frozenset()
    best = judge(given.arrays)
    for one in repairs() if only is None else only:
        changed = one.mend(given)
        if not changed:
            trials.append(Trial(one.name, one.words, False, float(best.mean()), float(best.mean()), 0, 0, len(best), 0))
            continue
        after = given.changed(changed)
        # What the engine stores is what counts, whatever the repair meant.
        after = after.changed(plain(Graph(with_arrays(given.graph.model, after.arrays)), given))
        losses = judge(after.arrays)
        low, high = interval(best - losses)
        kept = low > 0
        trials.append(
            Trial(
                one.name, one.words, kept, float(best.mean()), float(losses.mean()), low, high, len(best), len(changed)
            )
        )
        if kept:
            given, best, repaired = after, losses, repaired | frozenset(changed)
    return Mended(given.arrays, repaired, tuple(trials))


def mended_once(
    graph: Graph,
    engine: Engine,
    cpu: str,
    nodes: Set[str],
    ranges: Mapping[str, tuple[float, float]],
    photos: Callable[[], Sequence[Mapping[str, Array]]],
    judge: Judge,
    cache: Cache,
    digest: Mapping[str, Any],
) -> Mended:
    """`mend` from the start, unless the cache has what the same model, ranges and photos gave before.

    Args:
        graph: Of the prepared float model.
        engine, cpu: What will run it.
        nodes: Names of those that may run in the low precision.
        ranges: Low and high of each tensor that is quantized then.
        photos: Gives the inputs that moments are taken from; called only where something is to be done.
        judge: On other photos.
        cache: Where it is kept.
        digest: Plain values that stand for the photos, and for the judge and its photos.
    """
    key = cache.key(
        {
            "what": "mended weights",
            "format": _FORMAT,
            "model": sha256_of(graph.model),
            "engine": [engine.name, cpu],
            "nodes": sorted(nodes),
            "ranges": sorted((name, list(ends)) for name, ends in ranges.items()),
            "repairs": [one.name for one in repairs()],
            "digest": dict(digest),
        }
    )
    kept = cache.get_bytes(key)
    if kept is not None:
        try:
            return Mended.from_bytes(kept)
        except UsageError:
            cache.forget(key)
    weighted = [node.name for node in graph.nodes if node.name in nodes and node.op_type in WEIGHTED]
    known = collect_moments(graph, weighted, photos())
    given = Given(graph, engine, cpu, frozenset(nodes), dict(ranges), known, {})
    found = mend(given.changed(plain(graph, given)), judge)
    cache.put_bytes(key, found.to_bytes())
    return found


def weights_alone(
    graph: Graph,
    weights: Sequence[str],
    photos: Sequence[Mapping[str, Array]],
    losses: Callable[[Sequence[Mapping[str, Array]]], NDArray[np.float64]],
    *,
    workers: int = 1,
) -> Judge:
    """A judge that runs the float model with its weights alone in the low precision.

    With activations in it too, their noise would hide what weights make: of YOLOX-nano, plain rounding of all weights
    is 14 dB and a third of the damage that all activations make.

    Args:
        graph: Of the prepared float model.
        weights: Initializers, from `Engine.quantized`.
        photos: Inputs by name, that no moment was taken from.
        losses: Of a probe's outputs, one a photo; smaller is better: ``lambda found: judge(found).damages``.
        workers: Photos that are run at a time.
    """
    switch = Switch("weights", (), tuple(weights))

    def judge(arrays: Arrays) -> NDArray[np.float64]:
        with SwitchableModel(graph.model, [switch], {}, weights=arrays, sections=1, workers=workers) as model:
            model.load(photos)
            return losses(model.probe(model.on))

    return judge


def plain(graph: Graph, given: Given) -> Arrays:
    """The weights of a graph as the engine rounds them by itself."""
    return given.engine.rounded(graph, given.nodes, given.ranges, cpu=given.cpu)


def prepared(graph: Graph, nodes: Set[str], arrays: Arrays) -> onnx.ModelProto:
    """The model of a plan: mended weights and biases where the low precision is chosen, the float ones elsewhere.

    Args:
        graph: Of the float model; not changed.
        nodes: Names of those that run in the low precision.
        arrays: The repaired ones, by initializer. One that a node in float reads too is left as it is.
    """
    wanted = {
        name
        for node in graph.nodes
        if node.op_type in WEIGHTED
        for name in node.input[1:]
        if name in arrays and all(reader.name in nodes for reader in graph.consumers(name))
    }
    return with_arrays(graph.model, {name: array for name, array in arrays.items() if name in wanted})


def with_arrays(model: onnx.ModelProto, arrays: Arrays) -> onnx.ModelProto:
    """A copy of a model with other values of some initializers."""
    from onnx import numpy_helper

    made = type(model)()
    made.CopyFrom(model)
    for initializer in made.graph.initializer:
        if initializer.name in arrays:
            initializer.CopyFrom(
                numpy_helper.from_array(np.ascontiguousarray(arrays[initializer.name]), initializer.name)
            )
    return made


def interval(gains: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the mean."""
    picks = np.random.default_rng(0).integers(0, len(gains), (_RESAMPLES, len(gains)))
    low, high = np.percentile(gains[picks].mean(axis=1), _INTERVAL)
    return float(low), float(high)
