"""From a model file and photos to the problem that is solved: canonical, rewritten, grouped, with ranges."""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from edge_sdk import __version__
from edge_sdk.backends.base import Array
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.canonical import canonical
from edge_sdk.calibration.dataset import CalibrationSet, Sample
from edge_sdk.calibration.engines.base import Engine, engines
from edge_sdk.calibration.export import with_card
from edge_sdk.calibration.graph import Graph, sha256_of
from edge_sdk.calibration.groups import Group, make_groups
from edge_sdk.calibration.observe import collect_once
from edge_sdk.calibration.policies import Losses, tuned_once
from edge_sdk.calibration.ranges import Ranges, choose
from edge_sdk.calibration.repairs import Arrays, Mended, mended_once, weights_alone
from edge_sdk.calibration.request import Request
from edge_sdk.calibration.rewrites import rewrite
from edge_sdk.calibration.score import Judge, noise_to_signal
from edge_sdk.calibration.switchable import SwitchableModel
from edge_sdk.calibration.through import activations
from edge_sdk.detector import Detector
from edge_sdk.errors import ModelError, UsageError
from edge_sdk.targets import Target

PROBE_PHOTOS = 12
"""Search photos that probes are judged on; and as many of the calibration photos are what repairs are made from."""

SCHEMES = {"x86": "uint8", "x86-vnni": "uint8", "arm": "int8"}
"""How activations are stored, by what ONNX Runtime's engine runs on."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A float model as its engine likes it.

    Args:
        graph: Of the model; nobody changes it.
        sha256: Of its bytes, in hexadecimal.
        groups: What switches together on the engine.
        notes: What was done, one line each.
        feeds: Inputs of a photo, for runs that need one.
    """

    graph: Graph
    sha256: str
    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    feeds: Mapping[str, Array]


def engine_for(target: Target) -> Engine:
    """The engine that plans for a board are made for: the first of its backends that plans can be lowered to.

    Raises:
        UsageError: There is none yet; the message says what the board runs.
    """
    for backend in target.backends:
        if backend in engines():
            return engines()[backend]
    raise UsageError(
        f"no plan can be made for {target.name}: it runs {' and '.join(target.backends)}, "
        f"and plans are lowered to {', '.join(sorted(engines()))} so far"
    )


def prepare(detector: Detector, photos: CalibrationSet, engine: Engine) -> Prepared:
    """Brings a model into its best float form.

    Args:
        detector: Of the file as it was given.
        photos: A few are run, to check that the meaning stays.
        engine: That will run it.

    Raises:
        ModelError: As `canonical` raises it, or nothing in it can be quantized.
    """
    first = list(islice(photos.feeds(photos.calibration), 2))
    shapes = {name: array.shape for name, array in first[0].items()}
    plain = canonical(detector.path, shapes=shapes, feeds=first)
    best = rewrite(plain, engine=engine.name, feeds=first)
    # With the card in it, the prepared model and all that is made from it are read as the given file is, which may
    # have it beside it.
    model = type(best.model)()
    model.CopyFrom(best.model)
    graph = Graph(with_card(model, asdict(detector.card)))
    groups = make_groups(graph, engine.rules)
    if not any(len(group.precisions) > 1 for group in groups):
        reasons = Counter(group.reason for group in groups if group.reason is not None)
        most = f" (most often: {reasons.most_common(1)[0][0]})" if reasons else ""
        raise ModelError(f"{detector.path.name}: nothing in this model can be quantized for {engine.name}{most}")
    notes = [*plain.notes]
    notes += [one.words for one in best.applied]
    notes += best.refused
    stuck = Counter(group.reason for group in groups if len(group.precisions) < 2 and group.reason is not None)
    notes += [f"{count} groups stay in {engine.rules.precisions[-1]}: {why}" for why, count in stuck.most_common()]
    return Prepared(graph, sha256_of(model), groups, tuple(notes), first[0])


