"""What a worker does for a probe: it holds the job's model open and answers for one mask at a time."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Array
from edge_sdk.calibration.score import Judge, noise_to_signal
from edge_sdk.calibration.switchable import Mask, Switch, SwitchableModel
from edge_sdk.detections import Detections
from edge_sdk.detector import Detector, Prepared
from edge_sdk.errors import MissingDependencyError, ModelError, extra_hint, one_line
from edge_sdk.models.preprocess import Geometry


class Reader(Detector):
    """A detector that only decodes: it has no engine and no file, and so can be sent to another process.

    Args:
        detector: Whose card, head, classes and suppression it takes; that one is not touched.
    """

    def __init__(self, detector: Detector) -> None:
        for name in ("path", "head", "card", "iou", "backend"):
            setattr(self, name, getattr(detector, name))
        self.confidence = detector.confidence
        self.classes = copy.copy(detector.classes)
        self.session = cast("Any", _NoSession(detector.session.outputs))
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, lock=threading.Lock())


class _NoSession:
    """What messages about outputs ask of a session."""

    def __init__(self, outputs: Any) -> None:
        self.outputs = outputs
        self.active = "none"

    def close(self) -> None:
        """There is nothing to free."""


@dataclass(frozen=True, eq=False)
class Job:
    """All that a worker needs to answer for any mask, on whichever machine it is.

    Args:
        digest: Of everything below.
        model: The prepared model's file.
        switches, ranges, weights: As `SwitchableModel` takes them.
        feeds: Of each probe photo.
        reader: Decodes the outputs; None where nothing can, and the outputs alone are compared.
        geometries: Of the photos; as many as feeds where there is a reader.
        keep_mib: Of sections' outputs that a worker keeps.
    """

    digest: str
    model: bytes
    switches: tuple[Switch, ...]
    ranges: Mapping[str, tuple[float, float]]
    weights: Mapping[str, NDArray[np.float32]]
    feeds: tuple[Mapping[str, Array], ...]
    reader: Reader | None
    geometries: tuple[Geometry, ...]
    keep_mib: int = 512


class Answer(NamedTuple):
    """Of one mask.

    Args:
        damage: Mean over photos, against the float model's detections; 0 without a reader.
        noise: Mean over photos of the outputs' noise to signal.
        blind: The float model's detections are too few to judge by, or there is no reader.
        found: The detections themselves, where they were asked for.
    """

    damage: float
    noise: float
    blind: bool
    found: list[Detections] | None


class Bench:
    """A job's model, open in this thread."""

    def __init__(self, job: Job) -> None:
        self.digest = job.digest
        self._model = SwitchableModel(
            _parsed(job.model), job.switches, job.ranges, weights=job.weights, keep_mib=job.keep_mib
        )
        self._model.load(job.feeds)
        self._base = self._model.off
        # The prepared model in float is what a mask is held against, not the file as it was given: between the two
        # lies only the rounding of float32.
        self._outputs = [dict(one) for one in self._model.keep(self._model.off)]
        self._judge: Judge | None = None
        if job.reader is not None:
            prepared = [Prepared({}, cast("Any", None), one) for one in job.geometries]
            self._judge = Judge(job.reader, prepared, self._outputs)
            self._blind = self._judge.blind

    def answer(self, mask: Mask, base: Mask, *, detections: bool) -> Answer:
        """Probes one mask; `base` is one that those to come are like."""
        if not np.array_equal(base, self._base):
            self._model.forget()
            self._model.keep(self._model.off)
            if base.any():
                self._model.keep(base)
            self._base = base.copy()
        outputs = self._model.probe(mask)
        noise = float(noise_to_signal(self._outputs, outputs).mean())
        if self._judge is None:
            return Answer(0.0, noise, True, None)
        damage = self._judge(outputs).damage
        return Answer(damage, noise, self._blind, self._judge.read(outputs) if detections else None)

    def close(self) -> None:
        """Frees the model."""
        self._model.close()


# One a thread: a model is used by one thread at a time, and the caller's executor may be of threads. Only the newest
# job's is held, for an executor that outlives many jobs.
_HELD = threading.local()


def work(digest: str, mask: bytes, base: bytes, detections: bool, job: Job | None = None) -> Answer | None:
    """Answers for one mask.

    A worker holds the last job that it was given, so that it travels once to each and not with every mask.

    Args:
        digest: Of the job.
        mask: bool [n], as bytes.
        base: Likewise: sections that a mask has in common with it are computed once.
        detections: Whether they are wanted.
        job: Where the caller has been told that this worker lacks it.

    Returns:
        None where the worker does not hold the job: ask again, and send it along.
    """
    bench: Bench | None = getattr(_HELD, "bench", None)
    if bench is None or bench.digest != digest:
        if job is None:
            return None
        if bench is not None:
            bench.close()
        _HELD.bench = bench = Bench(job)
    return bench.answer(np.frombuffer(mask, np.bool_), np.frombuffer(base, np.bool_), detections=detections)


def _parsed(data: bytes) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError(f"{one_line(error)}: {extra_hint('calibrate')}") from error
    try:
        return onnx.ModelProto.FromString(data)
    except Exception as error:
        raise ModelError(f"a probe's model cannot be read: {one_line(error)}") from error


def packed(found: Sequence[Detections]) -> dict[str, Array]:
    """Detections as plain arrays, for a file; `unpacked` reverses it."""
    return {
        "counts": np.array([len(one) for one in found], np.int64),
        "xyxy": np.concatenate([one.xyxy for one in found]),
        "confidence": np.concatenate([one.confidence for one in found]),
        "class_id": np.concatenate([one.class_id for one in found]),
    }


def unpacked(arrays: Mapping[str, Array]) -> list[Detections]:
    """What `packed` took."""
    ends = np.cumsum(arrays["counts"])[:-1]
    parts = [np.split(arrays[name], ends) for name in ("xyxy", "confidence", "class_id")]
    return [Detections(xyxy, confidence, class_id) for xyxy, confidence, class_id in zip(*parts, strict=True)]