def find_ranges(
    prepared: Prepared, engine: Engine, photos: CalibrationSet, cache: Cache, request: Request, scheme: str,
    tell: Callable[[int, int], None],
) -> tuple[Ranges, Prepared]:  # fmt: skip
    """The range of each tensor that may be quantized, from one pass over the calibration photos.

    Groups with a tensor that has no range lose their choice.

    Args:
        scheme: How the engine stores activations.
        tell: Told how many photos are done, of how many.
    """
    free = [group for group in prepared.groups if len(group.precisions) > 1]
    tensors = ranged(prepared.graph, engine, free)
    total = len(photos.calibration)
    statistics = collect_once(
        prepared.graph.model,
        photos.feeds(photos.calibration),
        cache,
        photos.digest_of(photos.calibration),
        names=[one.path.name for one in photos.calibration],
        progress=lambda done: tell(done, total),
    )
    known = [name for name in tensors if name in statistics.tensors]
    ranges = choose(statistics, scheme, custom=request.range_method, tensors=known, through=activations(prepared.graph))
    lacking = {name: "its values do not depend on the photo" for name in tensors if name not in statistics.tensors}
    lacking |= ranges.without
    if not lacking:
        return ranges, prepared
    groups, notes = [], list(prepared.notes)
    for group in prepared.groups:
        mine, _ = engine.quantized(prepared.graph, frozenset(group.nodes))
        bad = next((name for name in mine if name in lacking), None)
        if bad is not None and len(group.precisions) > 1:
            reason = f"{bad!r} has no range: {lacking[bad]}"
            groups.append(Group(group.name, group.nodes, group.precisions[-1:], reason))
            notes.append(f"group {group.name!r} stays in {group.precisions[-1]}: {reason}")
        else:
            groups.append(group)
    if not any(len(group.precisions) > 1 for group in groups):
        raise ModelError(f"no group can be quantized: {next(iter(lacking.values()))}")
    return ranges, Prepared(prepared.graph, prepared.sha256, tuple(groups), tuple(notes), prepared.feeds)


def tuned_ranges(
    prepared: Prepared, engine: Engine, ranges: Ranges, detector: Detector, photos: CalibrationSet, cache: Cache, *,
    workers: int, progress: Callable[[int, int], None],
) -> tuple[Ranges, tuple[str, ...]]:  # fmt: skip
    """Ranges by the methods that help detections, and a line for each that was tried."""
    judged = photos.search[:PROBE_PHOTOS]

    def feeds() -> tuple[list[dict[str, Array]], Losses]:
        return list(photos.feeds(judged)), judge_of(prepared, detector, photos, judged)

    found, tried = tuned_once(
        prepared.graph, engine, [group for group in prepared.groups if len(group.precisions) > 1], ranges, feeds, cache,
        {"model": prepared.sha256, "judged": photos.digest_of(judged)}, workers=workers, progress=progress,
    )  # fmt: skip
    return found, tuple(one.line for one in tried)


def mended_weights(
    prepared: Prepared, engine: Engine, cpu: str, limits: Mapping[str, tuple[float, float]], detector: Detector,
    photos: CalibrationSet, cache: Cache,
) -> Mended:  # fmt: skip
    """Weights as the engine rounds them, with the repairs that help photos which they were not made from."""
    nodes = frozenset(node for group in prepared.groups if len(group.precisions) > 1 for node in group.nodes)
    _, weights = engine.quantized(prepared.graph, nodes)
    learned, judged = photos.calibration[:PROBE_PHOTOS], photos.search[:PROBE_PHOTOS]

    @lru_cache(maxsize=1)
    def judge() -> Callable[[Arrays], NDArray[np.float64]]:
        losses = judge_of(prepared, detector, photos, judged)
        return weights_alone(prepared.graph, weights, list(photos.feeds(judged)), losses)

    return mended_once(
        prepared.graph, engine, cpu, nodes, limits, lambda: list(photos.feeds(learned)),
        lambda arrays: judge()(arrays), cache,  # noqa: PLW0108  made only where it is asked
        {"learned": photos.digest_of(learned), "judged": photos.digest_of(judged)},
    )  # fmt: skip


def judge_of(prepared: Prepared, detector: Detector, photos: CalibrationSet, samples: Sequence[Sample]) -> Losses:
    """What tells the damage of each photo from a probe's outputs; the noise in them where the float model finds
    nothing."""
    feeds = list(photos.feeds(samples))
    with SwitchableModel(prepared.graph.model, (), {}, sections=1) as model:
        model.load(feeds)
        outputs = model.probe(model.off)
    places = [detector.prepare(photos.picture(one), detector.new_prepared()) for one in samples]
    teacher = Judge(detector, places, outputs)
    if teacher.blind:
        return lambda found: noise_to_signal(outputs, found)
    return lambda found: teacher(found).damages


def ranged(graph: Graph, engine: Engine, groups: Sequence[Group]) -> tuple[str, ...]:
    """Tensors that some mask of these groups quantizes: what one group alone does, another beside it may spare."""
    found = [engine.quantized(graph, frozenset(group.nodes))[0] for group in groups]
    return tuple(dict.fromkeys(name for names in found for name in names))


def provenance_of(detector: Detector, photos: CalibrationSet, engine: Engine, request: Request) -> dict[str, str]:
    """Hashes and versions of what a plan is made from; no clock times, so that a run can be repeated."""
    import numpy
    import onnx
    import onnxruntime
    import scipy

    return {
        "edge_sdk": __version__,
        "model": detector.path.name,
        "model_sha256": hashlib.sha256(detector.path.read_bytes()).hexdigest(),
        "photos_digest": photos.digest,
        "engine": engine.name,
        "seed": str(request.seed),
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "machine": platform.machine(),
    }
